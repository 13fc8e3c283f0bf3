"""A slow, obvious twin of `nearfar.logbook.conditions`: one condition of one machine, told from its whole history.

It keeps no state but the list of what was accepted. Each question is answered by reading it from its beginning.
"""

from __future__ import annotations

from dataclasses import dataclass, field

MONTH = 30 * 24 * 3600.0


class RefusedError(Exception):
    """With the code of OPC UA."""


@dataclass
class Twin:
    """What was accepted, and the rows of the journal that it must have made."""

    history: list[tuple] = field(default_factory=list)
    rows: list[tuple] = field(default_factory=list)  # (what, at, number of the alert or None, annunciated)

    # questions

    def alerts(self):
        """(began, ended or None, acknowledged) of each alert, oldest first."""
        found = []
        for what, *told in self.history:
            if what == "activated":
                found.append([told[0], None, False])
            if what == "cleared":
                found[-1][1] = max(told[0], found[-1][0])  # none ends before it began
            if what == "acknowledged":
                found[told[0]][2] = True
        return [tuple(each) for each in found]

    def active(self):
        """The number of the alert that is on, or None."""
        alerts = self.alerts()
        return len(alerts) - 1 if alerts and alerts[-1][1] is None else None

    def shelf(self):
        """("timed" or "one shot", its end), or None."""
        found = None
        for what, *told in self.history:
            if what == "shelved":
                found = tuple(told)
            if what == "unshelved":
                found = None
        return found

    def last_of(self, one, other):
        """Whether `one` was accepted after the last `other`."""
        told = [what for what, *_ in self.history if what in (one, other)]
        return bool(told) and told[-1] == one

    def suppressed(self):
        return self.last_of("suppressed", "unsuppressed")

    def out_of_service(self):
        return self.last_of("out of service", "in service")

    def heard(self):
        return self.shelf() is None and not self.suppressed() and not self.out_of_service()

    def retained(self):
        return [n for n, (_, ended, acked) in enumerate(self.alerts()) if ended is None or not acked]

    # what happens

    def accept(self, what, at, alert, *told):
        """What changes nothing of the shelf, suppression and service."""
        self.history.append((what, *told))
        self.rows.append((what, at, alert, self.heard()))

    def turn(self, what, at, *told):
        """What changes the shelf, suppression or service."""
        was_heard = self.heard()
        self.history.append((what, *told))
        self.rows.append((what, at, self.active(), self.heard()))
        if self.heard() and not was_heard and self.active() is not None:
            self.rows.append(("annunciated", at, self.active(), True))

    def look_at_the_clock(self, now):
        shelf = self.shelf()
        if shelf is not None and shelf[1] <= now:
            self.turn("unshelved", shelf[1])
            return 1
        return 0

    def activate(self, at, now):
        if self.active() is not None or any(began == at for began, *_ in self.alerts()):
            return
        self.look_at_the_clock(now)
        self.accept("activated", at, len(self.alerts()), at)

    def clear(self, at, now):
        number = self.active()
        if number is None:
            return
        began = self.alerts()[number][0]
        if at < began and any(ended == at for _, ended, _ in self.alerts()):
            return
        self.look_at_the_clock(now)
        self.accept("cleared", at, number, at)
        if number not in self.retained():
            self.rows.append(("re-armed", at, number, self.heard()))
        shelf = self.shelf()
        if shelf is not None and shelf[0] == "one shot":
            self.history.append(("unshelved",))
            self.rows.append(("unshelved", at, number, self.heard()))

    def suppress(self, at, now):
        if self.suppressed() or any(told == ("suppressed", at) for told in self.history):
            return
        self.look_at_the_clock(now)
        self.turn("suppressed", at, at)

    def unsuppress(self, at, now):
        if not self.suppressed():
            return
        since = [told[1] for told in self.history if told[0] == "suppressed"][-1]
        if at < since and ("unsuppressed", at) in self.history:
            return
        self.look_at_the_clock(now)
        self.turn("unsuppressed", at, at)

    def acknowledge(self, number, now):
        if self.alerts()[number][2]:
            raise RefusedError("Bad_ConditionBranchAlreadyAcked")
        self.look_at_the_clock(now)
        self.accept("acknowledged", now, number, number)
        if number not in self.retained():
            self.rows.append(("re-armed", now, number, self.heard()))

    def comment(self, number, now):
        self.look_at_the_clock(now)
        self.accept("commented", now, number)

    def shelve(self, until, now):
        self.look_at_the_clock(now)
        kind, shelf = "one shot" if until is None else "timed", self.shelf()
        if shelf is not None and shelf[0] == kind:
            raise RefusedError("Bad_ConditionAlreadyShelved")
        if until is not None and (until <= now or until > now + MONTH):
            raise RefusedError("Bad_ShelvingTimeOutOfRange")
        self.turn("shelved", now, kind, now + MONTH if until is None else until)

    def unshelve(self, now):
        self.look_at_the_clock(now)
        if self.shelf() is None:
            raise RefusedError("Bad_ConditionNotShelved")
        self.turn("unshelved", now)

    def take_out_of_service(self, now):
        self.look_at_the_clock(now)
        if self.out_of_service():
            raise RefusedError("Bad_InvalidState")
        self.turn("out of service", now)

    def return_to_service(self, now):
        self.look_at_the_clock(now)
        if not self.out_of_service():
            raise RefusedError("Bad_InvalidState")
        self.turn("in service", now)
