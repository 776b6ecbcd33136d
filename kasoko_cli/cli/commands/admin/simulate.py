"""The simulator: a Daraja on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from dotenv.parser import parse_stream

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import WrongUsage, flag, option
from kasoko_cli.cli.output import render
from kasoko_cli.cli.signals import stopping
from kasoko_cli.config import lines_of
from kasoko_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from kasoko_cli.daraja.simulator.app import Simulator

commands = Commands()


@commands.reads(answers=False)
def simulator(
    call: CommandContext,
    host: Annotated[str, option("--host", "HOST", "The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, option("--port", "PORT", "The port; 0 takes any free one.")] = 8322,
    seed: Annotated[int, option("--seed", "N", "The same seed draws the same run.")] = 0,
    float_kes: Annotated[str, option("--float", "KES", "Money in the utility account.")] = "1000000",
    daily_kes: Annotated[str, option("--daily", "KES", "The most one phone receives in a day.")] = "500000",
    callback_map: Annotated[
        list[str] | None, option("--callback-map", "URL=URL", "Post what is for the first address to the second.")
    ] = None,
    post_anywhere: Annotated[
        bool, flag("--post-anywhere", "Post results to other hosts than this machine too.")
    ] = False,
    env_file: Annotated[
        Path | None, option("--write-env", "FILE", "Write what a client needs, as a .env file.")
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
    had, or FILE is no simulator's.
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
        text = f"Simulator on {running.url}: no money moves outside of it. Stop it with Ctrl-C."
        render.answer(call, {"url": running.url, "shortcode": settings.shortcode}, text, even_quiet=True)
        stopper.wait()


def _from_and_to(mapped: str) -> tuple[str, str]:
    """The two addresses of `--callback-map`."""
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
    """Add the lines of the simulator to a .env file, replacing those of an earlier simulator and nothing else.

    The file is replaced as a whole: whoever reads it has the old one or the new one.

    Raises:
        ConfigurationError: it has settings of M-Pesa that are no simulator's, or cannot be read or written.
    """
    try:
        text = file.read_text(encoding="utf-8") if file.exists() else ""
        named = lines_of(file) if text else {}
        if others := _not_a_simulators(named, needed):
            raise ConfigurationError(
                f"{file} sets {', '.join(others)}, and not to what a simulator has. It was not touched.",
                hint="Have the simulator write another file, in a folder of its own: --write-env test/.env",
            )
        if not named.get("MPESA_CALLBACK_URL"):
            needed = needed | {"MPESA_CALLBACK_URL": "http://127.0.0.1:8321"}  # where kasoko listens by default
        kept = "".join(one.original.string for one in parse_stream(StringIO(text)) if one.key not in needed)
        if kept and not kept.endswith("\n"):
            kept += "\n"
        _replace(file.resolve(), kept + "".join(f"{name}={value}\n" for name, value in needed.items()))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"{file} cannot be written: {reason}. It is as it was.", hint="Name another file: --write-env FILE"
        ) from error


def _not_a_simulators(named: Mapping[str, str], needed: Mapping[str, str]) -> list[str]:
    """What a file says of M-Pesa that is not from a simulator: key, secret, name and shortcode are always the same.

    Its address and its credential change, and are from one where the key and the secret are.
    """
    fixed = [name for name in needed if name not in _CHANGING]
    others = [name for name in fixed if named.get(name, needed[name]) != needed[name]]
    is_simulators = all(named.get(name) == needed[name] for name in _TELLING)
    return others + [name for name in _CHANGING if named.get(name) and not is_simulators]


#: What differs between two simulators, and what tells one from M-Pesa.
_CHANGING = ("MPESA_BASE_URL", "MPESA_SECURITY_CREDENTIAL_ENCRYPTED")
_TELLING = ("MPESA_CONSUMER_KEY", "MPESA_CONSUMER_SECRET")


def _replace(file: Path, text: str) -> None:
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, prefix=".env-", delete=False) as out:
        try:
            out.write(text)
            out.flush()
            Path(out.name).replace(file)
        except OSError:
            Path(out.name).unlink()
            raise
