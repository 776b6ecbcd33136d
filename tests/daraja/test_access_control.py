"""Who may post, and how often somebody may be wrong."""

from __future__ import annotations

import pytest

from kasoko_cli.daraja.access_control import SAFARICOM, AllowList, MissLimiter
from kasoko_cli.errors import ConfigurationError


def test_without_a_list_everybody_may_post() -> None:
    assert not AllowList()
    assert AllowList().allows("203.0.113.9")
    assert AllowList().allows("")


@pytest.mark.parametrize("source", SAFARICOM)
def test_the_preset_has_the_addresses_of_m_pesa(source: str) -> None:
    assert AllowList(["safaricom"]).allows(source)
    assert AllowList(["Safaricom"]).allows(f"::ffff:{source}")


@pytest.mark.parametrize("source", ["196.201.214.201", "196.201.213.45", "127.0.0.1", "::1", "", "unix", "nonsense"])
def test_the_preset_has_no_other_address(source: str) -> None:
    assert not AllowList(["safaricom"]).allows(source)


def test_addresses_networks_and_presets_add_up() -> None:
    allowed = AllowList(["safaricom", "10.0.0.0/8", "2001:db8::/32", "192.0.2.7"])
    for source in ("196.201.214.200", "10.255.0.1", "2001:db8::7", "192.0.2.7"):
        assert allowed.allows(source)
    for source in ("11.0.0.1", "2001:db9::7", "192.0.2.8"):
        assert not allowed.allows(source)


def test_a_word_that_is_no_source_is_refused_whole() -> None:
    with pytest.raises(ConfigurationError) as refused:
        AllowList(["mtn"])
    assert (
        refused.value.message == "'mtn' is no address, no network like 10.0.0.0/8, and no list that goes by this name."
    )
    assert refused.value.hint == "Names that are known: safaricom."


def test_who_is_wrong_too_often_has_to_wait() -> None:
    misses = MissLimiter(3)
    assert [misses.may_miss("192.0.2.7", 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert not misses.may_miss("192.0.2.7", 19.0)
    assert misses.may_miss("192.0.2.7", 21.0), "one comes back in twenty seconds"
    assert not misses.may_miss("192.0.2.7", 22.0)
    assert [misses.may_miss("192.0.2.7", 3600.0) for _ in range(4)] == [True, True, True, False]


def test_sources_are_counted_apart_and_a_customer_of_ipv6_is_one() -> None:
    misses = MissLimiter(1)
    assert misses.may_miss("192.0.2.7", 0.0)
    assert misses.may_miss("192.0.2.8", 0.0)
    assert misses.may_miss("2001:db8:0:1::1", 0.0)
    assert not misses.may_miss("2001:db8:0:1:ffff::2", 0.0)
    assert misses.may_miss("2001:db8:0:2::1", 0.0)
    assert not misses.may_miss("::ffff:192.0.2.7", 0.0)


def test_the_memory_of_misses_is_bounded_whoever_asks() -> None:
    misses = MissLimiter(10, most_sources=100)
    for number in range(10_000):
        misses.may_miss(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", float(number))
        misses.may_miss("x" * 10_000 + str(number), float(number))
    assert len(misses) == 100
