"""The rules of tax that the operator follows: a file of them, each with its dates and its source."""

from __future__ import annotations

from dataclasses import fields
from datetime import date, datetime
from pathlib import Path
from typing import Any

from kasoko_cli.domain.withholding import BASES, Base, Duty, DutyBook, On, RoundTo
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.shared.toml_files import parse, read_text

_KEYS = {one.name for one in fields(Duty)}
#: What a rule may leave out.
_OPTIONAL: dict[str, Any] = {"valid_until": None, "unit_cents": 1, "with_refunds": False}
_HINT = "Nothing was settled. Begin from the form, kasoko help taxes > duties.toml, and have an accountant read it."


def load_duties(file: Path) -> DutyBook:
    """Read the operator's rules. Raises ConfigurationError if the file cannot be read, or holds no such rules."""
    text = read_text(
        file,
        f"the duties {file}",
        undone="Nothing was settled.",
        hint="Mend payout.duties_file in kasoko.toml, or leave it empty where no tax is kept back.",
    )
    return parse_duties(text, name=str(file))


def parse_duties(text: str, *, name: str) -> DutyBook:
    """Rules as a file has them: [[duty]] tables. Raises ConfigurationError if the text has others."""
    found = parse(text, f"The duties {name} are", hint=_HINT)
    tables = found.pop("duty", [])
    if found or not isinstance(tables, list):
        raise ConfigurationError(f"The duties {name} hold something else than [[duty]] tables.", hint=_HINT)
    return DutyBook(tuple(_duty(one, f"The duty {number} of {name}") for number, one in enumerate(tables, start=1)))


def _duty(one: Any, what: str) -> Duty:
    def refuse(why: str) -> ConfigurationError:
        return ConfigurationError(f"{what} {why}.", hint=_HINT)

    if not isinstance(one, dict):
        raise refuse("is no table")
    if missing := sorted(_KEYS - one.keys() - _OPTIONAL.keys()):
        raise refuse(f"does not say: {', '.join(missing)}")
    if unknown := sorted(one.keys() - _KEYS):
        raise refuse(f"has what no duty has: {', '.join(unknown)}")
    told = {**_OPTIONAL, **one}
    for key in ("name", "source"):
        if not isinstance(told[key], str):
            raise refuse(f"has no text in {key}")
    for key in ("rate_bps", "unit_cents"):
        if type(told[key]) is not int:
            raise refuse(f"has no whole number in {key}")
    for key in ("valid_from", "valid_until"):
        is_day = isinstance(told[key], date) and not isinstance(told[key], datetime)
        if not is_day and not (key == "valid_until" and told[key] is None):
            raise refuse(f"has no date in {key}, like 2026-07-01")
    if type(told["with_refunds"]) is not bool:
        raise refuse("says neither true nor false in with_refunds")
    words: dict[str, list[str]] = {"on": list(On), "rounding": list(RoundTo), "base": list(Base)}
    if told["on"] in words["on"]:
        words["base"] = list(BASES[On(told["on"])])
    for key, known in words.items():
        if told[key] not in known:
            raise refuse(f"has in {key} none of: {', '.join(known)}")
    return Duty(**{**told, "on": On(told["on"]), "base": Base(told["base"]), "rounding": RoundTo(told["rounding"])})
