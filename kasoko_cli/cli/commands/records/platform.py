"""The operator's platform: what it shows us, what comes in from there, and what it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import AnyBlock, WrongUsage, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import count_of
from kasoko_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from kasoko_cli.operations.exchange.platform_mirror import Mirrored
    from kasoko_cli.operations.exchange.platform_sync import Difference

connect = Commands("connect")
commands = Commands()

#: How many rows are named; the JSON has all.
_NAMED = 10

Source = Annotated[str | None, option("--source", "URL", "The platform's PostgreSQL; else the setting platform.url.")]


@connect.reads("django")
def django(
    call: CommandContext,
    print_sql: Annotated[bool, flag("--print-sql", "Print it; nothing is executed.")] = False,
    role: Annotated[str, option("--role", "NAME", "Who may read the views.")] = "kasoko",
    tables: Annotated[
        list[str] | None, option("--table", "WHAT=NAME", "Another table: market, bet or user.", show_default=False)
    ] = None,
    columns: Annotated[
        list[str] | None, option("--column", "WHAT=NAME", "Another column; - for none.", show_default=False)
    ] = None,
    outcomes: Annotated[str, option("--outcomes", "NAMES", "Those of every market, parted by bars.")] = "Yes|No",
    unfinished: Annotated[
        list[str] | None, option("--take", "STATUS", "A market's status in which it comes in.", show_default=False)
    ] = None,
    stake_in_cents: Annotated[bool, flag("--stake-in-cents", "Stakes are in cents, not in shillings.")] = False,
    mirror: Annotated[bool, flag("--mirror", "Also the table that results are written to, by kasoko mirror.")] = False,
) -> None:
    """Print the SQL that shows kasoko the tables of a Django platform.

    It makes a schema kasoko with the views source_markets, source_bets and
    source_users, and lets one role read them and nothing else. Your database's
    administrator runs it. Columns are named like bet.stake=amount.
    With --mirror, or where platform.mirror is set, it also makes the table
    kasoko.results, which that role may write.

    Example: kasoko connect django --print-sql

    Example: kasoko connect django --print-sql --table bet=core_bet
      --column bet.stake=amount --column market.fee=- --take OPEN

    Exit status: 0 done, 5 a name cannot stand in SQL.
    """
    from kasoko_cli.operations.exchange import platform_views

    if not print_sql:
        raise WrongUsage("Nothing is executed from here. To see the SQL: kasoko connect django --print-sql")
    shape = platform_views.Shape(
        tables=platform_views.renamed(platform_views.TABLES, tables or [], what="table"),
        columns=platform_views.renamed(platform_views.COLUMNS, columns or [], what="column"),
        outcomes=outcomes.split("|"),
        fee_bps=call.container.config.market.fee_bps,
        stake_in_cents=stake_in_cents,
        unfinished=unfinished or platform_views.UNFINISHED,
    )
    sql = platform_views.sql_for(shape, role, mirror=mirror or call.container.config.platform.mirror)
    if call.json:
        render.document({"sql": sql})
    else:
        render.records(sql)


@commands.writes()
def sync(
    call: CommandContext,
    source: Source = None,
    plan: Annotated[bool, flag("--plan", "Show what would come in; keep nothing.")] = False,
    check: Annotated[bool, flag("--check", "Hold the bets of closed markets against the platform's.")] = False,
    any_block: AnyBlock = False,
) -> None:
    """Take in what is new on the platform: users, markets and bets.

    It reads the views of kasoko connect. A bet that the platform took back
    before the close is taken back here too. Whatever else it changed is told,
    and stays here as it was. A market that it ended or lacks, or of which it
    lacks a bet, is not settled until the incident is closed. If a new record is
    not usable, nothing comes in.

    Example: kasoko sync --plan

    Example: kasoko sync --check

    Exit status: 0 done, 3 the platform cannot be read, 5 a new record is not
    usable, 8 the platform has something otherwise, 9 another run was faster.
    """
    from kasoko_cli.operations.exchange import platform_sync as operation

    if plan and check:
        raise WrongUsage("--check changes nothing anyway. Leave --plan out.")
    with call.container.platform(source) as theirs:
        if check:
            compared = operation.compare(call.container.db, theirs)
            found = f"{count_of(len(compared.differences), 'difference')}."
            if not compared.differences:
                found = "the platform has them as they stand here."
            _say(call, f"{count_of(compared.markets, 'closed market')}, {count_of(compared.bets, 'bet')}: {found}")
            _end(call, compared, compared.differences)
            return
        try:
            synced = operation.sync(call.context, theirs, plan=plan, any_block=any_block)
        except operation.PlatformRefused as refused:
            if call.json:
                render.document({"problems": refused.problems})
            raise
    for part in synced.parts:
        more = f", {part.taken_back:,} taken back" if part.taken_back else ""
        more += f", {part.left_out:,} left out" if part.left_out else ""
        _say(call, f"{part.kind}: {part.new:,} new, {part.known:,} known{more}")
    if not plan and not synced.differences:
        call.ended_well("sync")
    if plan:
        render.talk(call, "This was a plan; nothing was kept. To take it in: kasoko sync")
    _end(call, synced, synced.differences)


@commands.writes()
def mirror(
    call: CommandContext,
    source: Source = None,
    plan: Annotated[bool, flag("--plan", "Show what waits to be told; tell nothing.")] = False,
    again: Annotated[bool, flag("--again", "Tell everything anew, as after the platform was restored.")] = False,
    stop: Annotated[bool, flag("--stop", "From now on nothing is noted for it, on any host.")] = False,
) -> None:
    """Tell the platform how markets ended and what became of payouts.

    It writes the platform's table kasoko.results and nothing else; no balance of
    the platform is touched. Off unless platform.mirror is set. The first call
    notes all that stands; each later change is noted as it is made. What was not
    told waits. Safe from cron, and on several hosts at once. --again names each
    row that is newer there than all that is known here.

    Example: kasoko mirror --plan

    Example: kasoko mirror --quiet

    Exit status: 0 done, 3 off, or the platform cannot be written, 8 a row there
    is newer (--again).
    """
    from kasoko_cli.operations.exchange import platform_mirror

    if plan + again + stop > 1:
        raise WrongUsage("--plan, --again and --stop are three different things. Say one of them.")
    container = call.container
    if stop:
        ended = platform_mirror.stop(call.context)
        if call.json:
            render.document({"stopped": ended})
        _say(call, "The platform is told nothing from now on." if ended else "The platform was told nothing before.")
    elif plan:
        _tell_mirrored(call, platform_mirror.look(container.db), plan=True)
    elif not container.config.platform.mirror:
        raise ConfigurationError(
            "Writing results back is off (platform.mirror). Nothing was written.",
            hint="Read kasoko connect django --help, then set mirror = true under [platform] in kasoko.toml.",
        )
    else:
        with container.platform(source) as theirs:
            found = platform_mirror.mirror(call.context, theirs, again=again)
        _tell_mirrored(call, found, plan=False)


def _tell_mirrored(call: CommandContext, found: Mirrored, *, plan: bool) -> None:
    """What was told and what waits; exits with 8 where the platform knows something newer."""
    if call.json:
        render.document(found)
    if found.began:
        _say(call, "From now on each result is noted for the platform, whoever makes it.")
    if not plan:
        _say(call, f"Told: {_things(found.markets, found.payouts)}.")
    if not found.is_on:
        _say(call, "Nothing is noted for the platform yet. The first kasoko mirror notes all that stands.")
    elif plan or found.waiting_markets or found.waiting_payouts:
        _say(call, f"Waiting to be told: {_things(found.waiting_markets, found.waiting_payouts)}.")
    if found.newer:
        if not call.json:
            names = ", ".join(found.newer[:_NAMED]) + (", ..." if len(found.newer) > _NAMED else "")
            render.line(f"{len(found.newer):,} newer there than all that is known here, and left as it was: {names}")
        render.hint(
            call,
            "This database may be an older copy than the one that told the platform; then payouts may have been sent"
            " that it does not know of. Send nothing before: kasoko doctor --after-restore",
        )
        raise typer.Exit(8)


def _things(markets: int, payouts: int) -> str:
    return f"{count_of(markets, 'market')}, {count_of(payouts, 'payout')}"


def _say(call: CommandContext, text: str) -> None:
    if not call.json:
        render.did(call, text)


def _end(call: CommandContext, answer: object, differences: list[Difference]) -> None:
    """The whole answer to programs; to people each difference. Exits with 8 where there is one."""
    if call.json:
        render.document(answer)
    else:
        for one in differences:
            render.line(str(one))
    if differences:
        render.hint(call, "Nothing here was overwritten. Find out who changed the platform, and why, before you pay.")
        raise typer.Exit(8)
