"""What monitoring asks and alerts tell: `metrics` and `notify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import argument, flag
from kasoko_cli.cli.output import render

metrics = Commands("metrics")
commands = Commands()


@metrics.reads(answers=False)
def write(call: CommandContext, folder: Annotated[Path, argument("DIR", "The collector's folder.")]) -> None:
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


@commands.writes()
def notify(
    call: CommandContext,
    test: Annotated[bool, flag("--test", "Send one message to every address, to see it arrive.")] = False,
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
