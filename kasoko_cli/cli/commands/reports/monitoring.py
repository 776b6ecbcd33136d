"""What monitoring asks and alerts tell: `metrics`, `notify`, and the one line of `status --check`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.help.panels import HOUSE
from kasoko_cli.cli.output import render

if TYPE_CHECKING:
    from kasoko_cli.operations.monitoring.health import Health

metrics = Commands("metrics", "Figures for Prometheus, and the rules that alert on them.", panel=HOUSE)
commands = Commands()


def check(call: CommandContext) -> None:
    """Say in one line whether all is well, as monitoring reads it, and exit by it: 0 or 8."""
    from kasoko_cli.operations.monitoring.health import check_health

    container = call.container
    health = check_health(container.db, container.clock, container.limits_of_health)
    if call.json:
        render.document(
            {"ok": health.ok, "state": health.state, "findings": health.findings, "figures": health.figures}
        )
    elif not (call.quiet and health.ok):
        render.line(_one_line(health))
        for finding in health.findings:
            render.line(f"{finding.state}: {finding.what}. {finding.do}")
    if not health.ok:
        raise typer.Exit(8)


def _one_line(health: Health) -> str:
    """`KASOKO OK - 1,200 payouts completed ... | success=100.00%;99 failed=0`: plugin output with perfdata."""
    from kasoko_cli.operations.monitoring.health import percent

    now = health.figures
    if health.findings:
        said = "; ".join(finding.what for finding in health.findings)
    else:
        rate = "none ended" if now.success_bps is None else f"{percent(now.success_bps)} succeeded"
        said = f"{now.completed + now.failed:,} payouts ended in the window, {rate}; nothing to do"

    def age(since: datetime | None) -> int:
        return 0 if since is None else max(0, round((now.at - since).total_seconds()))

    figures: list[tuple[str, str]] = [
        *([] if now.success_bps is None else [("success", percent(now.success_bps).replace(" ", ""))]),
        ("failed", str(now.failed_lately)),
        ("unknown", str(now.unknown)),
        ("unknown_age", f"{age(now.unknown_since)}s"),
        ("due_age", f"{age(now.due_since)}s"),
        ("in_flight", str(now.in_flight)),
        ("incidents", str(sum(now.incidents.values()))),
        *([] if now.daraja_p95_ms is None else [("daraja_p95", f"{now.daraja_p95_ms}ms")]),
        *([("settlement", f"{now.settled[-1].seconds}s")] if now.settled else []),
    ]
    # A bar would begin the figures: a reason that an operator typed may hold one.
    return (
        f"KASOKO {health.state} - {said.replace('|', '/')} | {' '.join(f'{name}={value}' for name, value in figures)}"
    )


@metrics.reads(answers=False)
def write(
    call: CommandContext,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The collector's folder.", show_default=False)],
) -> None:
    """Write kasoko.prom into DIR, for node_exporter's textfile collector.

    The file is replaced as a whole: a collector never reads a part of one. Run it
    from a timer every minute.

    Example: kasoko metrics write /var/lib/prometheus/node-exporter

    Example: kasoko metrics write . --quiet

    Exit status: 0 written, 3 the folder cannot be written, or the database not
    read.
    """
    from kasoko_cli.operations.monitoring.prometheus import write_metrics

    container = call.container
    written = write_metrics(container.db, container.clock, container.limits_of_health, folder)
    call.ended_well("metrics write")
    if call.json:
        render.document(written)
    else:
        render.talk(call, f"Written to {written.file}, {written.bytes:,} bytes.")


@metrics.reads()
def rules(call: CommandContext) -> None:
    """Print alert rules for Prometheus, with the limits of your settings.

    They say what kasoko status --check says, for those who alert by Prometheus.
    Check them: promtool check rules FILE

    Example: kasoko metrics rules > kasoko.rules.yml

    Example: kasoko metrics rules --json

    Exit status: 0 printed, 3 a setting cannot be used.
    """
    from kasoko_cli.operations.monitoring.alert_rules import alert_rules

    text = alert_rules(call.container.limits_of_health)
    if call.json:
        render.document({"rules": text})
    else:
        render.records(text)


@commands.writes(panel=HOUSE)
def notify(
    call: CommandContext,
    test: Annotated[bool, typer.Option("--test", help="Send one message to every address, to see it arrive.")] = False,
) -> None:
    """Tell people what is not well, once each, and when it is over.

    Goes to the addresses of KASOKO_ALERT_URLS: e-mail, SMS, Slack, Telegram and
    a hundred more (Apprise). Judges by the rules of kasoko status --check. Run it
    from a timer every minute.

    Example: kasoko notify --test

    Example: kasoko notify --quiet

    Exit status: 0 nobody had to be told, or all were told, 3 no address is set,
    or one cannot be read, 6 a message could not be delivered; the next run tries
    again.
    """
    from kasoko_cli.operations.monitoring import alerts as operation

    container = call.container
    courier = operation.courier_for(container.config.alert_urls())
    if test:
        operation.send_test(courier, call.actor)
        told = operation.Notified([], [])
    else:
        told = operation.notify(container.db, container.clock, container.limits_of_health, courier)
    if not test:
        call.ended_well("notify")
    if call.json:
        render.document({"test": test, "told": told.told, "over": told.over})
    elif test:
        render.did(call, "A message went out to every address.")
    elif told.told or told.over:
        render.talk(call, f"Told of {len(told.told)}; over: {len(told.over)}.")
    else:
        render.talk(call, "Nothing new to tell.")
