"""Records into files: what `import` reads back without a change, and reports on payouts and entries.

Users, markets and bets are written with the columns of `import`; an optional column only where a record
needs it. In CSV, a text that a spreadsheet would take for a formula gets an apostrophe before it, which
`import` takes away again. Phones are masked unless they are asked for.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from types import SimpleNamespace

from sqlmodel import Session

from kasoko_cli.domain import phone as phones
from kasoko_cli.domain.money import plain_kes
from kasoko_cli.domain.time_text import format_time
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.exchange.import_bets import BET_COLUMNS
from kasoko_cli.operations.exchange.import_records import MARKET_COLUMNS, USER_COLUMNS, market_cells
from kasoko_cli.operations.shared.record_files import Columns, Format, guard
from kasoko_cli.store import markets
from kasoko_cli.store.engine import bulk_rows
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Funding

#: Takes what is written, a part at a time.
Write = Callable[[str], object]

#: A cell before it is written; None where there is no value.
Cell = str | int | None


class RecordKind(StrEnum):
    """What can be exported."""

    USERS = "users"  #: as `import users` reads them
    MARKETS = "markets"  #: as `import markets` reads them: open, without how they ended
    BETS = "bets"  #: as `import bets` reads them
    PAYOUTS = "payouts"  #: a report: one row a payout, with its latest attempt
    ENTRIES = "entries"  #: a report: one row for each line of the books


@dataclass(frozen=True, slots=True)
class Exported:
    """How many records were written."""

    kind: str
    rows: int


PAYOUT_COLUMNS = Columns(
    (
        *("payout_id", "market_id", "slug", "settlement_no", "user_id", "name", "phone", "kind", "leg"),
        *("amount_cents", "wire_cents", "status", "attempts", "originator_conversation_id", "conversation_id"),
        *("receipt", "failure_code", "failure_reason", "note", "not_before", "created_at", "updated_at"),
    ),
    text=("name", "conversation_id", "receipt", "failure_code", "failure_reason", "note"),
)
ENTRY_COLUMNS = Columns(("entry", "key", "kind", "at", "line", "account", "owner", "amount_cents"))


def export(
    db: Database, kind: RecordKind, form: Format, write: Write, *, market: str | None = None, show_phone: bool = False
) -> Exported:
    """Write the records of one kind, all or those of one market, as they stand at one moment.

    Raises:
        NotFound: there is no such market.
        Refused: users do not belong to a market.
    """
    if market is not None and kind is RecordKind.USERS:
        raise Refused("Users belong to no market; nothing was written.", hint="Leave --market out.")
    with db.reading() as session:
        market_id = markets.id_of(session, market)
        match kind:
            case RecordKind.USERS:
                columns, rows = USER_COLUMNS, _users(session, show_phone=show_phone)
                names: Sequence[str] = columns.names
            case RecordKind.MARKETS:
                columns = MARKET_COLUMNS
                names, rows = _markets(session, market_id)
            case RecordKind.BETS:
                columns = BET_COLUMNS
                names, rows = _bets(session, market_id)
            case RecordKind.PAYOUTS:
                columns, rows = PAYOUT_COLUMNS, _payouts(session, market_id, show_phone=show_phone)
                names = columns.names
            case RecordKind.ENTRIES:
                columns, rows = ENTRY_COLUMNS, _entries(session, market_id)
                names = columns.names
        if form is Format.CSV:
            return Exported(str(kind), _write_csv(write, names, columns.text, rows))
        return Exported(str(kind), _write_jsonl(write, names, rows))


@contextmanager
def written_whole(target: Path, *, private: bool) -> Iterator[TextIOWrapper]:
    """A file that appears under its name once it is complete; `private` lets only its owner read it.

    What stood there before is replaced at once, or stays as it was.

    Raises:
        NotFound: there is no such folder.
        Refused: the file cannot be written there.
    """
    target = target.resolve()
    try:
        if target.exists() and not target.is_file() and not target.is_dir():
            with target.open("w", encoding="utf-8", newline="") as pipe:  # a pipe or a device is never replaced
                yield pipe
            return
        if target.is_dir():
            raise Refused(f"{target} is a folder; nothing was written.", hint="Name a file in it.")
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:100]}.", dir=target.parent)
        part = Path(name)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
                if not private:
                    os.fchmod(file.fileno(), 0o666 & ~_umask())
            part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except FileNotFoundError:
        raise NotFound(
            f"There is no folder {target.parent}; nothing was written.", hint=f"Make it first: mkdir -p {target.parent}"
        ) from None
    except OSError as error:
        raise Refused(
            f"{target} cannot be written: {error.strerror}. What stood there before is still there.",
            hint="Check the folder's permissions and the space that is left, or name another file.",
        ) from None


def placed_whole(target: Path, content: bytes, *, private: bool) -> None:
    """The same for a file of bytes that is made already.

    Raises:
        NotFound: there is no such folder.
        Refused: the file cannot be written there.
    """
    with written_whole(target, private=private) as file:
        file.flush()
        file.buffer.write(content)


def _umask() -> int:
    """What new files of this process keep from others. It can only be asked for by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


# --- Rows ----------------------------------------------------------------------------------------


def _users(session: Session, *, show_phone: bool) -> Iterator[Sequence[Cell]]:
    for user_id, name, phone in bulk_rows.stream_users(session):
        yield user_id, name, phones.shown(phone, whole=show_phone)


def _markets(session: Session, market_id: str | None) -> tuple[Sequence[str], Iterator[Sequence[Cell]]]:
    """The rules beyond the fee have their columns only where a market has other ones than the usual."""
    found = [market_cells(market, names) for market, names in bulk_rows.all_markets(session, market_id)]
    usual = {"rounding": "house", "break_unit_cents": "1", "dead_heat": "stake", "min_dividend": "none"}
    usual["min_dividend_bps"] = "10000"
    needed = [name for name, value in usual.items() if any(cells[name] != value for cells in found)]
    names = (*MARKET_COLUMNS.header, *needed)
    return names, ([cells[name] for name in names] for cells in found)


def _bets(session: Session, market_id: str | None) -> tuple[Sequence[str], Iterator[Sequence[Cell]]]:
    """Where the stakes came from has its column only where one came from a wallet."""
    with_funding = bulk_rows.any_from_a_wallet(session, market_id)

    def rows() -> Iterator[Sequence[Cell]]:
        for bet_id, market, outcome, user_id, cents, funding, placed_at, cancelled_at in bulk_rows.stream_bets(
            session, market_id
        ):
            row = (bet_id, market, user_id, outcome, plain_kes(cents), format_time(placed_at), _time(cancelled_at))
            yield (*row, str(Funding(funding))) if with_funding else row

    return (BET_COLUMNS.names if with_funding else BET_COLUMNS.header), rows()


def _payouts(session: Session, market_id: str | None, *, show_phone: bool) -> Iterator[Sequence[Cell]]:
    for payout, (slug, name, phone, number, attempt_id, conversation_id, receipt) in bulk_rows.stream_payouts(
        session, market_id
    ):
        what = (payout.id, payout.market_id, slug, payout.settlement_no, payout.user_id, name)
        owed = (str(payout.kind), payout.leg, payout.amount_cents, payout.wire_cents, str(payout.status))
        sent = (number, attempt_id, conversation_id, receipt, payout.failure_code)
        said = (_told(text, show_phone=show_phone) for text in (payout.failure_reason, payout.note))
        times = map(_time, (payout.not_before, payout.created_at, payout.updated_at))
        yield (*what, phones.shown(phone, whole=show_phone), *owed, *sent, *said, *times)


def _entries(session: Session, market_id: str | None) -> Iterator[Sequence[Cell]]:
    for entry, key, kind, at, line, account, owner, cents in bulk_rows.stream_postings(session, market_id):
        yield entry, key, kind, _time(at), line, account, owner or None, cents


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)


def _told(text: str | None, *, show_phone: bool) -> str | None:
    """What M-Pesa or a person wrote may hold a phone."""
    return text if text is None or show_phone else phones.mask_in(text)


# --- Writing -------------------------------------------------------------------------------------


def _write_csv(write: Write, names: Sequence[str], text: Sequence[str], rows: Iterable[Sequence[Cell]]) -> int:
    """A header line, then a line a record; lines end with a line feed."""
    out = csv.writer(SimpleNamespace(write=write), lineterminator="\n")
    out.writerow(names)
    words = [place for place, name in enumerate(names) if name in text]
    count = 0
    for row in rows:
        count += 1
        cells = list(row)
        for place in words:
            cell = cells[place]
            if isinstance(cell, str):
                cells[place] = guard(cell)
        out.writerow(cells)
    return count


def _write_jsonl(write: Write, names: Sequence[str], rows: Iterable[Sequence[Cell]]) -> int:
    """A line of JSON a record; what has no value is null."""
    encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    count = 0
    for row in rows:
        count += 1
        write(encode(dict(zip(names, row, strict=True))) + "\n")
    return count
