"""Reports for finance: a settlement's sheet, the close of a day, charges, incidents."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import MarketId, WrongUsage, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.render import Column

if TYPE_CHECKING:
    from kasoko_cli.cli.output.report_document import Sheet, Table

commands = Commands("report")

FormName = Annotated[
    Literal["table", "csv", "json", "xlsx", "html"] | None,
    option("--format", None, "How; else as the name of --output ends.", show_default=False),
]
Output = Annotated[Path | None, option("--output", "FILE", "Write it there, whole or not at all.", short="-o")]
TableName = Annotated[str | None, option("--table", "NAME", "Which table CSV has; else the first one.")]
Since = Annotated[str | None, option("--since", "DATE", "From this Nairobi day on: 2026-11-24.")]
Until = Annotated[str | None, option("--until", "DATE", "To this Nairobi day, with it.")]
ShowPhone = Annotated[bool, flag("--show-phone", "Whole phones; that you did is recorded.")]


class Form(NamedTuple):
    """How a report is wanted: as what, in which file, and which of its tables where only one fits."""

    form: FormName = None
    output: Output = None
    table: TableName = None


class Days(NamedTuple):
    """From which Nairobi day to which; with no end where one is not named."""

    since: Since = None
    until: Until = None

    def dates(self) -> dict[str, date | None]:
        """Both as operations take them.

        Raises:
            WrongUsage: there is no such day.
        """
        return {"first": _day(self.since), "last": _day(self.until)}


_ENDINGS = {".csv": "csv", ".json": "json", ".xlsx": "xlsx", ".html": "html", ".htm": "html"}


@commands.reads()
def settlement(call: CommandContext, market: MarketId, wanted: Form, show_phone: ShowPhone = False) -> None:
    """Show how MARKET was settled, with every payout.

    The terminal has figures, outcomes and states; the other forms have each
    payout too. Tables: payouts, outcomes, states.

    Example: kasoko report settlement rain

    Example: kasoko report settlement rain --output rain.xlsx

    Exit status: 0 shown, 3 a package is missing, 4 no such market, 5 it was not
    settled yet.
    """
    from kasoko_cli.cli.output.finance_reports import settlement_sheet_of
    from kasoko_cli.operations.reporting import finance

    container = call.container
    if show_phone:
        finance.settlement_sheet(container.db, market)
        finance.note_unmasked(call.context, what="report settlement", market=market)
    found = finance.settlement_sheet(container.db, market, show_phone=show_phone)
    _answer(
        call, settlement_sheet_of(found, container.clock()), found, wanted, private=show_phone, without=("payouts",)
    )


@commands.reads()
def daily(
    call: CommandContext,
    day: Annotated[str | None, option("--date", "DATE", "The Nairobi day, 2026-11-24; else today so far.")] = None,
    *,
    wanted: Form,
) -> None:
    """Show the close of a Nairobi day: balances, payouts, income.

    From the books to the cent: the days add up to them. Tables: accounts,
    entries, hours.

    Example: kasoko report daily

    Example: kasoko report daily --date 2026-11-23 --output day.html

    Exit status: 0 shown, 2 no such date, 3 a package is missing, 5 the day has
    not begun, 8 the books do not balance.
    """
    from kasoko_cli.cli.output.finance_reports import day_sheet_of
    from kasoko_cli.operations.reporting import finance

    container = call.container
    found = finance.day_close(container.db, container.clock, _day(day))
    _answer(call, day_sheet_of(found, container.clock()), found, wanted)
    if not found.is_balanced:
        render.hint(call, "The accounts do not sum to zero: kasoko audit")
        raise typer.Exit(8)


@commands.reads()
def charges(call: CommandContext, days: Days, wanted: Form) -> None:
    """Show what M-Pesa charged, by day, booked and expected.

    Expected is what the tariff says for the payments that arrived; booked is
    what the books have of it. Tables: days.

    Example: kasoko report charges

    Example: kasoko report charges --since 2026-11-01 --format csv

    Exit status: 0 shown, 2 no such date, 3 a package is missing, 5 the days are
    the wrong way round.
    """
    from kasoko_cli.cli.output.finance_reports import charges_sheet_of
    from kasoko_cli.operations.reporting import finance

    container = call.container
    found = finance.charges_report(container.db, container.tariff, **days.dates())
    _answer(call, charges_sheet_of(found, container.clock()), found, wanted)


@commands.reads()
def incidents(call: CommandContext, days: Days, wanted: Form) -> None:
    """Show incidents, the closed ones too, and how each ended.

    Tables: incidents, kinds.

    Example: kasoko report incidents

    Example: kasoko report incidents --since 2026-11-01 --output incidents.html

    Exit status: 0 shown, 2 no such date, 3 a package is missing, 5 the days are
    the wrong way round.
    """
    from kasoko_cli.cli.output.finance_reports import incidents_sheet_of
    from kasoko_cli.operations.reporting import finance

    container = call.container
    found = finance.incidents_report(container.db, **days.dates())
    _answer(call, incidents_sheet_of(found, container.clock()), found, wanted)


@commands.reads()
def taxes(call: CommandContext, days: Days, wanted: Form) -> None:
    """Show tax that was kept back of winners, paid, and due.

    By day and duty, and for files by person too. What was given back counts below
    zero on its own day. Tables: days, people, remitted, due.

    Example: kasoko report taxes --since 2026-11-01 --until 2026-11-30

    Example: kasoko report taxes --format csv --table people

    Exit status: 0 shown, 2 no such date, 3 a package is missing, 5 the days are
    the wrong way round.
    """
    from kasoko_cli.cli.output.finance_reports import taxes_sheet_of
    from kasoko_cli.operations.reporting.taxes import taxes_report

    container = call.container
    found = taxes_report(container.db, **days.dates())
    _answer(call, taxes_sheet_of(found, container.clock()), found, wanted, without=("people",))


@commands.reads()
def proof(
    call: CommandContext,
    market: MarketId,
    output: Annotated[
        Path | None, option("--output", "FILE", "Write the proof there; else to stdout.", short="-o")
    ] = None,
    codes: Annotated[Path | None, option("--codes", "FILE", "Write each bettor's code there, for you alone.")] = None,
    user: Annotated[str | None, option("--user", "USER", "Show the code of this user only.")] = None,
) -> None:
    """Prove how MARKET was settled, to people without the database.

    The proof has every stake and share under a blinded name, the rules, a root
    over them all and a signature. A bettor finds their own share in it with a
    code; nobody else can tell whose it is. Give each bettor only their own.

    Example: kasoko report proof rain --output rain.proof.json --codes codes.csv

    Example: kasoko report proof rain --user wanjiku

    Exit status: 0 written, 4 no such market, or no bet of this user, 5 it is
    not settled, 8 its bets no longer give what was settled.
    """
    from kasoko_cli.operations.exchange.export import written_whole
    from kasoko_cli.operations.settlement import settlement_proof
    from kasoko_cli.operations.shared.names import market_names

    key, db = _key(call), call.container.db
    if user is not None:
        [one] = settlement_proof.codes(db, market, key, user=user)
        render.answer(call, one, one.code, even_quiet=True)
        return
    text = settlement_proof.canonical_file(settlement_proof.prove(db, market, key))
    if codes is not None:
        with written_whole(codes, private=True) as file:
            file.write("user_id,code\n")
            file.writelines(f"{one.user},{one.code}\n" for one in settlement_proof.codes(db, market, key))
    if output is None:
        render.line(text.rstrip("\n"))
        return
    with written_whole(output, private=False) as file:
        file.write(text)
    market_id, slug = market_names(db, market)
    document = {"market": market_id, "slug": slug, "file": output, "codes": codes}
    render.answer(call, document, f"The proof of {slug} is in {output}; check it: kasoko verify {output}")


@commands.reads("proof-key")
def proof_key(call: CommandContext) -> None:
    """Show the public key that proofs are signed with, to publish it.

    The key itself is in proof.key (or KASOKO_PROOF_KEY): keep a copy, and show
    it to nobody.

    Example: kasoko report proof-key

    Example: kasoko report proof-key --json

    Exit status: 0 shown, 3 the key cannot be read.
    """
    from kasoko_cli.domain.keys import public_key_of

    public = public_key_of(_key(call))
    render.answer(call, {"public_key": public}, public, even_quiet=True)


def _key(call: CommandContext) -> bytes:
    from kasoko_cli.operations.settlement import settlement_proof

    settings = call.container.config.proof
    if settings.key is not None:
        return bytes.fromhex(settings.key.get_secret_value())
    return settlement_proof.key_of(Path(settings.key_file), make=True)


def _day(text: str | None) -> date | None:
    """A day as it is written on the command line."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise WrongUsage(f"{text!r} is not a day. Write it as 2026-11-24.") from None


def _answer(
    call: CommandContext,
    sheet: Sheet,
    document: object,
    wanted: Form,
    *,
    private: bool = False,
    without: tuple[str, ...] = (),
) -> None:
    """Answer in the form that was asked for, on stdout or in a file that is there whole or not at all."""
    from kasoko_cli.operations.exchange.export import placed_whole

    output = wanted.output
    form = _form(call, wanted.form, output)
    chosen = _table(sheet, wanted.table)
    if form == "table":
        _show(call, sheet, without)
    elif output is not None:
        placed_whole(output, _written(sheet, document, form, chosen), private=private)
        render.answer(call, {"file": output}, f"Written to {output}")
    elif form == "json":
        render.document(document)
    else:
        render.records(_written(sheet, document, form, chosen).decode())


def _form(call: CommandContext, form: str | None, output: Path | None) -> str:
    if form is None and output is not None:
        form = _ENDINGS.get(output.suffix.lower())
        if form is None:
            raise WrongUsage(f"{output} does not end in .csv, .json, .xlsx or .html. Say what it is: --format csv.")
    if form is None:
        form = "json" if call.json else "table"
    if form == "table" and output is not None:
        raise WrongUsage("A table is for the terminal. For a file take --format csv, json, xlsx or html.")
    if form == "xlsx" and output is None:
        raise WrongUsage("A workbook needs a file: --output report.xlsx")
    return form


def _table(sheet: Sheet, name: str | None) -> Table:
    if name is None:
        return sheet.tables[0]
    found = sheet.table(name)
    if found is None:
        raise WrongUsage(f"There is no table {name!r}. There are: {', '.join(one.name for one in sheet.tables)}.")
    return found


def _written(sheet: Sheet, document: object, form: str, table: Table) -> bytes:
    from kasoko_cli.cli.output.report_document import to_csv, to_xlsx
    from kasoko_cli.cli.output.report_html import to_html

    if form == "xlsx":
        return to_xlsx(sheet)
    if form == "csv":
        return to_csv(table).encode()
    return (to_html(sheet) if form == "html" else render.as_json(document) + "\n").encode()


def _show(call: CommandContext, sheet: Sheet, without: tuple[str, ...]) -> None:
    from kasoko_cli.cli.output.report_document import is_number, shown, told

    facts = [("about", sheet.subtitle), *((name, told(value)) for name, value in sheet.facts)]
    render.card(call, sheet.title, facts)
    for table in sheet.tables:
        if table.name in without or not table.rows:
            continue
        first = table.rows[0]
        columns = [Column(name, right=is_number(value)) for name, value in zip(table.columns, first, strict=True)]
        render.table(call, table.title, columns, [[shown(value) for value in row] for row in table.rows])
    for note in sheet.notes:
        render.talk(call, note)
