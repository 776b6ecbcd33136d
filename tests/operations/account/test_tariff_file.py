"""The tariff: data with a date and a source, and the operator's own in its place."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from kasoko_cli.daraja.simulator.tariff import AUGUST_2023
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.account.tariff_file import load_tariff, parse_tariff

HINT = "Nothing was sent. Begin from a copy of the tariff that came along: kasoko float --tariff"
GOOD = 'valid_from = 2026-01-01\nsource = "our contract"\n[[band]]\nup_to_kes = 1000\ncharge_kes = 7\n'


def test_the_tariff_that_came_along_is_the_one_of_the_form_and_says_so() -> None:
    found = load_tariff()
    assert (found.valid_from, found.bands) == (AUGUST_2023.valid_from, AUGUST_2023.bands)
    assert "August 2023" in found.source


@pytest.mark.parametrize(
    ("kes", "charge_kes"),
    [(1, 0), (100, 0), (101, 5), (1_500, 5), (1_501, 9), (5_001, 11), (20_001, 13), (250_000, 13), (900_000, 13)],
)
def test_a_payment_costs_what_its_band_says(kes: int, charge_kes: int) -> None:
    assert load_tariff().charge_cents(kes * 100) == charge_kes * 100


def test_the_operators_own_file_counts_instead(tmp_path: Path) -> None:
    file = tmp_path / "ours.toml"
    file.write_text(GOOD)
    found = load_tariff(file)
    assert (found.valid_from, found.bands, found.source) == (date(2026, 1, 1), ((1_000, 7),), "our contract")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("valid_from = ", "The tariff t.toml is not valid TOML: Invalid value (at end of document)."),
        ("", "The tariff t.toml has no date in valid_from, like 2023-08-01."),
        ("valid_from = 2026-01-01", "The tariff t.toml does not say in source where it is from."),
        (
            GOOD.replace("7", '"7"'),
            "The tariff t.toml has a band without whole shillings in up_to_kes and charge_kes.",
        ),
        (
            GOOD.replace("7", "7.5"),
            "The tariff t.toml has a band without whole shillings in up_to_kes and charge_kes.",
        ),
    ],
)
def test_a_file_that_is_no_tariff_is_told(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_tariff(text, name="t.toml")
    assert (caught.value.message, caught.value.hint) == (message, HINT)


def test_a_tariff_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_tariff(Path("/nowhere/t.toml"))
    assert caught.value.message == (
        "Cannot read the tariff /nowhere/t.toml: No such file or directory. Nothing was sent."
    )
