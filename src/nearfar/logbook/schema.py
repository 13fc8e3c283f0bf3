"""The tables of the logbook, and how an older one becomes the newest.

Conventions
-----------
* Times are seconds since 1970-01-01 in UTC. ``..._at`` is a moment, ``seconds`` a length.
* ``at`` is when something happened, by the clock of the recording; ``written_at`` is when it was written, by the
  clock of this computer. So what is heard again after a kill is equal to what would have been heard, but for
  ``written_at``.
* A number that is not known is NULL. NaN and infinity become NULL on their way in (``Number``).
* Text is what every database can hold: a byte of a file's name that is not UTF-8, and the character 0, are escaped
  on their way in (``Words``).
* Text that holds JSON is called ``content``, or by what it holds, and is never searched.
* One who writes has the database for a moment, alone (``database.Database.writing``). So numbers of ``journal`` and
  ``windows`` follow each other in the order in which they can be seen: whoever has read up to a number has missed
  nothing.
* No number is given twice, also if its row was removed (AUTOINCREMENT of SQLite): sinks and pages go by numbers.

Versions
--------
Whoever changes a table raises ``VERSION``, and adds to ``MIGRATIONS`` the function that brings an older logbook
there. ``tests/golden/logbook_VERSION.sql`` holds the tables of each version, and a test compares.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import sqlalchemy as sql

from nearfar.files.names import encodable

VERSION = 1  # of the tables
MIGRATIONS: tuple[Callable[[sql.Connection], None], ...] = ()  # the first one leads from version 1 to 2

MARK = "logbook"  # the table that says what this is

metadata = sql.MetaData()
Key = sql.BigInteger().with_variant(sql.Integer(), "sqlite")  # SQLite numbers rows of INTEGER keys only


class LogbookError(ValueError):
    """What is there is no logbook, or one that this version cannot use; the message says what to do."""


class Number(sql.TypeDecorator[float]):
    """A number in double precision; NaN and infinity are not known: NULL."""

    impl = sql.Double
    cache_ok = True  #: as SQLAlchemy asks: statements with this type may be kept

    def process_bind_param(self, value: float | None, dialect: sql.Dialect) -> float | None:  # noqa: ARG002
        """What is stored."""
        return None if value is None or not math.isfinite(value) else float(value)


class Words(sql.TypeDecorator[str]):
    """Text that SQLite and PostgreSQL can hold: what is no Unicode, and the character 0, are escaped."""

    impl = sql.Text
    cache_ok = True  #: as SQLAlchemy asks: statements with this type may be kept

    def process_bind_param(self, value: str | None, dialect: sql.Dialect) -> str | None:  # noqa: ARG002
        """What is stored."""
        return None if value is None else encodable(value).replace("\0", "\\x00")


logbook = sql.Table(
    MARK,
    metadata,
    sql.Column("version", sql.Integer, nullable=False),
    sql.Column("made_at", Number, nullable=False),
    sql.Column("nearfar", Words, nullable=False),
)

machines = sql.Table(
    "machines",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("name", Words, nullable=False, unique=True),
    sql.Column("detector", Words, nullable=False),  # its folder
    sql.Column("detector_digest", Words, nullable=False),
    sql.Column("system", Words, nullable=False),
    sql.Column("window_s", Number, nullable=False),
    sql.Column("hop_s", Number, nullable=False),
    sql.Column("threshold", Number),
    sql.Column("false_alerts", Words, nullable=False),  # such as "1 per 30 days"
    sql.Column("mode", Words, nullable=False),  # one of MODES
    sql.Column("mode_since_at", Number, nullable=False),
    sql.Column("heard_until_at", Number),  # the end of the last window
    sql.Column("score", Number),  # of the last window that had one
    sql.Column("decision", Words),  # of the last window
    sql.Column("evidence", Number),  # of the rule for alerts, 0 to 1
    sql.Column("running", sql.Boolean),  # whether the machine seems to run
    sql.Column("steps", Words),  # JSON: what events and rules know, to go on
    sql.Column("written_at", Number, nullable=False),
)
MODES = ("listening", "paused", "no sound", "stopped", "removed")

recordings = sql.Table(
    "recordings",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("key", Words, nullable=False),  # the same recording has the same key, another one another
    sql.Column("name", Words, nullable=False),
    sql.Column("path", Words),  # of a file that can be read again
    sql.Column("began_at", Number, nullable=False),
    sql.Column("seconds", Number),  # NULL while it goes on
    sql.Column("rate", sql.Integer),
    sql.Column("channels", sql.Integer),
    sql.Column("next_window", sql.Integer, nullable=False),
    sql.Column("finished", sql.Boolean, nullable=False),
    sql.Column("error", Words, nullable=False),
    sql.Column("written_at", Number, nullable=False),
    sql.UniqueConstraint("machine_id", "key"),
)
sql.Index(
    "unfinished_recordings",
    recordings.c.machine_id,
    sqlite_where=recordings.c.finished == sql.false(),
    postgresql_where=recordings.c.finished == sql.false(),
)

windows = sql.Table(
    "windows",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("recording_id", Key, sql.ForeignKey("recordings.id"), nullable=False),
    sql.Column("number", sql.Integer, nullable=False),  # of the window in the recording, from 0
    sql.Column("begins_at", Number, nullable=False),
    sql.Column("seconds", Number, nullable=False),
    sql.Column("score", Number),
    sql.Column("p_value", Number),
    sql.Column("decision", Words, nullable=False),  # as of Verdict; "paused" in a pause
    sql.Column("evidence", Number),
    sql.Column("near_db", Number),
    sql.Column("far_db", Number),
    sql.Column("told", Words, nullable=False),  # faults and errors, in words
    sql.UniqueConstraint("recording_id", "number"),
    # all that a trend needs: the rows of one machine lie far apart, because all machines are heard at once
    sql.Index("windows_by_time", "machine_id", "begins_at", "seconds", "score", "decision", "evidence"),
    sqlite_autoincrement=True,
)

summaries = sql.Table(  # what windows become after some days
    "summaries",
    metadata,
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), primary_key=True),
    sql.Column("begins_at", Number, primary_key=True),
    sql.Column("seconds", Number, nullable=False),
    sql.Column("windows", sql.Integer, nullable=False),
    sql.Column("scored", sql.Integer, nullable=False),  # how many of them have a score
    sql.Column("anomalous", sql.Integer, nullable=False),
    sql.Column("unusable", sql.Integer, nullable=False),
    sql.Column("paused", sql.Integer, nullable=False),
    sql.Column("lowest", Number),  # score
    sql.Column("mean", Number),
    sql.Column("highest", Number),
    sql.Column("evidence", Number),  # the highest
)

events = sql.Table(
    "events",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("recording_id", Key, sql.ForeignKey("recordings.id"), nullable=False),
    sql.Column("begins_at", Number, nullable=False),
    sql.Column("ends_at", Number, nullable=False),
    sql.Column("peak_begins_at", Number, nullable=False),
    sql.Column("peak_ends_at", Number, nullable=False),
    sql.Column("peak_score", Number),
    sql.Column("p_value", Number),
    sql.Column("windows", sql.Integer, nullable=False),
    sql.Column("anomalous", sql.Integer, nullable=False),
    sql.Column("unusable", sql.Integer, nullable=False),
    sql.Column("content", Words, nullable=False),  # JSON of listening.events.event_to
    sql.Column("sound", Words),  # name of a file in the folder of sounds
    sql.UniqueConstraint("recording_id", "begins_at"),
    sql.Index("events_by_time", "begins_at", "id"),
    sql.Index("events_of_machines", "machine_id", "begins_at", "id"),
    sqlite_autoincrement=True,
)

alerts = sql.Table(  # each time a condition became active
    "alerts",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("condition", Words, nullable=False),  # one of life_cycle.CONDITIONS
    sql.Column("severity", sql.Integer, nullable=False),  # 1 to 1000, OPC UA Part 5
    sql.Column("message", Words, nullable=False),
    sql.Column("since_at", Number, nullable=False),  # the likely beginning of what is wrong
    sql.Column("began_at", Number, nullable=False),  # when it became active
    sql.Column("ended_at", Number),  # when it was cleared
    sql.Column("active", sql.Boolean, nullable=False),
    sql.Column("acked", sql.Boolean, nullable=False),
    sql.Column("retained", sql.Boolean, nullable=False),  # active, or not acknowledged: of interest
    sql.Column("score", Number),
    sql.Column("sound", Words),  # name of a file in the folder of sounds
    sql.Column("evidence", Words),  # JSON of Explanation.content; NULL until it is made
    sql.Column("evidence_error", Words, nullable=False),
    sql.Index("alerts_by_time", "began_at", "id"),
    sql.Index("alerts_of_machines", "machine_id", "began_at", "id"),
    sqlite_autoincrement=True,
)
for _name, _columns, _where, _unique in (
    ("one_active_alert", ("machine_id", "condition"), alerts.c.active, True),
    ("active_alerts", ("began_at", "id"), alerts.c.active, False),
    ("retained_alerts", ("began_at", "id"), alerts.c.retained, False),
):
    sql.Index(
        _name,
        *(alerts.c[column] for column in _columns),
        unique=_unique,
        sqlite_where=_where == sql.true(),  # as SQLAlchemy writes it in queries, else it is not used
        postgresql_where=_where,
    )

conditions = sql.Table(  # what people and sensors say of a condition, whether it is active or not
    "conditions",
    metadata,
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), primary_key=True),
    sql.Column("condition", Words, primary_key=True),
    sql.Column("shelving", Words, nullable=False),  # "unshelved", "timed", "one shot"
    sql.Column("shelved_until_at", Number),
    sql.Column("suppressed", sql.Boolean, nullable=False),
    sql.Column("out_of_service", sql.Boolean, nullable=False),
)

journal = sql.Table(  # all that is told: what happened to machines, events and alerts, who did it and when
    "journal",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("alert_id", Key, sql.ForeignKey("alerts.id")),
    sql.Column("event_id", Key, sql.ForeignKey("events.id")),
    sql.Column("condition", Words),
    sql.Column("what", Words, nullable=False),  # one of life_cycle.WHAT
    sql.Column("at", Number, nullable=False),
    sql.Column("written_at", Number, nullable=False),
    sql.Column("by", Words, nullable=False),  # "" if nobody did it
    sql.Column("comment", Words, nullable=False),
    sql.Column("annunciated", sql.Boolean, nullable=False),  # else shelved, suppressed, or out of service
    sql.Column("content", Words, nullable=False),  # JSON
    sql.Index("journal_of_alerts", "alert_id", "id"),
    sql.Index("journal_of_machines", "machine_id", "id"),
    sqlite_autoincrement=True,
)

cursors = sql.Table(  # how far each sink is: the journal is the queue
    "cursors",
    metadata,
    sql.Column("sink", Words, primary_key=True),
    sql.Column("stream", Words, primary_key=True),  # "journal" or "windows"
    sql.Column("delivered", Key, nullable=False),  # the last id that was delivered, refused, or dropped
    sql.Column("dropped", sql.Integer, nullable=False),
    sql.Column("refused", sql.Integer, nullable=False),
    sql.Column("failing_since_at", Number),
    sql.Column("attempts", sql.Integer, nullable=False),  # in vain, since the last success
    sql.Column("error", Words, nullable=False),
)

normals = sql.Table(  # "this was normal": recordings for learn
    "normals",
    metadata,
    sql.Column("id", Key, primary_key=True),
    sql.Column("machine_id", Key, sql.ForeignKey("machines.id"), nullable=False),
    sql.Column("event_id", Key, sql.ForeignKey("events.id")),
    sql.Column("alert_id", Key, sql.ForeignKey("alerts.id")),
    sql.Column("sound", Words, nullable=False),
    sql.Column("at", Number, nullable=False),
    sql.Column("by", Words, nullable=False),
    sql.Column("learnt_at", Number),
    sql.Index("normals_of_machines", "machine_id", "id"),
)

tokens = sql.Table(
    "tokens",
    metadata,
    sql.Column("name", Words, primary_key=True),
    sql.Column("digest", Words, nullable=False),  # SHA-256 of the token, which is random and long
    sql.Column("role", Words, nullable=False),  # "operator" or "reader"
    sql.Column("made_at", Number, nullable=False),
)


def of_windows() -> tuple[sql.Label[Any], ...]:
    """What is kept of many windows: columns of a question, with the names that they have in ``summaries``."""
    score, decision, count = windows.c.score, windows.c.decision, sql.func.count
    return (
        count().label("windows"),
        count(score).label("scored"),
        count(sql.case((decision == "anomaly", 1))).label("anomalous"),
        count(sql.case((decision == "unusable", 1))).label("unusable"),
        count(sql.case((decision == "paused", 1))).label("paused"),
        sql.func.min(score).label("lowest"),
        sql.func.avg(score).label("mean"),
        sql.func.max(score).label("highest"),
        sql.func.max(windows.c.evidence).label("evidence"),
    )
