"""The listener, until it is told to stop."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import Events, Host, Port, WrongUsage, option
from kasoko_cli.cli.output import render
from kasoko_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from kasoko_cli.daraja.serve import Tls

commands = Commands()


def _renewed(call: CommandContext, tls: Tls) -> None:
    """Read the certificate anew; one that cannot be used is told, and the one of before stays."""
    try:
        tls.reload()
        render.talk(call, f"The certificate was read anew: {tls.cert_file}")
    except ConfigurationError as error:
        render.warn(call, f"{error.message} The one of before stays in use.")


@commands.writes()
def listen(
    call: CommandContext,
    host: Host = None,
    port: Port = None,
    for_: Annotated[str | None, option("--for", "TIME", "So long, like 30m or 2h.")] = None,
    until_settled: Annotated[str | None, option("--until-settled", "MARKET", "Until its payouts are final.")] = None,
    count: Annotated[int | None, option("--count", "N", "Until so many came.", min=1)] = None,
    events: Events = False,
) -> None:
    """Take in the results that M-Pesa posts, until told to stop.

    Each body is stored, then answered, then applied.

    Example: kasoko listen

    Example: kasoko listen --for 30m

    Example: kasoko listen --until-settled rain

    Exit status: 0 stopped as wanted, 3 settings or the address, 4 no such market.
    """
    from kasoko_cli.cli.listening import listening
    from kasoko_cli.cli.output import progress
    from kasoko_cli.cli.signals import stopping
    from kasoko_cli.operations.callbacks import apply_results
    from kasoko_cli.operations.reporting import status_views
    from kasoko_cli.operations.shared.watching import stay

    container = call.container
    telling = progress.Events(container.clock, on=events)
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


def parse_duration(text: str) -> int:
    """`90`, `90s`, `30m`, `2h` in seconds.

    Raises:
        WrongUsage: it is no such text.
    """
    found = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if found is None or not int(found[1]):
        raise WrongUsage(f"{text!r} is not a length of time. Write 90s, 30m or 2h.")
    return int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]
