"""The states of payouts and attempts, the ids of attempts, the schedule of retries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest

from kasoko_cli.domain.payout import (
    ATTEMPT_NEXT,
    GROUPS,
    LIVE,
    PAYOUT_NEXT,
    RETRY_SCHEDULE_SECONDS,
    AttemptStatus,
    PayoutKind,
    PayoutStatus,
    WireLimits,
    attempt_sources_of,
    looks_like_payout_id,
    next_try_seconds,
    originator_id,
    payout_id,
    payout_sources_of,
)
from kasoko_cli.errors import Refused

P = PayoutStatus
A = AttemptStatus

TABLES = [
    pytest.param(PAYOUT_NEXT, PayoutStatus, P.AWAITING_APPROVAL, id="payout"),
    pytest.param(ATTEMPT_NEXT, AttemptStatus, A.INTENT, id="attempt"),
]


@pytest.mark.parametrize(("table", "states", "first"), TABLES)
def test_every_state_has_a_row_is_reached_and_every_move_says_why(
    table: Mapping[Any, Mapping[Any, str]], states: type[StrEnum], first: StrEnum
) -> None:
    assert set(table) == set(states)
    reached, look_at = {first}, [first]
    while look_at:
        for following, cause in table[look_at.pop()].items():
            assert following in set(states)
            assert len(cause.split()) > 3
            if following not in reached:
                reached.add(following)
                look_at.append(following)
    assert reached == set(states)
    assert not any(state in following for state, following in table.items()), "staying is no move"


@pytest.mark.parametrize(
    ("state", "following"),
    [
        (P.AWAITING_APPROVAL, {P.PENDING, P.WALLET, P.HELD, P.CANCELED, P.COMPLETED}),
        (P.HELD, {P.PENDING, P.AWAITING_APPROVAL, P.WALLET, P.CANCELED, P.COMPLETED}),
        (P.PENDING, {P.SENDING, P.HELD, P.WALLET, P.CANCELED, P.COMPLETED}),
        (P.SENDING, {P.SENT, P.PENDING, P.FAILED, P.UNKNOWN, P.COMPLETED}),
        (P.SENT, {P.COMPLETED, P.FAILED, P.UNKNOWN}),
        (P.UNKNOWN, {P.COMPLETED, P.FAILED, P.PENDING}),
        (P.COMPLETED, {P.RETURNED}),
        (P.WALLET, {P.CANCELED}),
        (P.FAILED, {P.PENDING, P.WALLET, P.COMPLETED, P.HELD, P.CANCELED, P.UNKNOWN}),
        (P.RETURNED, {P.PENDING, P.WALLET}),
        (P.CANCELED, set()),
    ],
)
def test_what_may_follow_for_a_payout(state: PayoutStatus, following: set[PayoutStatus]) -> None:
    assert set(PAYOUT_NEXT[state]) == following


@pytest.mark.parametrize(
    ("state", "following"),
    [
        (A.INTENT, {A.ACCEPTED, A.REJECTED, A.UNKNOWN, A.SUCCEEDED, A.FAILED}),
        (A.ACCEPTED, {A.SUCCEEDED, A.FAILED, A.UNKNOWN}),
        (A.REJECTED, {A.INTENT, A.SUCCEEDED, A.UNKNOWN}),
        (A.UNKNOWN, {A.SUCCEEDED, A.FAILED, A.REJECTED}),
        (A.SUCCEEDED, {A.RETURNED}),
        (A.FAILED, {A.SUCCEEDED, A.UNKNOWN}),
        (A.RETURNED, set()),
    ],
)
def test_what_may_follow_for_an_attempt(state: AttemptStatus, following: set[AttemptStatus]) -> None:
    assert set(ATTEMPT_NEXT[state]) == following


def test_sources_are_the_table_read_backwards() -> None:
    for to in PayoutStatus:
        assert payout_sources_of(to) == {state for state in PayoutStatus if to in PAYOUT_NEXT[state]}
    for attempt_to in AttemptStatus:
        assert attempt_sources_of(attempt_to) == {s for s in AttemptStatus if attempt_to in ATTEMPT_NEXT[s]}


def test_a_request_leaves_only_from_pending() -> None:
    assert payout_sources_of(P.SENDING) == {P.PENDING}


def test_nothing_that_may_have_been_paid_can_be_canceled_or_go_to_the_wallet() -> None:
    may_have_been_paid = {P.SENDING, P.SENT, P.UNKNOWN, P.COMPLETED}

    assert not payout_sources_of(P.CANCELED) & may_have_been_paid
    assert not payout_sources_of(P.WALLET) & may_have_been_paid
    assert not payout_sources_of(P.HELD) & may_have_been_paid


def test_an_attempt_begins_again_only_where_m_pesa_never_took_it() -> None:
    assert attempt_sources_of(A.INTENT) == {A.REJECTED}
    assert attempt_sources_of(A.REJECTED) == {A.INTENT, A.UNKNOWN}


def test_live_attempts_are_those_that_may_still_move_money() -> None:
    assert {A.INTENT, A.ACCEPTED, A.UNKNOWN} == LIVE


def test_the_groups_hold_each_state_of_what_is_owed_exactly_once() -> None:
    grouped = [state for group in GROUPS.values() for state in group]

    assert sorted(grouped) == sorted(set(PayoutStatus) - {P.CANCELED})
    assert list(GROUPS) == ["pending", "completed", "failed"]
    assert GROUPS["pending"] == {P.AWAITING_APPROVAL, P.HELD, P.PENDING, P.SENDING, P.SENT, P.UNKNOWN}
    assert GROUPS["completed"] == {P.COMPLETED, P.WALLET}
    assert GROUPS["failed"] == {P.FAILED, P.RETURNED}


def test_states_are_kept_under_their_own_names() -> None:
    assert [state.value for state in PayoutStatus] == [state.name for state in PayoutStatus]
    assert [state.value for state in AttemptStatus] == [state.name for state in AttemptStatus]
    assert [kind.value for kind in PayoutKind] == ["PAYOUT", "REFUND"]


OWED: dict[str, Any] = {
    "deployment_id": "d1",
    "market_id": "derby",
    "settlement_no": 1,
    "user_id": "u1",
    "kind": PayoutKind.PAYOUT,
    "leg": 1,
    "number": 1,
}


def id_of(owed: dict[str, Any]) -> str:
    rest = {name: value for name, value in owed.items() if name not in ("deployment_id", "number")}
    return originator_id(owed["deployment_id"], SimpleNamespace(**rest), owed["number"])


def test_the_id_of_an_attempt_never_changes_from_one_version_to_the_next() -> None:
    """A database restored under a newer program must meet the ids that M-Pesa already knows."""
    assert id_of(OWED) == "ks-7a81b36427069798df64faa37d61c6d3"


def test_the_same_debt_has_the_same_id_and_every_field_counts() -> None:
    others = [
        OWED | change
        for change in (
            {"deployment_id": "d2"},
            {"market_id": "final"},
            {"settlement_no": 2},
            {"user_id": "u2"},
            {"kind": PayoutKind.REFUND},
            {"leg": 2},
            {"number": 2},
            {"deployment_id": "d1d", "market_id": "erby"},
            {"settlement_no": 11, "leg": 11},
        )
    ]
    ids = {id_of(debt) for debt in [OWED, *others, OWED]}

    assert len(ids) == 1 + len(others)
    assert all(re.fullmatch(r"ks-[0-9a-f]{32}", some) for some in ids)


def test_the_id_of_a_payout_is_told_from_a_market() -> None:
    assert payout_id("derby", 1, 7) == "derby.1.7"
    assert looks_like_payout_id("derby.1.7")
    assert looks_like_payout_id("m.1.12.345")
    assert not looks_like_payout_id("derby")
    assert not looks_like_payout_id("derby.1")
    assert not looks_like_payout_id(".1.7")
    assert not looks_like_payout_id("derby.1.7.x")
    assert not looks_like_payout_id("derby.1.")


def test_the_schedule_is_the_operators_and_ends_after_five_retries() -> None:
    waits = [next_try_seconds(tries, RETRY_SCHEDULE_SECONDS, 0.0) for tries in range(1, 8)]

    assert waits == [120, 240, 480, 960, 1920, None, None]


def test_chance_adds_up_to_a_tenth_and_takes_nothing() -> None:
    assert next_try_seconds(1, RETRY_SCHEDULE_SECONDS, 0.5) == 126
    assert next_try_seconds(5, RETRY_SCHEDULE_SECONDS, 0.999) == 2111
    assert next_try_seconds(1, (), 0.5) is None
    with pytest.raises(AssertionError, match="before the first try"):
        next_try_seconds(0, RETRY_SCHEDULE_SECONDS, 0.0)
    with pytest.raises(AssertionError, match="a part of one"):
        next_try_seconds(1, RETRY_SCHEDULE_SECONDS, 1.0)


@pytest.mark.parametrize(
    ("least", "most"),
    [(0, 25_000_000), (-100, 25_000_000), (1_050, 25_000_000), (1_000, 25_000_050), (1_000, 1_900), (50, 1_000)],
)
def test_limits_that_no_legs_could_keep_are_refused(least: int, most: int) -> None:
    with pytest.raises(Refused, match="cannot be sent") as refused:
        WireLimits(least, most)

    assert refused.value.hint == (
        "Nothing was changed. Both limits are whole shillings, and the upper is at least twice the lower."
    )


def test_the_narrowest_limits_that_work() -> None:
    assert WireLimits(1_000, 2_000).max_cents == 2_000
