"""Results: taken in, and asked for."""

from __future__ import annotations

import contextlib
import functools
import re
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help.panels import MPESA
from kasoko_cli.cli.options import Events, MaybeMarketId, WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.cli.output.render import Column
from kasoko_cli.cli.signals import stay, stopping

if TYPE_CHECKING:
    from kasoko_cli.cli.output.progress import Events as Telling
    from kasoko_cli.daraja.serve import Tls
    from kasoko_cli.operations.callbacks.apply_results import Judged
    from kasoko_cli.operations.callbacks.inbox import Inbox
    from kasoko_cli.operations.reconciliation.status_queries import Asked, Contradiction, Reconciled, StillOpen

commands = Commands()

Host = Annotated[str | None, typer.Option("--host", metavar="HOST", help="The address; else of the settings.")]
Port = Annotated[int | None, typer.Option("--port", metavar="PORT", help="The port; else of the settings.")]


@contextlib.contextmanager
def listening(
    call: CommandContext,
    host: str | None = None,
    port: int | None = None,
    *,
    tls: Tls | None = None,
    otherwise: str = "choose another with --port",
    tell: Callable[[Judged], None] = lambda _: None,
) -> Iterator[Inbox]:
    """The listener in this process, beside other work; drains when the block ends.

    It listens on the sockets that systemd hands on, else on the address of the command line, else on that of
    the settings. `tls` is the certificate where the caller renews it; `otherwise` says what to do where a
    listener has the port already; `tell` hears of each callback judged.
    """
    from kasoko_cli.daraja.access_control import AllowList
    from kasoko_cli.daraja.connection_limits import Limits
    from kasoko_cli.daraja.listener import Counts, listener_app, metrics_app
    from kasoko_cli.daraja.serve import Server
    from kasoko_cli.operations.callbacks.inbox import Inbox

    container, counts = call.container, Counts()
    settings = container.config.listener
    allow, tls = AllowList(settings.allow_from), tls or container.tls()
    with contextlib.ExitStack() as stack:
        sockets = _sockets(call, host, port, otherwise)
        for listening_socket in sockets:
            stack.callback(listening_socket.close)
        inbox = Inbox(container.db, container.clock, container.trust, container.caps, tell=tell)
        stack.callback(inbox.close)
        app = listener_app(
            inbox.take,
            container.links,
            clock=container.clock,
            allow=allow,
            trusted_proxies=settings.trusted_proxies,
            misses_per_minute=settings.misses_per_minute,
            counts=counts,
        )
        _more_descriptors(settings.max_connections)
        server = Server(app, sockets=sockets, tls=tls, limits=Limits(connections=settings.max_connections))
        if settings.metrics:
            metrics_host, _, metrics_port = settings.metrics.rpartition(":")
            figures = container.listener_figures(counts, inbox, server.doors)
            beside = Server(metrics_app(figures), host=metrics_host.strip("[]"), port=int(metrics_port))
            stack.enter_context(beside)
            render.talk(call, f"Metrics for Prometheus at {beside.url}/metrics")
        stack.enter_context(server)
        render.talk(call, f"Listening on {server.url} for what M-Pesa posts to {container.config.daraja.callback_url}")
        yield inbox


def _sockets(call: CommandContext, host: str | None, port: int | None, otherwise: str) -> list[socket.socket]:
    """What to listen on.

    Raises:
        ConfigurationError: the address cannot be bound.
    """
    import os
    from pathlib import Path

    from kasoko_cli.daraja import serve
    from kasoko_cli.errors import ConfigurationError

    settings = call.container.config.listener
    if found := serve.inherited(os.environ):
        return found
    if settings.unix_socket and host is None and port is None:
        return [serve.bound_unix(Path(settings.unix_socket))]
    try:
        return [serve.bound(host or settings.host, settings.port if port is None else port)]
    except ConfigurationError as error:
        hint = f"Another process has this port. If it is kasoko listen, {otherwise}; else stop it."
        raise ConfigurationError(error.message, hint=hint) from error


def _more_descriptors(connections: int) -> None:
    """Raise the limit of open files towards what so many connections need, as far as this process may."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + 256
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):  # a stricter sandbox than it says: the doors make room
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))


def _renewed(call: CommandContext, tls: Tls) -> None:
    """Read the certificate anew; one that cannot be used is told, and the one of before stays."""
    from kasoko_cli.errors import ConfigurationError

    try:
        tls.reload()
        render.talk(call, f"The certificate was read anew: {tls.cert_file}")
    except ConfigurationError as error:
        render.warn(call, f"{error.message} The one of before stays in use.")


@commands.writes(panel=MPESA)
def listen(
    call: CommandContext,
    host: Host = None,
    port: Port = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="TIME", help="So long, like 30m or 2h.")] = None,
    until_settled: Annotated[
        str | None, typer.Option("--until-settled", metavar="MARKET", help="Until its payouts are final.")
    ] = None,
    count: Annotated[int | None, typer.Option("--count", metavar="N", min=1, help="Until so many came.")] = None,
    events: Events = False,
) -> None:
    """Take in the results that M-Pesa posts, until told to stop.

    Each body is stored, then answered, then applied.

    Example: kasoko listen

    Example: kasoko listen --for 30m

    Example: kasoko listen --until-settled rain

    Exit status: 0 stopped as wanted, 3 settings or the address, 4 no such market.
    """
    from kasoko_cli.cli.output.progress import Events as Telling
    from kasoko_cli.operations.callbacks import apply_results
    from kasoko_cli.operations.reporting import status_views

    container = call.container
    telling = Telling(container.clock, on=events)
    seconds = None if for_ is None else parse_duration(for_)
    if until_settled is not None:
        status_views.market_status(container.db, until_settled)

    def final() -> bool:
        if until_settled is None:
            return False
        return not status_views.market_status(container.db, until_settled).payouts.pending.count

    for judged in apply_results.apply_waiting(container.db, container.clock, container.trust):
        telling("callback", judged)
    tls = container.tls()
    renew = None if tls is None else functools.partial(_renewed, call, tls)
    heard = listening(call, host, port, tls=tls, tell=lambda judged: telling("callback", judged))
    with stopping(renew=renew) as stopper:
        with heard as inbox:
            stay(stopper, seconds, lambda: final() or (count is not None and inbox.received >= count))
        if call.json or events:
            telling.answer({"received": inbox.received, "applied": inbox.applied})
        else:
            render.talk(call, f"Stopped: {inbox.received:,} received, {inbox.applied:,} applied.")


@commands.writes(panel=MPESA)
def reconcile(
    call: CommandContext,
    market: MaybeMarketId = None,
    host: Host = None,
    port: Port = None,
    now: Annotated[bool, typer.Option("--now", help="Ask about all of them, whenever their turn is.")] = False,
    listen_seconds: Annotated[
        int, typer.Option("--listen-seconds", metavar="N", min=0, help="How long to wait for answers.")
    ] = 120,
    no_listen: Annotated[
        bool, typer.Option("--no-listen", help="Another process listens already; do not wait.")
    ] = False,
    max_seconds: Annotated[
        int | None, typer.Option("--max-seconds", metavar="N", min=1, help="Ask nothing new after this.")
    ] = None,
    events: Events = False,
    statement: Annotated[
        Path | None, typer.Option("--statement", metavar="FILE", help="Compare M-Pesa's statement, CSV or XLSX.")
    ] = None,
    counted: Annotated[
        bool, typer.Option("--counted", help="Its customers' payments are stakes counted already.")
    ] = False,
    account: Annotated[
        str | None, typer.Option("--account", metavar="SHORTCODE", help="Whose statement it is, where it does not say.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="With --statement: look only; write nothing.")] = False,
) -> None:
    """Find out how unknown payouts ended: apply results, ask M-Pesa.

    Sends nothing again. Each payout is asked about on a ladder: 5 min, 15 min, 1
    h, 4 h, 12 h, 24 h.

    With --statement it asks nobody: it compares M-Pesa's organisation statement
    with the books and the results, ends what that proves, and names every
    difference. The same file again changes nothing; kasoko statement undo takes
    one back.

    Example: kasoko reconcile rain --now

    Example: kasoko reconcile --statement utility-2026-11.csv --plan

    Exit status: 0 nothing is unknown, 3 settings, 4 no such market or file, 5 the
    statement was refused, 6 M-Pesa cannot be reached, 7 some are still unknown or
    contradict themselves, 8 the statement differs, 9 another run has this work.
    """
    if statement is not None:
        from kasoko_cli.cli.commands.payout.statement import take

        if market is not None or now:
            raise WrongUsage("A statement is of the whole account: leave MARKET and --now out.")
        take(call, statement, counted=counted, plan=plan, account=account)
        return
    if plan or counted or account is not None:
        raise WrongUsage("--plan, --counted and --account go with --statement FILE.")
    from kasoko_cli.cli.output.progress import Events as Telling
    from kasoko_cli.cli.output.progress import Outcomes, progress
    from kasoko_cli.operations.reconciliation import status_queries as operation
    from kasoko_cli.operations.shared.run_registry import at_work

    container = call.container
    container.config.require_daraja()
    telling = Telling(container.clock, on=events)
    ends_at = None if max_seconds is None else time.monotonic() + max_seconds
    with contextlib.ExitStack() as stack:
        stopper = stack.enter_context(stopping())
        place = at_work(container.db, container.clock, container.new_id, call.act, command="reconcile", market=market)
        work = stack.enter_context(place)
        work.doing = "asking"
        if not no_listen:
            stack.enter_context(
                listening(
                    call,
                    host,
                    port,
                    otherwise="add --no-listen, for it takes the answers",
                    tell=lambda judged: telling("callback", judged),
                )
            )
        with progress(call, "Asking", bar=not telling.on_a_terminal) as tally:
            outcomes = Outcomes(tally)

            def tell(asked: Asked) -> None:
                telling("question", asked)
                outcomes("asked" if asked.taken else "not asked")
                work.count("asked" if asked.taken else "not asked")

            report = operation.ask_around(
                call.context,
                container.gateway,
                container.ask_policy,
                container.trust,
                market=market,
                now_at_once=now,
                should_stop=lambda: stopper.is_set() or (ends_at is not None and time.monotonic() >= ends_at),
                tell=tell,
            )
        waiting = [one.query_id for one in report.asked if one.taken]
        if waiting and not no_listen:
            work.doing = "waiting for answers"
            with progress(call, "Answers", len(waiting), bar=not telling.on_a_terminal) as tally:

                def all_there() -> bool:
                    left = operation.unanswered(container.db, waiting)
                    tally(len(waiting) - left)
                    return not left

                most = listen_seconds if ends_at is None else min(listen_seconds, int(ends_at - time.monotonic()))
                stay(stopper, max(0, most), all_there)
    still = operation.list_open(container.db, market=market)
    _tell(call, report, still, operation.list_contradictions(container.db, market=market), telling, market=market)


def _tell(
    call: CommandContext,
    report: Reconciled,
    still: list[StillOpen],
    contradictions: list[Contradiction],
    telling: Telling,
    *,
    market: str | None,
) -> None:
    from kasoko_cli.cli.parsing import count_of, local
    from kasoko_cli.operations.reconciliation.status_queries import count_failed, next_step

    unknown = [one for one in still if one.status == "UNKNOWN"]
    not_asked = [one for one in report.asked if not one.taken]
    code = 7 if unknown or contradictions else 6 if not_asked else 0
    following = next_step(still, contradictions, report.unaskable)
    failed = 0 if following else count_failed(call.container.db, market=market)
    if call.json or telling.on:
        telling.answer(
            {
                "reconciled": report,
                "open": still,
                "contradictions": contradictions,
                "next": following or None,
                "exit_code": code,
            }
        )
    elif render.unattended(call) and not (code and (report.asked or report.applied or report.reaped)):
        pass  # nothing is unknown, or nothing new was asked and learnt: nobody has to act on it now
    else:
        render.talk(
            call,
            f"{len(report.applied):,} stored results applied, {report.reaped:,} lost senders marked,"
            f" {len(report.asked) - len(not_asked):,} asked about, {report.not_yet:,} not asked yet.",
        )
        for one in not_asked:
            render.talk(call, f"{one.payout_id} could not be asked about: {one.why}")
        if report.next_at is not None:
            render.talk(call, f"The next turn is at {local(report.next_at)}; at once: kasoko reconcile --now")
        columns = [
            Column("payout"),
            Column("status"),
            Column("KES", right=True),
            Column("sent"),
            Column("asked", right=True),
        ]
        columns.append(Column("last answer"))
        rows = [
            (
                one.payout_id,
                one.status,
                render.kes(one.wire_cents),
                local(one.since),
                one.questions,
                one.last_answer or "-",
            )
            for one in still
        ]
        if render.unattended(call):
            from kasoko_cli.cli.output import cron_mail

            render.mail(cron_mail.reconcile_mail(report, still, contradictions))
        elif rows:
            render.table(call, "Still open", columns, rows)
        else:
            render.talk(call, "Nothing is open: the end of every payout that was sent is known.")
        if following:
            render.hint(call, following)
        elif failed:
            render.hint(call, f"{count_of(failed, 'payout')} failed. What may succeed goes again: kasoko retry-failed")
    if code:
        raise typer.Exit(code)


def parse_duration(text: str) -> int:
    """`90`, `90s`, `30m`, `2h` in seconds.

    Raises:
        WrongUsage: it is no such text.
    """
    found = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if found is None or not int(found[1]):
        raise WrongUsage(f"{text!r} is not a length of time. Write 90s, 30m or 2h.")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
