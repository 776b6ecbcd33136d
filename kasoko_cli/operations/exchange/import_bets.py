"""Bets from a file: checked against their markets and users, staked, and booked, in one transaction.

Bets are written while the file is read, and the books once all of it is known to be good: whoever posts
holds the books until the commit, and must not wait for anybody by then.
"""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.market import check_identifier, clean_text
from kasoko_cli.domain.money import format_kes, parse_stake, plain_kes
from kasoko_cli.domain.phone import quoted
from kasoko_cli.domain.time_text import format_time
from kasoko_cli.errors import Refused
from kasoko_cli.ledger import book, journal
from kasoko_cli.operations.exchange.import_records import FIRST, Intake, Kind, Note
from kasoko_cli.operations.shared.record_files import Columns, Row
from kasoko_cli.operations.shared.record_rows import RowReader
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.bulk_rows import BetRecord, OpenTo
from kasoko_cli.store.schema.tables import Bet, Funding
from kasoko_cli.store.users import lock_wallets

BET_COLUMNS = Columns(
    ("bet_id", "market_id", "user_id", "outcome", "stake_kes", "placed_at"),
    ("cancelled_at", "funding"),
    text=("outcome",),
    times=("placed_at", "cancelled_at"),
    usual=("cancelled_at",),
)


def bets_kind(funding: Funding = Funding.COLLECTED) -> Kind:
    """Bets on open markets, whose stakes are booked.

    `funding` says where the stakes come from, for each bet whose own `funding` cell does not: the platform
    had COLLECTED them, or they are taken from the WALLET here. A late bet is taken in, since settling gives
    it back; a cancelled one is booked as placed and taken back.
    """
    return Kind("bets", BET_COLUMNS, functools.partial(_Bets, funding))


class _Bets(Intake):
    """Takes in bets. What is to be booked waits in a spool, a line of JSON for each part of the file."""

    def __init__(self, funding: Funding, session: Session, reader: RowReader, now: datetime) -> None:
        super().__init__(session, reader, now)
        self._funding = funding
        self._spool = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - `close` closes it
        self._markets = bulk_rows.markets_for_bets(session)
        #: The same by id and by slug; none is the other's.
        self._named = {market.slug: market for market in self._markets.values()} | self._markets
        self._users: set[str] = set()
        #: Of each user who pays from the wallet: what stood in it, less what this file stakes from it, in cents.
        self._left: dict[str, int] = {}
        #: Of each user: collected stakes of cancelled bets, which come back to the wallet, in cents.
        self._returned: dict[str, int] = {}
        #: New bets that were placed at or after the close, and those that are from the future: how many, the first.
        self._late: tuple[int, list[str]] = (0, [])
        self._future: tuple[int, list[str]] = (0, [])

    def close(self) -> None:
        """Close the spool."""
        self._spool.close()

    def take(self, rows: Sequence[Row]) -> None:
        standing = bulk_rows.known_bets(self._session, (row.values[0] for row in rows))
        self._users |= bulk_rows.existing_users(self._session, {row.values[2] for row in rows} - self._users)
        self._open_wallets({row.values[2] for row in rows if (row.values[7] or self._funding) == Funding.WALLET})
        fresh: list[BetRecord] = []
        for line, values in rows:
            bet = self._read(line, values)
            if bet is None:
                continue
            if len(self.first) < FIRST:
                self.first.append({"bet_id": bet.id, **self._cells(bet)})
            other = standing.get(bet.id)
            if other is not None:
                self._compare(line, bet, other)
            elif self._may_stand(line, bet):
                standing[bet.id] = bet
                fresh.append(bet)
        self._write(fresh)

    def notes(self) -> list[Note]:
        """Which of the new bets take no part, or are not placed yet."""
        told = (
            ("late", self._late, "placed at or after the close of the market; settling gives each back"),
            ("future", self._future, "placed later than now. Check the dates"),
        )
        return [
            Note(
                kind,
                count,
                f"{count_of(count, 'bet')} {what}: {', '.join(first)}{', ...' if count > FIRST else ''}",
                first,
            )
            for kind, (count, first), what in told
            if count
        ]

    def finish(self) -> dict[str, object]:
        """Book every new bet; its entry holds what it is."""
        book.post_many(self._session, self._entries(), at=self._now)
        return {}

    def _open_wallets(self, user_ids: set[str]) -> None:
        """Look into the wallets of these users; nobody else spends from them until the transaction ends."""
        wallets = lock_wallets(self._session, user_ids - self._left.keys())
        available = bulk_rows.available_of(self._session, wallets)
        self._left |= {user_id: available.get(user_id, 0) for user_id in wallets}

    def _read(self, line: int, values: tuple[str, ...]) -> BetRecord | None:
        """The bet that the row says, or None where a cell is wrong."""
        bet_id, market_id, user_id, outcome, stake, placed, cancelled, funding = values
        problems = self._problems
        before = len(problems.found)
        number = None
        market = self._named.get(market_id)
        if market is None:
            guess = problems.suggestion(market_id, list(self._named))
            what = f"There is no market {quoted(market_id)}.{guess} Import the markets first."
            problems.note(line, "market_id", what if market_id else "It is empty. Write the market's id or slug.")
        elif (number := market.numbers.get(outcome)) is None:
            number = self._loosely(line, market, outcome)
        if user_id not in self._users:
            what = f"There is no user {quoted(user_id)}. Import the users first."
            problems.note(line, "user_id", what if user_id else "It is empty. Write the user's id.")
        self._cell(line, "bet_id", lambda text: check_identifier(text, what="bet id"), bet_id)
        cents = self._cell(line, "stake_kes", parse_stake, stake)
        placed_at = self._cell(line, "placed_at", self.times.parse, placed)
        cancelled_at = self._cell(line, "cancelled_at", self.times.parse, cancelled) if cancelled else None
        paid_from = self._cell(line, "funding", _funding, funding) if funding else self._funding
        if market is None or number is None or cents is None or placed_at is None or paid_from is None:
            return None
        if len(problems.found) > before:
            return None
        return BetRecord(bet_id, market.id, number, user_id, cents, paid_from, placed_at, cancelled_at)

    def _loosely(self, line: int, market: OpenTo, outcome: str) -> int | None:
        """The outcome as it was kept when the market was taken in: composed, with plain spaces, in any case."""
        try:
            cleaned = clean_text(outcome, what="outcome", most=100)
            folded = {name.casefold(): number for name, number in market.numbers.items()}
            return market.numbers[cleaned] if cleaned in market.numbers else folded[cleaned.casefold()]
        except (Refused, KeyError):
            guess = self._problems.suggestion(outcome, list(market.numbers))
            what = f"{quoted(outcome)} is not an outcome of {market.slug}.{guess}"
            self._problems.note(line, "outcome", f"{what} Its outcomes are: {', '.join(market.numbers)}")
            return None

    def _compare(self, line: int, bet: BetRecord, other: BetRecord) -> None:
        if bet == other:
            self.known += 1
            return
        here, there = self._cells(bet), self._cells(other)
        for column in here:
            if here[column] != there[column]:
                advice = "A bet is not changed; another one needs another id."
                if column == "cancelled_at" and other.cancelled_at is None:
                    advice = f"Take it back here: kasoko bet cancel {bet.id}"
                what = (
                    f"The bet {bet.id!r} is known with {quoted(there[column])}, and here with {quoted(here[column])}."
                )
                self._problems.note(line, column, f"{what} {advice}")

    def _cells(self, bet: BetRecord) -> dict[str, str]:
        names = {number: name for name, number in self._markets[bet.market_id].numbers.items()}
        return {
            "market_id": bet.market_id,
            "user_id": bet.user_id,
            "outcome": names[bet.outcome],
            "stake_kes": plain_kes(bet.stake_cents),
            "placed_at": format_time(bet.placed_at),
            "cancelled_at": format_time(bet.cancelled_at) if bet.cancelled_at else "",
            "funding": str(bet.funding),
        }

    def _may_stand(self, line: int, bet: BetRecord) -> bool:
        """Whether a new bet may be taken in; why not is noted."""
        market = self._markets[bet.market_id]
        if not market.is_open:
            what = (
                f"{market.slug} takes no more bets: it is {market.status}, and the bet {bet.id!r} is not one of its"
                " own. Leave it out."
            )
            self._problems.note(line, "market_id", what)
            return False
        if bet.cancelled_at is None and bet.placed_at >= market.closes_at:
            self._late = self._late[0] + 1, [*self._late[1], bet.id][:FIRST]
        if bet.placed_at > self._now:
            self._future = self._future[0] + 1, [*self._future[1], bet.id][:FIRST]
        if bet.cancelled_at is not None and not self._taken_back_in_time(line, bet, bet.cancelled_at, market.closes_at):
            return False
        return self._is_paid(line, bet)

    def _is_paid(self, line: int, bet: BetRecord) -> bool:
        """Whether the stake is there; one from the wallet is taken from what this file leaves in it."""
        if bet.funding is Funding.COLLECTED:
            if bet.cancelled_at is not None:
                self._returned[bet.user_id] = self._returned.get(bet.user_id, 0) + bet.stake_cents
            return True
        free = self._left[bet.user_id] + self._returned.get(bet.user_id, 0)
        if bet.stake_cents > free:
            what = (
                f"The wallet of {bet.user_id} has KES {format_kes(free)} left, and the stake is"
                f" KES {format_kes(bet.stake_cents)}. Take in a deposit first: kasoko wallet deposit"
            )
            self._problems.note(line, "stake_kes", what)
            return False
        if bet.cancelled_at is None:
            self._left[bet.user_id] -= bet.stake_cents
        return True

    def _taken_back_in_time(self, line: int, bet: BetRecord, cancelled_at: datetime, closes_at: datetime) -> bool:
        """Whether it was cancelled after it was placed and before the close. A late bet takes no part anyway."""
        if cancelled_at < bet.placed_at:
            wrong = f"It was cancelled before it was placed, at {format_time(bet.placed_at)}. Check both times."
        elif cancelled_at >= closes_at > bet.placed_at:
            wrong = (
                f"Its market closed at {format_time(closes_at)}, and from then on no bet can be taken back. Leave the"
                " cell empty, or check the time."
            )
        else:
            return True
        self._problems.note(line, "cancelled_at", wrong)
        return False

    def _write(self, fresh: Sequence[BetRecord]) -> None:
        bulk_rows.insert_rows(self._session, Bet, [bet._asdict() for bet in fresh])
        told = [
            (it.id, it.market_id, it.outcome, it.user_id, it.stake_cents, it.funding, it.cancelled_at is not None)
            for it in fresh
        ]
        self._spool.write(json.dumps(told, separators=(",", ":")) + "\n")
        self.new += len(fresh)
        self.stake_cents += sum(bet.stake_cents for bet in fresh)
        self.cancelled += sum(bet.cancelled_at is not None for bet in fresh)

    def _entries(self) -> Iterator[journal.Entry]:
        """What each new bet means in the books, in the order of the file."""
        self._spool.seek(0)
        for part in self._spool:
            for bet_id, market_id, outcome, user_id, cents, funding, cancelled in json.loads(part):
                if funding == Funding.WALLET:
                    yield journal.bet_from_wallet(bet_id, user_id, market_id, outcome, cents)
                else:
                    yield journal.bet_collected(bet_id, market_id, outcome, cents)
                if cancelled:
                    yield journal.bet_cancelled(bet_id, user_id, market_id, outcome, cents)


def _funding(text: str) -> Funding:
    try:
        return Funding(text)
    except ValueError:
        raise Refused(
            f"The funding {quoted(text)} is neither collected nor wallet.", hint="Leave the cell empty for --funding."
        ) from None
