"""What a run may send where somebody was shown a sum: exactly those payouts, with those amounts, to those phones.

A bound is made in one look at the database, before anything is asked, and a claim takes only what it names. What
became due meanwhile is not in it; what has another amount or phone by now is left and named; and no more cents are
claimed than were shown, each payout counted once however often it is sent. A million payouts take about a hundred
megabytes.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.clock import is_over
from kasoko_cli.errors import Refused
from kasoko_cli.operations.payouts.run import EVERYTHING, Due, Selection
from kasoko_cli.store import markets, payouts
from kasoko_cli.store.engine import reconnect
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.engine.locking import CHUNK
from kasoko_cli.store.payouts import DuePayout, ShownPayout

#: What one claim looks at, at most, where others have sent what stands in its list.
LOOKED_AT_ONCE = 2_000
#: Makes a mark of a payout, its amount and its phone that nobody without the key can make or read.
Seal = Callable[[bytes], bytes]


def seal_of_this_process() -> Seal:
    """A seal with a key that nobody else ever has."""
    key = secrets.token_bytes(16)
    return lambda text: hashlib.blake2b(text, key=key, digest_size=8).digest()


class Bound:
    """The payouts that a run may send, in the order in which it does."""

    def __init__(self, seal: Seal, *, named: bool = False) -> None:
        self._seal = seal
        #: Whether the payouts were named one by one: then what else is due is nobody's concern.
        self.named = named
        self.ids: list[str] = []
        self._marks = array("Q")
        #: Their cents; none where the marks were carried here without them.
        self.wires_cents = array("q")
        self._is_spent = bytearray()
        #: Where the next claim begins, what was claimed, and the most that may be: what was shown.
        self.at = 0
        self.spent_cents = 0
        self.most_cents: int | None = None
        #: Those that have another amount or phone than was shown.
        self.changed: list[str] = []
        self.plan_hash = ""

    @classmethod
    def of(cls, shown: Iterable[ShownPayout], *, seal: Seal | None = None, named: bool = False) -> Bound:
        """A bound of what is shown now."""
        bound, digest = cls(seal or seal_of_this_process(), named=named), hashlib.sha256()
        for one in shown:
            line = plan_line(one.id, one.wire_cents, one.phone)
            digest.update(line)
            bound._add(one.id, bound.mark(line))
            bound.wires_cents.append(one.wire_cents)
        bound.most_cents, bound.plan_hash = bound.wire_cents, digest.hexdigest()
        return bound

    @classmethod
    def carried(cls, payout_id: str, mark: str, seal: Seal) -> Bound:
        """A bound of one payout whose mark came with a task. Raises Refused if it is no mark."""
        if not re.fullmatch(r"[0-9a-f]{16}", str(mark)):
            raise Refused(
                f"The task for {payout_id} carries a mark that is none; nothing was sent.",
                hint="Enqueue it again: kasoko payout --engine celery",
            )
        bound = cls(seal, named=True)
        bound._add(payout_id, int(mark, 16))
        return bound

    def _add(self, payout_id: str, mark: int) -> None:
        self.ids.append(payout_id)
        self._marks.append(mark)
        self._is_spent.append(False)

    @property
    def is_open(self) -> bool:
        """Whether no claim has come to its end yet."""
        return self.at < len(self.ids)

    @property
    def wire_cents(self) -> int:
        """The sum that was shown."""
        return sum(self.wires_cents)

    def mark(self, line: bytes) -> int:
        """A payout as it was shown (`plan_line`), as a number."""
        return int.from_bytes(self._seal(line)[:8], "big")

    def marks(self) -> list[tuple[str, str]]:
        """Each payout with its mark, for tasks to carry."""
        return [(one, f"{mark:016x}") for one, mark in zip(self.ids, self._marks, strict=True)]

    def look_again(self, session: Session, now: datetime) -> Due:
        """Keep what may still be sent, now or later, and begin anew with it; returns what there is."""
        kept, due_cents, due, later = list[int](), 0, 0, list[datetime]()
        changed = set(self.changed)
        for start in range(0, len(self.ids), CHUNK):
            pending = payouts.pending_among(session, self.ids[start : start + CHUNK])
            for index in range(start, min(start + CHUNK, len(self.ids))):
                if self.ids[index] in changed or self.ids[index] not in pending:
                    continue
                kept.append(index)
                wire_cents, not_before = pending[self.ids[index]]
                if not_before is not None and not_before > now and not is_over(not_before, now, payouts.LONGEST_WAIT):
                    later.append(not_before)
                else:
                    due, due_cents = due + 1, due_cents + wire_cents
        if self.wires_cents:
            self.wires_cents = array("q", (self.wires_cents[index] for index in kept))
        self._marks = array("Q", (self._marks[index] for index in kept))
        self._is_spent = bytearray(self._is_spent[index] for index in kept)
        self.ids = [self.ids[index] for index in kept]
        self.at = 0
        return Due(due, due_cents, len(later), min(later, default=None))


def plan_line(payout_id: str, wire_cents: int, phone: str) -> bytes:
    """A payout as a plan's hash has it."""
    return f"{payout_id}|{wire_cents}|{phone}\n".encode()


class Step:
    """How far one claim gets in a bound; it counts once the claim has committed."""

    def __init__(self, bound: Bound) -> None:
        self.bound = bound
        self.at, self._began = bound.at, bound.at
        self._index: dict[str, int] = {}
        self._spent: list[int] = []
        self.spent_cents = 0
        self.changed: list[str] = []

    def take(self, count: int) -> list[str]:
        """The next ids; none at the end, or where this claim has looked at enough."""
        if self.at - self._began >= LOOKED_AT_ONCE:
            return []
        ids = self.bound.ids[self.at : self.at + count]
        self._index = {payout_id: self.at + number for number, payout_id in enumerate(ids)}
        self.at += len(ids)
        return ids

    def as_shown(self, due: Sequence[DuePayout], phones: dict[str, str]) -> list[DuePayout]:
        """Those that are what was shown, within what is left of the sum."""
        bound, ours = self.bound, list[DuePayout]()
        for payout in due:
            index = self._index[payout.id]
            line = plan_line(payout.id, payout.wire_cents, phones[payout.user_id])
            if bound._marks[index] != bound.mark(line):
                self.changed.append(payout.id)
                continue
            if not bound._is_spent[index]:
                after = bound.spent_cents + self.spent_cents + payout.wire_cents
                if bound.most_cents is not None and after > bound.most_cents:
                    self.changed.append(payout.id)
                    continue
                self._spent.append(index)
                self.spent_cents += payout.wire_cents
            ours.append(payout)
        return ours

    def done(self) -> None:
        """Take over what a claim did, once it has committed."""
        bound = self.bound
        bound.at = self.at
        bound.changed += self.changed
        bound.spent_cents += self.spent_cents
        for index in self._spent:
            bound._is_spent[index] = True


def show(
    db: Database,
    now: datetime,
    selection: Selection = EVERYTHING,
    *,
    later: bool = False,
    smallest_first: bool = False,
    seal: Seal | None = None,
) -> Bound:
    """What a run would send now; nothing is claimed.

    `later` has those too that are due only later, for a run that stays.
    Raises NotFound if there is no such market or payout.
    """

    def look(session: Session) -> Bound:
        for payout_id in payouts.missing_among(session, selection.only):
            payouts.find_payout(session, payout_id)
        shown = payouts.shown(
            session,
            due_at=None if later else now,
            market_id=markets.id_of(session, selection.market),
            only=selection.only,
            limit=selection.limit,
            smallest_first=smallest_first,
        )
        return Bound.of(shown, seal=seal, named=bool(selection.only))

    return reconnect.read(db, look)
