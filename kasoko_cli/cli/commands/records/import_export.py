"""Records in and out of files: `import` and `export`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import AnyBlock, WrongUsage, argument, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.progress import progress
from kasoko_cli.cli.parsing import amount_of, count_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.exchange.import_records import Imported, ImportPlan, Kind, Note
    from kasoko_cli.operations.shared.record_files import Columns, Format, ReadAs

imports = Commands("import")
exports = Commands("export")

InFile = Annotated[Path, argument("FILE", "A .csv, .tsv, .xlsx, .jsonl or .ndjson file; - for stdin.")]
InFormat = Annotated[
    Literal["csv", "jsonl", "xlsx"] | None,
    option("--format", None, "How records are held; else as the name ends.", show_default=False),
]
PlanImport = Annotated[bool, flag("--plan", "Show how the file is read and what would change; write nothing.")]
Map = Annotated[
    list[str] | None,
    option("--map", "NAME=HEADER", "Which header of the file a column has; - for none.", show_default=False),
]
Sheet = Annotated[str | None, option("--sheet", "NAME", "The sheet of a workbook.")]
Timezone = Annotated[str | None, option("--timezone", "ZONE", "Whose clock, where a time has no offset.")]
Dates = Annotated[
    Literal["dmy", "mdy"] | None,
    option("--dates", None, "The order of dates like 05/03/2027.", show_default=False),
]
FormatName = Annotated[
    Literal["csv", "jsonl"] | None,
    option("--format", None, "How records are held; else as the name ends.", show_default=False),
]
OutFile = Annotated[
    Path | None, option("--output", "FILE", "Write it there, whole or not at all; else to stdout.", short="-o")
]
OfMarket = Annotated[str | None, option("--market", "MARKET", "Only of this market: id or slug.")]
ShowPhone = Annotated[bool, flag("--show-phone", "Whole phones; that you did is recorded.")]


@imports.writes("users")
def import_users(
    call: CommandContext,
    file: InFile,
    form: InFormat = None,
    plan: PlanImport = False,
    map_: Map = None,
    sheet: Sheet = None,
    any_block: AnyBlock = False,
) -> None:
    """Take in users from a file, all of them or none.

    Its columns are: user_id,name,phone

    Examples:
      kasoko import users members.xlsx --plan --map phone='Mobile No'
      kasoko import users users.csv
      kasoko import users - --format jsonl < users.ndjson

    A user who is known with the same name and phone is left alone, so the same
    file can be taken in again; the same id with another name or phone is not.

    Exit status: 0 done, 4 no such file, 5 refused: every bad line is named, 9
    another run took in the same.
    """
    from kasoko_cli.operations.exchange.import_records import users_kind

    _import(call, file, users_kind(any_block=any_block), _Options(form, plan, map_, sheet))


@imports.writes("markets")
def import_markets(
    call: CommandContext,
    file: InFile,
    form: InFormat = None,
    plan: PlanImport = False,
    map_: Map = None,
    sheet: Sheet = None,
    timezone: Timezone = None,
    dates: Dates = None,
) -> None:
    """Take in markets from a file, all of them or none.

    Its columns are: market_id,slug,question,outcomes,closes_at,fee_bps
    (outcomes parted by a bar; the fee in basis points: 500 is 5 %; or fee_pct,
    in percent), and as you like:
    rounding,break_unit_cents,dead_heat,min_dividend,min_dividend_bps

    Examples:
      kasoko import markets markets.xlsx --plan
      kasoko import markets markets.csv --dates dmy

    A market that is known with the same content is left alone, so the same
    file can be taken in again; the same id with other content is refused.

    Exit status: 0 done, 4 no such file, 5 refused: every bad line is named, 9
    another run took in the same.
    """
    from kasoko_cli.operations.exchange.import_records import markets_kind

    _import(call, file, markets_kind(), _Options(form, plan, map_, sheet, timezone, dates))


@imports.writes("bets")
def import_bets(
    call: CommandContext,
    file: InFile,
    form: InFormat = None,
    funding: Annotated[
        Literal["collected", "wallet"],
        option("--funding", None, "The platform took the stakes already, or the wallets here pay them."),
    ] = "collected",
    plan: PlanImport = False,
    map_: Map = None,
    sheet: Sheet = None,
    timezone: Timezone = None,
    dates: Dates = None,
) -> None:
    """Take in bets from a file and book their stakes, all of them or none.

    Its columns are:
      bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at
    (market_id is the id or the slug; cancelled_at may be missing) and as you
    like: funding (collected or wallet, for this bet)

    Examples:
      kasoko import bets bets.xlsx --plan --map stake_kes=Amount
      kasoko import bets bets.csv --funding wallet

    A bet that is known with the same content is left alone, so the same file
    can be taken in again. A new bet needs an open market. A late bet is taken
    in, and given back when its market is settled.

    Exit status: 0 done, 4 no such file, 5 refused: every bad line is named, 9
    another run took in the same.
    """
    from kasoko_cli.operations.exchange.import_bets import bets_kind
    from kasoko_cli.store.schema.tables import Funding

    _import(call, file, bets_kind(Funding(funding)), _Options(form, plan, map_, sheet, timezone, dates))


@dataclass(frozen=True)
class _Options:
    """What the options of an import say."""

    form: str | None
    plan: bool
    columns: list[str] | None
    sheet: str | None
    timezone: str | None = None
    dates: str | None = None

    def read_as(self, call: CommandContext, columns: Columns) -> ReadAs:
        """How the file is to be read: by these, and else by the settings."""
        from kasoko_cli.operations.shared.record_header import read_as

        usual = call.container.config.files
        read = read_as(
            columns,
            said=self.columns or (),
            usual=usual.columns,
            timezone=self.timezone or usual.timezone,
            order=self.dates or usual.dates,
        )
        return replace(read, sheet=self.sheet)


def _import(call: CommandContext, path: Path, kind: Kind, options: _Options) -> None:
    """Open the file, take it in, and say what became of it; a refusal tells programs every line."""
    from kasoko_cli.operations.exchange.import_records import ImportPlan, plan_import, take_in
    from kasoko_cli.operations.shared.record_files import FileRefused, InputFile, open_input, spooled

    from_stdin = path == Path("-")
    chosen = _format(options.form, path, usual=None)
    read_as = options.read_as(call, kind.columns)
    stream = spooled(sys.stdin.buffer) if from_stdin else open_input(path)
    # A name that is not UTF-8 is shown with its bytes spelt out: neither database could keep it.
    name = "stdin" if from_stdin else path.name.encode("utf-8", "backslashreplace").decode()
    file = InputFile(name, stream, chosen, read_as)
    try:
        with stream, progress(call, f"Lines of {name}") as bar:
            done = (plan_import if options.plan else take_in)(call.context, file, kind, told=bar)
    except FileRefused as refused:
        if call.json and not options.plan:
            render.document({"file": name, "new": 0, "problems": refused.problems})
        raise
    if isinstance(done, ImportPlan):
        _show_plan(call, done, kind.columns.times)
        _refuse_if_wrong(done)
        return
    call.ended_well("import")
    _tell_notes(call, done.notes)
    render.answer(call, done, _counts(done))


def _refuse_if_wrong(plan: ImportPlan) -> None:
    from kasoko_cli.operations.shared.record_files import FileRefused

    if plan.problems:
        raise FileRefused(plan.file, plan.problems)


def _counts(done: Imported | ImportPlan) -> str:
    """`4,030 bets: 4,030 new, 0 known; KES 3,999,231.02 staked, 43 cancelled`."""
    staked = f"; {amount_of(done.stake_cents)} staked, {done.cancelled:,} cancelled" if done.stake_cents else ""
    return f"{_rows_of(done.new + done.known, done.kind)}: {done.new:,} new, {done.known:,} known{staked}"


def _tell_notes(call: CommandContext, notes: Sequence[Note]) -> None:
    """Say what should be known of the file: what is unusual in it is a warning."""
    if call.json:
        return
    for note in notes:
        (render.warn if note.kind in ("late", "future", "shared_phone") else render.talk)(call, note.what)


def _on_screen(column: str, cell: str, times: Sequence[str]) -> str:
    from kasoko_cli.domain.time_text import parse_time

    return local(parse_time(cell)) if cell and column in times else cell


def _show_plan(call: CommandContext, plan: ImportPlan, times: Sequence[str]) -> None:
    """Show how the file is read, its first records, and what would change."""
    if call.json:
        render.document(plan)
        return
    read = plan.understood
    how = (read.format, read.sheet and f"sheet {read.sheet}", read.delimiter and f"parted by {read.delimiter}")
    pairs: list[tuple[str, object]] = [
        ("file", plan.file),
        ("read as", ", ".join(part for part in (*how, read.encoding) if part)),
        *((column, f"column {header!r}") for column, header in read.columns.items()),
    ]
    render.card(call, f"How {plan.file} is read", pairs)
    if plan.first:
        columns = render.columns(*plan.first[0])
        rows = [[_on_screen(name, cell, times) for name, cell in one.items()] for one in plan.first]
        render.table(call, "Its first records", columns, rows)
    _tell_notes(call, plan.notes)
    render.line(f"{_counts(plan)}, {count_of(len(plan.problems), 'problem')}; nothing was written.")


@exports.reads("users")
def export_users(
    call: CommandContext, output: OutFile = None, form: FormatName = None, show_phone: ShowPhone = False
) -> None:
    """Write every user, as `import users` reads them.

    Phones are masked, and such a file cannot be imported; with --show-phone it
    can, and only you can read it.

    Example: kasoko export users --show-phone --output users.csv

    Example: kasoko export users --format jsonl

    Exit status: 0 done, 4 no such folder, 5 it cannot be written.
    """
    _export(call, "users", output, form, show_phone=show_phone)


@exports.reads("markets")
def export_markets(
    call: CommandContext, output: OutFile = None, form: FormatName = None, market: OfMarket = None
) -> None:
    """Write markets, as `import markets` reads them.

    How a market ended is not in it. A text that a spreadsheet would take for a
    formula begins with an apostrophe, which `import` takes away again.

    Example: kasoko export markets --output markets.csv

    Example: kasoko export markets --market rain

    Exit status: 0 done, 4 no such market or folder, 5 it cannot be written.
    """
    _export(call, "markets", output, form, market=market)


@exports.reads("bets")
def export_bets(call: CommandContext, output: OutFile = None, form: FormatName = None, market: OfMarket = None) -> None:
    """Write bets, as `import bets` reads them.

    If a stake came from a wallet there is a column more, funding.

    Example: kasoko export bets --market rain --output bets.jsonl

    Example: kasoko export bets --market rain

    Exit status: 0 done, 4 no such market or folder, 5 it cannot be written.
    """
    _export(call, "bets", output, form, market=market)


@exports.reads("payouts")
def export_payouts(
    call: CommandContext,
    output: OutFile = None,
    form: FormatName = None,
    market: OfMarket = None,
    show_phone: ShowPhone = False,
) -> None:
    """Write payouts with their states, their latest attempts and receipts.

    Amounts are in cents. A text that a spreadsheet would take for a formula
    begins with an apostrophe.

    Example: kasoko export payouts --market rain --output payouts.csv

    Example: kasoko export payouts --format jsonl

    Exit status: 0 done, 4 no such market or folder, 5 it cannot be written.
    """
    _export(call, "payouts", output, form, market=market, show_phone=show_phone)


@exports.reads("entries")
def export_entries(
    call: CommandContext, output: OutFile = None, form: FormatName = None, market: OfMarket = None
) -> None:
    """Write the books: every line of every entry, debits positive.

    Amounts are in cents. With --market: the entries of its bets, settlements,
    payouts and attempts.

    Example: kasoko export entries --output books.csv

    Example: kasoko export entries --market rain

    Exit status: 0 done, 4 no such market or folder, 5 it cannot be written.
    """
    _export(call, "entries", output, form, market=market)


def _export(
    call: CommandContext,
    kind: str,
    output: Path | None,
    form: str | None,
    *,
    market: str | None = None,
    show_phone: bool = False,
) -> None:
    from kasoko_cli.operations.exchange.export import RecordKind, export, written_whole

    if output == Path("-"):
        output = None
    if call.json and output is None:
        raise WrongUsage("--json tells how it went, and the records go to stdout. Add --output, or use --format jsonl.")
    chosen = _format(form, output, usual="csv")
    if show_phone:
        from kasoko_cli.operations.reporting.finance import note_unmasked

        note_unmasked(call.context, what=f"export {kind}", market=market)
    if output is None:
        done = export(call.container.db, RecordKind(kind), chosen, render.records, market=market, show_phone=show_phone)
        render.talk(call, _rows_of(done.rows, done.kind))
        return
    db = call.container.db  # opened first: no part of a file is left where there is no database
    with written_whole(output, private=show_phone) as file:
        done = export(db, RecordKind(kind), chosen, file.write, market=market, show_phone=show_phone)
    document = {"kind": done.kind, "rows": done.rows, "file": output}
    render.answer(call, document, f"{_rows_of(done.rows, done.kind)} written to {output}")


def _rows_of(number: int, kind: str) -> str:
    """How many of a kind of records: `1 user`, `3 entries`."""
    return count_of(number, "entry" if kind == "entries" else kind.removesuffix("s"), kind)


def _format(form: str | None, path: Path | None, *, usual: str | None) -> Format:
    """As --format says, else as the file's name ends, else as usual."""
    from kasoko_cli.operations.shared.record_files import ENDINGS, Format

    if form is not None:
        return Format(form)
    if path is None and usual is not None:
        return Format(usual)
    known = ENDINGS.get(path.suffix.lower()) if path is not None else None
    if known is None:
        name = "stdin" if path is None or path == Path("-") else str(path)
        raise WrongUsage(f"{name} does not end in .csv, .tsv, .xlsx, .jsonl or .ndjson. Say what it is: --format csv.")
    return known
