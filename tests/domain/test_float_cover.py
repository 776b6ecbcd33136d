"""Whether a float covers a run: exactly, and never by taking what is not known for zero or for enough."""

from __future__ import annotations

from datetime import date

import pytest

from kasoko_cli.domain.float_cover import Cover, FloatCheck, stops
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.errors import ConfigurationError


@pytest.mark.parametrize(
    ("available", "shortfall", "off", "warn", "refuse", "require"),
    [
        pytest.param(10_500, 0, False, False, False, False, id="to the cent"),
        pytest.param(10_499, 1, False, False, True, True, id="one cent short"),
        pytest.param(-1, 10_501, False, False, True, True, id="below zero"),
        pytest.param(None, None, False, False, False, True, id="not known"),
    ],
)
def test_a_run_stops_as_strictly_as_the_setting_says(
    available: int | None, shortfall: int | None, off: bool, warn: bool, refuse: bool, require: bool
) -> None:
    cover = Cover(1, 10_000, 500, 0, available)
    assert cover.shortfall_cents == shortfall
    assert [stops(check, cover) for check in FloatCheck] == [off, warn, refuse, require]


def test_a_run_of_nothing_needs_no_float() -> None:
    assert not any(stops(check, Cover(0, 0, 0, 0, None)) for check in FloatCheck)


@pytest.mark.parametrize("bands", [(), ((100, 0), (100, 5)), ((0, 0),), ((100, -1),)])
def test_a_tariff_that_is_none_is_refused(bands: tuple[tuple[int, int], ...]) -> None:
    with pytest.raises(ConfigurationError, match="has no bands, or they do not rise, or a charge is below zero"):
        Tariff(date(2026, 1, 1), bands)
