"""The simulator: a Daraja on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from kasoko_cli.cli import render
from kasoko_cli.cli.group import Call, Commands
from kasoko_cli.cli.panels import MPESA
from kasoko_cli.cli.params import WrongUsage
from kasoko_cli.cli.stopping import stay, stopping

if TYPE_CHECKING:
    from kasoko_cli.daraja.simulator.app import Simulator

commands = Commands()


@commands.reads(panel=MPESA, answers=False)
def simulator(
    call: Call,
    host: Annotated[str, typer.Option("--host", metavar="HOST", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", metavar="PORT", help="The port; 0 takes any free one.")] = 8322,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="The same seed draws the same run.")] = 0,
    float_kes: Annotated[str, typer.Option("--float", metavar="KES", help="Money in the utility account.")] = "1000000",
    daily_kes: Annotated[
        str, typer.Option("--daily", metavar="KES", help="The most one phone receives in a day.")
    ] = "500000",
    callback_map: Annotated[
        list[str] | None,
        typer.Option("--callback-map", metavar="URL=URL", help="Post what is for the first address to the second."),
    ] = None,
    post_anywhere: Annotated[
        bool, typer.Option("--post-anywhere", help="Post results to other hosts than this machine too.")
    ] = False,
    env_file: Annotated[
        Path | None, typer.Option("--write-env", metavar="FILE", help="Write what a client needs, as a .env file.")
    ] = None,
) -> None:
    """Run a Daraja on this machine, with a ledger of its own.

    GET /_ledger shows who was really paid, GET /_phones the test numbers.
    Results are posted to this machine only, wherever a request wants them:
    map a public address to it, or say --post-anywhere.

    Example: kasoko simulator --write-env .env

    Example: kasoko simulator --port 0 --seed 7 --float 500

    Example: kasoko simulator
    --callback-map https://pay.example.org=http://127.0.0.1:8321

    Exit status: 0 stopped, 2 a map is no two addresses, 3 the address cannot be
    had.
    """
    from kasoko_cli.daraja.simulator.app import Simulator, SimulatorSettings
    from kasoko_cli.domain.money import parse_kes

    settings = SimulatorSettings(
        seed=seed,
        utility_cents=parse_kes(float_kes, what="float"),
        daily_cents=parse_kes(daily_kes, what="daily limit"),
        callback_map=tuple(map(_from_and_to, callback_map or ())),
        post_anywhere=post_anywhere,
    )
    simulated = Simulator(settings)
    with stopping() as stopper, simulated.start(host, port) as running:
        if env_file is not None:
            write_env(env_file, needed_by_clients(simulated, running.url))
            render.talk(call, f"What a client needs stands in {env_file}.")
        if call.json:
            render.document({"url": running.url, "shortcode": settings.shortcode})
        else:
            render.line(f"Simulator on {running.url}: no money moves outside of it. Stop it with Ctrl-C.")
        stay(stopper, None, lambda: False)


def _from_and_to(mapped: str) -> tuple[str, str]:
    """The two addresses of `--callback-map`.

    Raises:
        WrongUsage: there are not two.
    """
    public, _, here = (one.rstrip("/") for one in mapped.partition("="))
    if not all(urlsplit(one).scheme in ("http", "https") and urlsplit(one).netloc for one in (public, here)):
        raise WrongUsage(
            f"--callback-map {mapped!r} is not two addresses.",
            hint="Write it like --callback-map https://pay.example.org=http://127.0.0.1:8321",
        )
    return f"{public}/", f"{here}/"


def needed_by_clients(simulated: Simulator, url: str) -> dict[str, str]:
    """The settings of whoever pays through this simulator."""
    settings = simulated.settings
    return {
        "MPESA_BASE_URL": url,
        "MPESA_CONSUMER_KEY": settings.consumer_key,
        "MPESA_CONSUMER_SECRET": settings.consumer_secret,
        "MPESA_INITIATOR_NAME": settings.initiator_name,
        "MPESA_SECURITY_CREDENTIAL_ENCRYPTED": simulated.security_credential(),
        "MPESA_PAYBILL": settings.shortcode,
    }


def write_env(file: Path, needed: dict[str, str]) -> None:
    """Add the lines of the simulator to a .env file, replacing those of an earlier simulator."""
    kept = file.read_text().splitlines() if file.exists() else []
    kept = [line for line in kept if line.split("=")[0].strip() not in needed]
    if not any(line.startswith("MPESA_CALLBACK_URL=") for line in kept):
        needed = needed | {"MPESA_CALLBACK_URL": "http://127.0.0.1:8321"}  # where kasoko listens by default
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as out:
        out.write("\n".join([*kept, *(f"{name}={value}" for name, value in needed.items())]) + "\n")
