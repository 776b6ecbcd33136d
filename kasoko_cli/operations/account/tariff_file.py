"""The tariff that is in force: the one that came along, or the operator's own file."""

from __future__ import annotations

from datetime import date, datetime
from importlib.resources import files
from pathlib import Path

from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.shared.toml_files import parse, read_text

#: The tariff in the package.
BUNDLED = "tariff.toml"


def load_tariff(file: Path | None = None) -> Tariff:
    """Read the operator's tariff, or the one that came along.

    Raises ConfigurationError if the file cannot be read, or is no tariff.
    """
    text = read_text(
        files("kasoko_cli").joinpath(BUNDLED) if file is None else file,
        f"the tariff {file}",
        undone="Nothing was sent.",
        hint="Mend payout.tariff_file in kasoko.toml, or leave it empty for the tariff that came along.",
    )
    return parse_tariff(text, name=str(file or BUNDLED))


def parse_tariff(text: str, *, name: str) -> Tariff:
    """A tariff as a file has it: valid_from, source, and [[band]] with up_to_kes and charge_kes.

    Raises ConfigurationError if it is no such text.
    """
    found = parse(text, f"The tariff {name} is", hint=_HINT)
    valid_from, source, bands = found.get("valid_from"), found.get("source"), found.get("band")
    if not isinstance(valid_from, date) or isinstance(valid_from, datetime):
        raise ConfigurationError(f"The tariff {name} has no date in valid_from, like 2023-08-01.", hint=_HINT)
    if not isinstance(source, str) or not source.strip():
        raise ConfigurationError(f"The tariff {name} does not say in source where it is from.", hint=_HINT)
    return Tariff(valid_from, tuple(_band(one, name) for one in bands) if isinstance(bands, list) else (), source)


def _band(one: object, name: str) -> tuple[int, int]:
    if isinstance(one, dict):
        up_to, charge = one.get("up_to_kes"), one.get("charge_kes")
        if type(up_to) is int and type(charge) is int:
            return up_to, charge
    raise ConfigurationError(
        f"The tariff {name} has a band without whole shillings in up_to_kes and charge_kes.", hint=_HINT
    )


_HINT = "Nothing was sent. Begin from a copy of the tariff that came along: kasoko float --tariff"
