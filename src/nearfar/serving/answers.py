"""What is asked and answered, as models: the description in OpenAPI is made of them, and answers are, too.

An answer has the columns of its row that are named here, and no others: what the logbook keeps for itself, such as
the state of rules, stays there. Times are seconds since 1970-01-01 in UTC.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, Json, model_validator

from nearfar.logbook.life_cycle import LONGEST_SHELF_S, WHAT, Condition
from nearfar.logbook.schema import MODES

MOST_HOURS = LONGEST_SHELF_S / 3600.0
LARGEST_ID = 2**53 - 1  # which every JSON parser keeps exactly

Number = Annotated[int, Field(ge=1, le=LARGEST_ID)]
Time = Annotated[float, Field(description="Seconds since 1970-01-01 in UTC.")]


def _printable(text: str) -> str:
    """Text without control characters but new lines and tabs."""
    if any(unicodedata.category(char) == "Cc" and char not in "\n\t" for char in text):
        raise ValueError("must have no control characters")
    return text.strip()


def _one_line(text: str) -> str:
    """The same on one line."""
    if not _printable(text).isprintable():
        raise ValueError("must be one line of characters that can be printed")
    return text.strip()


def _content(value: Any) -> Any:
    """JSON that a column holds as text; an object as it is."""
    return value or None


Words = Annotated[str, AfterValidator(_printable)]
OneLine = Annotated[str, AfterValidator(_one_line)]
Content = Annotated[
    Json[dict[str, Any]] | dict[str, Any] | None, BeforeValidator(_content), Field(description="JSON")
]


class Answer(BaseModel):
    """What all answers have in common."""

    model_config = ConfigDict(extra="ignore", ser_json_inf_nan="null")


class Problem(Answer):
    """Why something was refused or failed."""

    error: str = Field(description="What is wrong, in one sentence.")
    hint: str = Field(description="What to do about it; may be empty.")
    code: str | None = Field(None, description="Of OPC UA, if the life cycle of alerts refuses an action.")


class Done(Answer):
    """What an action has done."""

    told: str = Field(description="In one sentence.")


class MachineRow(Answer):
    """A machine, and what was last heard of it."""

    id: int
    name: str
    system: str
    window_s: float
    hop_s: float
    threshold: float | None
    false_alerts: str = Field(description='How often an alert may be false, such as "1 per 30 days".')
    mode: str = Field(
        description=f"One of {', '.join(MODES)}; or lost, if its watcher has ended without saying so."
    )
    mode_since_at: Time
    heard_until_at: Time | None = Field(description="The end of the last window.")
    score: float | None = Field(description="Of the last window that had one.")
    decision: str | None = Field(description="Of the last window.")
    evidence: float | None = Field(description="Of the rule for alerts: 0 to 1, where it alerts.")
    running: bool | None = Field(description="Whether the machine seems to run.")


class Alert(Answer):
    """One activation of a condition, in the words of OPC UA Part 9."""

    id: int
    machine: str
    condition: Condition
    severity: int = Field(description="1 to 1000, as in OPC UA Part 5.")
    message: str
    since_at: Time = Field(description="The likely beginning of what is wrong.")
    began_at: Time = Field(description="When it became active.")
    ended_at: Time | None = Field(description="When it was cleared.")
    active: bool
    acked: bool
    retained: bool = Field(description="Active, or not acknowledged.")
    score: float | None
    sound: str | None = Field(description="Name of its sound; null if it has none.")
    has_evidence: bool
    evidence_error: str = Field(description="Why there is no evidence; empty if there is, or will be.")


class Entry(Answer):
    """A row of the journal: what happened, who did it and when."""

    id: int
    machine: str
    alert_id: int | None
    event_id: int | None
    condition: str | None
    what: str = Field(description=f"One of {', '.join(WHAT)}.")
    at: Time = Field(description="When it happened, by the clock of the recording.")
    written_at: Time
    by: str = Field(description="Empty if nobody did it.")
    comment: str
    annunciated: bool = Field(description="False if it was shelved, suppressed, or out of service.")
    content: Content


class ConditionState(Answer):
    """What people and sensors say of a condition, whether it is active or not."""

    condition: Condition
    shelving: str = Field(description='"unshelved", "timed" or "one shot".')
    shelved_until_at: Time | None
    suppressed: bool = Field(description="Because of a fault of the microphones.")
    out_of_service: bool


class Event(Answer):
    """Anomalous windows that follow each other."""

    id: int
    machine: str
    begins_at: Time
    ends_at: Time
    peak_begins_at: Time
    peak_ends_at: Time
    peak_score: float | None
    p_value: float | None
    windows: int
    anomalous: int
    unusable: int
    sound: str | None = Field(description="Name of its sound; null if it has none, or has it no more.")


class Point(Answer):
    """Some windows of a machine that follow each other, or one of them."""

    begins_at: Time
    seconds: float = Field(description="From the first beginning to the last end.")
    windows: int
    scored: int = Field(description="How many of them have a score.")
    anomalous: int
    unusable: int
    paused: int
    lowest: float | None
    mean: float | None
    highest: float | None
    evidence: float | None = Field(
        description="Of the rule for alerts; the highest. Null of hours that were summed up."
    )


class Machine(MachineRow):
    """A machine with its alerts."""

    alerts: list[Alert] = Field(description="Those that are retained: active, or not acknowledged.")
    unacknowledged: int = Field(description="How many alerts nobody has acknowledged.")


class Machines(Answer):
    """All machines, by name."""

    machines: list[Machine]


class MachineInFull(Machine):
    """A machine with its conditions, and what it could learn."""

    conditions: list[ConditionState]
    normals_to_learn: int = Field(description="Recordings marked as normal that `learn` has not heard yet.")


class Alerts(Answer):
    """Alerts, the newest first."""

    alerts: list[Alert]
    before: int | None = Field(
        description="Ask for `before` this one for older ones; null if there are none."
    )


class AlertInFull(Alert):
    """An alert with its journal and its evidence."""

    journal: list[Entry]
    evidence: Content = Field(description="As `nearfar explain --json` tells it; null until it is made.")


class Events(Answer):
    """Events, the newest first."""

    events: list[Event]
    before: int | None = Field(
        description="Ask for `before` this one for older ones; null if there are none."
    )


class EventInFull(Event):
    """An event with its content."""

    content: Content


class Scores(Answer):
    """Scores of a machine, in order of time."""

    points: list[Point]


class Journal(Answer):
    """Rows of the journal, in the order in which they were written."""

    entries: list[Entry]


class Learning(Answer):
    """How far a detector is with learning."""

    state: Literal["idle", "running", "done", "failed"]
    told: str


class Verdict(Answer):
    """What a detector says of a recording, as ``nearfar explain --json`` does: these are some of the keys."""

    model_config = ConfigDict(extra="allow", ser_json_inf_nan="null")

    recording: str
    machine: str
    score: float | None
    p_value: float | None
    decision: str | None
    error: str | None
    headline: str
    words: list[str]
    reasons: list[dict[str, Any]]


class Ask(BaseModel):
    """What all requests have in common: unknown keys are refused, for they may be mistyped ones."""

    model_config = ConfigDict(extra="forbid")


class Action(Ask):
    """Who does something, and why."""

    by: OneLine = Field("", max_length=100, description="Who; left out if a token says it.")
    comment: Words = Field("", max_length=2000)


class Comment(Action):
    """A comment."""

    comment: Words = Field(min_length=1, max_length=2000)


class Shelve(Action):
    """For how long a condition is shelved: give one of the two."""

    hours: float | None = Field(None, gt=0, le=MOST_HOURS, allow_inf_nan=False)
    one_shot: bool = Field(False, description="Until it is cleared the next time.")

    @model_validator(mode="after")
    def _one_of_both(self) -> Shelve:
        if (self.hours is None) != self.one_shot:
            raise ValueError("give either hours, or one_shot: true")
        return self


class Learn(Action):
    """What the detector is to learn."""

    domain: Literal["source", "target"] | None = Field(
        None, description='Of all recordings; null: "target", if the clips of the detector tell theirs.'
    )
