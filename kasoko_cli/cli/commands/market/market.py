"""Markets: opened, looked at, closed, called off."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import MarketId, Plan, WrongUsage, argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.parsing import amount_of, count_of, local

if TYPE_CHECKING:
    from kasoko_cli.operations.records.markets import MarketView, OutcomeLine

commands = Commands("market")


@commands.writes()
def add(
    call: CommandContext,
    slug: Annotated[str, argument("SLUG", "Its short name, like long-rains.")],
    question: Annotated[str, option("--question", "TEXT", "What is asked.", show_default=False)],
    outcome: Annotated[list[str], option("--outcome", "NAME", "An answer; give two or more.", show_default=False)],
    closes_at: Annotated[
        str, option("--closes-at", "TIME", "Like 2026-12-01T15:00:00Z or +03:00.", show_default=False)
    ],
    market_id: Annotated[str | None, option("--id", "ID", "Its id; else its slug.")] = None,
    fee_pct: Annotated[str | None, option("--fee-pct", "PCT", "The takeout in percent, like 5.00.")] = None,
    fee_bps: Annotated[int | None, option("--fee-bps", "N", "The same in basis points: 500 is 5 %.")] = None,
) -> None:
    """Open a market.

    The rules that are not given come from the settings, and are frozen when the
    market closes.

    Example: kasoko market add rain --question 'Will it rain on Friday?' --outcome
    Yes --outcome No --closes-at 2026-12-01T15:00:00+03:00

    Example: kasoko market add cup --question 'Who wins?' --outcome Home --outcome
    Draw --outcome Away --closes-at 2026-12-06T13:00:00Z --fee-pct 7.50

    Exit status: 0 it stands, 5 the rules refuse it.
    """
    from kasoko_cli.domain.market import Rules
    from kasoko_cli.domain.money import parse_percent_bps
    from kasoko_cli.domain.time_text import parse_time
    from kasoko_cli.operations.records import markets

    if fee_pct is not None and fee_bps is not None:
        raise WrongUsage("Say the fee once: --fee-pct or --fee-bps.")
    default = call.container.config.market
    if fee_bps is None:
        fee_bps = default.fee_bps if fee_pct is None else parse_percent_bps(fee_pct)
    rules = Rules(
        fee_bps=fee_bps,
        rounding=default.rounding,
        break_unit_cents=default.break_unit_cents,
        dead_heat=default.dead_heat,
        min_dividend=default.min_dividend,
        min_dividend_bps=default.min_dividend_bps,
    )
    is_new = markets.add_market(
        call.context,
        markets.NewMarket(
            market_id=market_id or slug,
            slug=slug,
            question=question,
            outcomes=outcome,
            closes_at=parse_time(closes_at),
            rules=rules,
        ),
    )
    did = "opened" if is_new else "stands already, and was not changed"
    _tell(call, (market_id or slug, slug), did, changed=is_new)


@commands.reads("list")
def list_(call: CommandContext) -> None:
    """List the markets, the latest to close first.

    Example: kasoko market list

    Example: kasoko market list --json

    Exit status: 0 listed.
    """
    from kasoko_cli.operations.records import markets

    found = markets.list_markets(call.container.db)
    columns = render.columns("market", "status", "closes", "outcome", "question")
    rows = [
        (
            one.slug,
            f"{one.status}, settled" if one.settled else one.status,
            local(one.closes_at),
            one.resolved_outcome,
            one.question,
        )
        for one in found
    ]
    render.table(call, "Markets", columns, rows, document={"markets": found})


@commands.reads()
def show(call: CommandContext, market: MarketId) -> None:
    """Show one market: its rules, and the pool of each outcome.

    Beside each pool stands what a shilling on that outcome returns if it wins
    as things stand: by the rules of settling, fee taken off, rounded down.

    Example: kasoko market show rain

    Example: kasoko market show rain --json

    Exit status: 0 shown, 4 no such market.
    """
    from kasoko_cli.operations.records import markets

    view = markets.show_market(call.container.db, market, call.container.clock)
    rules = ", ".join(f"{name} {value}" for name, value in view.rules.items())
    pairs: list[tuple[str, object]] = [
        ("market", view.slug),
        ("id", view.id),
        ("question", view.question),
        ("status", view.status),
        ("closes", local(view.closes_at)),
        ("resolved as", view.resolved_outcome),
        ("rules", rules),
        *((f"on {line.name}", _pool_of(line)) for line in view.outcomes),
        ("all stakes", amount_of(view.gross_cents)),
        *_unusual(view),
    ]
    render.card(call, view.question, pairs, document=view)


def _pool_of(line: OutcomeLine) -> str:
    """`KES 1,500.00 in 3 bets; a shilling returns KES 1.26`."""
    pool = f"{amount_of(line.stake_cents)} in {count_of(line.bets, 'bet')}"
    if line.pool_cents != line.stake_cents:
        pool += f", of which {amount_of(line.pool_cents)} take part"
    if line.returns_cents is None:
        return f"{pool}; if it wins, every stake goes back"
    return f"{pool}; a shilling returns {amount_of(line.returns_cents)}"


def _unusual(view: MarketView) -> list[tuple[str, object]]:
    """What an operator should look at before the market is settled."""
    told: list[tuple[str, object]] = []
    if view.late_bets:
        told.append(
            ("late", f"{count_of(view.late_bets, 'bet')}, {amount_of(view.late_cents)}: settling gives it back")
        )
    if view.future_bets:
        told.append(("future", f"{count_of(view.future_bets, 'bet')} placed later than now"))
    if view.shared_phones:
        shown = "; ".join(", ".join(users) for users in view.shared_phones[:3])
        more = "; ..." if len(view.shared_phones) > 3 else ""
        told.append(("shared phone", f"{count_of(len(view.shared_phones), 'phone')} of several bettors: {shown}{more}"))
    return told


@commands.writes()
def close(call: CommandContext, market: MarketId) -> None:
    """Stop bets on MARKET now, and freeze its rules and its bets.

    Example: kasoko market close rain

    Example: kasoko market close rain --reason 'the match has begun'

    Exit status: 0 it is closed, 4 no such market, 5 it is void.
    """
    from kasoko_cli.operations.records import markets
    from kasoko_cli.operations.shared.names import market_names

    names = market_names(call.container.db, market)
    closed = markets.close_market(call.context, market=names[0])
    _tell(call, names, "closed" if closed else "was closed already", changed=closed)


@commands.writes()
def void(call: CommandContext, market: MarketId, plan: Plan = False) -> None:
    """Call MARKET off: settling it then gives every stake back and takes no fee.

    Example: kasoko market void rain --plan

    Example: kasoko market void rain --yes --reason 'the match was abandoned'

    Exit status: 0 it is void, 4 no such market, 5 it was resolved before.
    """
    from kasoko_cli.operations.records import markets
    from kasoko_cli.operations.shared.rehearsal import rehearse

    act = partial(markets.void_market, market=market)
    if plan or not call.yes:
        found = rehearse(call.context, act)
        stakes = f"{count_of(sum(one.bets for one in found.outcomes), 'bet')}, {amount_of(found.gross_cents)}"
        if plan:
            render.planned(call, found, f"{found.slug} would be void, and its stakes given back: {stakes}.")
            return
        question = f"Call {found.slug} off? Its stakes are given back ({stakes}), and this cannot be undone."
        render.confirm_or_leave(call, question, otherwise="Nothing was changed.")
    view = act(call.context)
    _tell(call, (view.id, view.slug), f"is void; give the stakes back: kasoko settle {view.slug}", changed=True)


def _tell(call: CommandContext, names: tuple[str, str], did: str, *, changed: bool) -> None:
    market_id, slug = names
    render.answer(call, {"market": market_id, "slug": slug, "changed": changed}, f"{slug} {did}.")
