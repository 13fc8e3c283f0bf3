"""The tables of the logbook, and how an older one becomes the newest.

Conventions
-----------
* Times are seconds since 1970-01-01 in UTC. ``..._at`` is a moment, ``seconds`` a length.
* ``at`` is when something happened, by the clock of the recording; ``written_at`` is when it was written, by the
  clock of this computer. So what is heard again after a kill is equal to what would have been heard, but for
  ``written_at``.
* Text that holds JSON is called ``content``, or by what it holds, and is never searched.
* One who writes has the database for a moment, alone (``database.Database.writing``). So numbers of ``journal`` and
  ``windows`` follow each other in the order in which they can be seen: whoever has read up to a number has missed
  nothing.
"""

from __future__ import annotations

import sqlalchemy as sql

VERSION = 1  # of the tables

metadata = sql.MetaData()
Key = sql.BigInteger().with_variant(sql.Integer(), "sqlite")  # SQLite numbers rows of INTEGER keys only

logbook = sql.Table(
    "logbook",
    metadata,
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("made_at", sql.Double, nullable=False),
    sql.Column("nearfar", sql.Text, nullable=False),
)

machines = sql.Table(
    "machines",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("name", sql.Text, nullable=False, unique=True),
    sql.Column("detector", sql.Text, nullable=False),  # its folder
    sql.Column("detector_digest", sql.Text, nullable=False),
    sql.Column("system", sql.Text, nullable=False),
    sql.Column("window_s", sql.Double, nullable=False),
    sql.Column("hop_s", sql.Double, nullable=False),
    sql.Column("threshold", sql.Double),
    sql.Column("false_alerts", sql.Text, nullable=False),  # such as "1 per 30 days"
    sql.Column("mode", sql.Text, nullable=False),  # one of MODES
    sql.Column("mode_since_at", sql.Double, nullable=False),
    sql.Column("heard_until_at", sql.Double),  # the end of the last window
    sql.Column("score", sql.Double),  # of the last window that had one
    sql.Column("decision", sql.Text),  # of the last window
    sql.Column("evidence", sql.Double),  # of the rule for alerts, 0 to 1
    sql.Column("running", sql.Boolean),  # whether the machine seems to run
    sql.Column("steps", sql.Text),  # JSON: what events and rules know, to go on
    sql.Column("written_at", sql.Double, nullable=False),
)
MODES = ("listening", "paused", "no sound", "stopped", "removed")

recordings = sql.Table(
    "recordings",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("key", sql.Text, nullable=False),  # the same recording has the same key, another one another
    sql.Column("name", sql.Text, nullable=False),
    sql.Column("path", sql.Text),  # of a file that can be read again
    sql.Column("began_at", sql.Double, nullable=False),
    sql.Column("seconds", sql.Double),  # NULL while it goes on
    sql.Column("rate", sql.Integer),
    sql.Column("channels", sql.Integer),
    sql.Column("next_window", sql.Integer, nullable=False),
    sql.Column("finished", sql.Boolean, nullable=False),
    sql.Column("error", sql.Text, nullable=False),
    sql.Column("written_at", sql.Double, nullable=False),
    sql.UniqueConstraint("machine_id", "key"),
)

windows = sql.Table(
    "windows",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("recording_id", Key, sql.ForeignKey("recordings.id"), nullable=False),
    sql.Column("number", sql.Integer, nullable=False),  # of the window in the recording, from 0
    sql.Column("begins_at", sql.Double, nullable=False),
    sql.Column("seconds", sql.Double, nullable=False),
    sql.Column("score", sql.Double),
    sql.Column("p_value", sql.Double),
    sql.Column("decision", sql.Text, nullable=False),  # as of Verdict; "paused" in a pause
    sql.Column("evidence", sql.Double),
    sql.Column("near_db", sql.Double),
    sql.Column("far_db", sql.Double),
    sql.Column("told", sql.Text, nullable=False),  # faults and errors, in words
    sql.UniqueConstraint("recording_id", "number"),
    sql.Index("windows_by_time", "machine_id", "begins_at"),
)

summaries = sql.Table(  # what windows become after some days
    "summaries",
    metadata,
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), primary_key=True),
    sql.Column("begins_at", sql.Double, primary_key=True),
    sql.Column("seconds", sql.Double, nullable=False),
    sql.Column("windows", sql.Integer, nullable=False),
    sql.Column("scored", sql.Integer, nullable=False),  # how many of them have a score
    sql.Column("anomalous", sql.Integer, nullable=False),
    sql.Column("unusable", sql.Integer, nullable=False),
    sql.Column("lowest", sql.Double),
    sql.Column("mean", sql.Double),
    sql.Column("highest", sql.Double),
)

events = sql.Table(
    "events",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("recording_id", Key, sql.ForeignKey("recordings.id"), nullable=False),
    sql.Column("begins_at", sql.Double, nullable=False),
    sql.Column("ends_at", sql.Double, nullable=False),
    sql.Column("peak_begins_at", sql.Double, nullable=False),
    sql.Column("peak_ends_at", sql.Double, nullable=False),
    sql.Column("peak_score", sql.Double, nullable=False),
    sql.Column("p_value", sql.Double),
    sql.Column("windows", sql.Integer, nullable=False),
    sql.Column("anomalous", sql.Integer, nullable=False),
    sql.Column("unusable", sql.Integer, nullable=False),
    sql.Column("content", sql.Text, nullable=False),  # JSON of listening.events.event_to
    sql.Column("sound", sql.Text),  # name of a file in the folder of sounds
    sql.UniqueConstraint("recording_id", "begins_at"),
    sql.Index("events_by_time", "machine_id", "begins_at"),
)

alerts = sql.Table(  # each time a condition became active
    "alerts",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("condition", sql.Text, nullable=False),  # one of life_cycle.CONDITIONS
    sql.Column("severity", sql.Integer, nullable=False),  # 1 to 1000, OPC UA Part 5
    sql.Column("message", sql.Text, nullable=False),
    sql.Column("since_at", sql.Double, nullable=False),  # the likely beginning of what is wrong
    sql.Column("began_at", sql.Double, nullable=False),  # when it became active
    sql.Column("ended_at", sql.Double),  # when it was cleared
    sql.Column("active", sql.Boolean, nullable=False),
    sql.Column("acked", sql.Boolean, nullable=False),
    sql.Column("retained", sql.Boolean, nullable=False),  # active, or not acknowledged: of interest
    sql.Column("score", sql.Double),
    sql.Column("sound", sql.Text),  # name of a file in the folder of sounds
    sql.Column("evidence", sql.Text),  # JSON of Explanation.content; NULL until it is made
    sql.Column("evidence_error", sql.Text, nullable=False),
    sql.Index("alerts_by_time", "machine_id", "began_at"),
    sql.Index(
        "one_active_alert",
        "machine_id",
        "condition",
        unique=True,
        sqlite_where=sql.text("active"),
        postgresql_where=sql.text("active"),
    ),
)

conditions = sql.Table(  # what people and sensors say of a condition, whether it is active or not
    "conditions",
    metadata,
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), primary_key=True),
    sql.Column("condition", sql.Text, primary_key=True),
    sql.Column("shelving", sql.Text, nullable=False),  # "unshelved", "timed", "one shot"
    sql.Column("shelved_until_at", sql.Double),
    sql.Column("suppressed", sql.Boolean, nullable=False),
    sql.Column("out_of_service", sql.Boolean, nullable=False),
)

journal = (
    sql.Table(  # everything that is told: what happened to machines, events and alerts, who did it and when
        "journal",
        metadata,
        sql.Column("id", Key, primary_key=True),
        sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
        sql.Column("alert_id", Key, sql.ForeignKey("alerts.id")),
        sql.Column("event_id", Key, sql.ForeignKey("events.id")),
        sql.Column("condition", sql.Text),
        sql.Column("what", sql.Text, nullable=False),  # one of life_cycle.WHAT
        sql.Column("at", sql.Double, nullable=False),
        sql.Column("written_at", sql.Double, nullable=False),
        sql.Column("by", sql.Text, nullable=False),  # "" if nobody did it
        sql.Column("comment", sql.Text, nullable=False),
        sql.Column(
            "annunciated", sql.Boolean, nullable=False
        ),  # False: shelved, suppressed, or out of service
        sql.Column("content", sql.Text, nullable=False),  # JSON
        sql.Index("journal_of_alerts", "alert_id"),
        sql.Index("journal_of_machines", "machine_id", "at"),
    )
)

cursors = sql.Table(  # how far each sink is: the journal is the queue
    "cursors",
    metadata,
    sql.Column("sink", sql.Text, primary_key=True),
    sql.Column("stream", sql.Text, primary_key=True),  # "journal" or "windows"
    sql.Column("delivered", Key, nullable=False),  # the last id that was delivered, refused, or dropped
    sql.Column("dropped", sql.Integer, nullable=False),
    sql.Column("refused", sql.Integer, nullable=False),
    sql.Column("failing_since_at", sql.Double),
    sql.Column("attempts", sql.Integer, nullable=False),  # in vain, since the last success
    sql.Column("error", sql.Text, nullable=False),
)

normals = sql.Table(  # "this was normal": recordings for learn
    "normals",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("event_id", Key, sql.ForeignKey("events.id")),
    sql.Column("alert_id", Key, sql.ForeignKey("alerts.id")),
    sql.Column("sound", sql.Text, nullable=False),
    sql.Column("at", sql.Double, nullable=False),
    sql.Column("by", sql.Text, nullable=False),
    sql.Column("learnt_at", sql.Double),
)

tokens = sql.Table(
    "tokens",
    metadata,
    sql.Column("name", sql.Text, primary_key=True),
    sql.Column("digest", sql.Text, nullable=False),  # SHA-256 of the token, which is random and long
    sql.Column("role", sql.Text, nullable=False),  # "operator" or "reader"
    sql.Column("made_at", sql.Double, nullable=False),
)
