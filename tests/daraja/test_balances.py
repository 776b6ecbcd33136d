"""What is in the accounts, out of M-Pesa's packed text and its results: by name, exactly, or not at all."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from kasoko_cli.daraja.balances import Balances, read_balance, read_result
from kasoko_cli.daraja.messages import parse_result


def answer(packed: object, **more: object) -> Balances:
    parameters: list[dict[str, Any]] = [{"Key": "ActionType", "Value": "AccountBalance"}]
    parameters += [{"Key": key, "Value": value} for key, value in {"AccountBalance": packed, **more}.items()]
    body = {
        "Result": {
            "ResultCode": "0",
            "ConversationID": "AG_20261123_1",
            "ResultParameters": {"ResultParameter": parameters},
        }
    }
    return read_balance(parse_result(json.dumps(body).encode()))


PORTAL = (
    "Working Account|KES|700000.00|700000.00|0.00|0.00&Float Account|KES|0.00|0.00|0.00|0.00"
    "&Utility Account|KES|346568.83|6186.83|340382.00|0.00&Charges Paid Account|KES|-1540.00|-1540.00|0.00|0.00"
)


@pytest.mark.parametrize(
    ("packed", "utility", "unreadable"),
    [
        pytest.param(PORTAL, 618_683, (), id="what can be paid is the available part, not the current one"),
        pytest.param("Utility Account|KES|5.00|5.00|0.00|0.00", 500, (), id="one account alone"),
        pytest.param(" utility  ACCOUNT |kes| 5.00 | 4.00 |0|0 ", 400, (), id="another case and spacing"),
        pytest.param("UtilityAccount|KES|5|4", 400, (), id="fewer fields, whole numbers"),
        pytest.param("Utility Account|KES|5.00|4.00|0|0|9|9", 400, (), id="more fields"),
        pytest.param("Utility Account|KES|5.00|-4.00|0|0", -400, (), id="below zero"),
        pytest.param("Utility Account|KES|5.00", None, ("Utility Account|KES|5.00",), id="no available part"),
        pytest.param("Utility Account|USD|5.00|4.00", None, ("Utility Account|USD|5.00|4.00",), id="another currency"),
        pytest.param("Utility Account|KES|5|4.005", None, ("Utility Account|KES|5|4.005",), id="parts of a cent"),
        pytest.param("Utility Account|KES|5|1e9", None, ("Utility Account|KES|5|1e9",), id="a power is no amount"),
        pytest.param(f"Utility|KES|1|{10**16}", None, (f"Utility|KES|1|{10**16}",), id="more money than there is"),
        pytest.param("Utility|KES|1|1&Utility|KES|2|2", None, ("Utility|KES|2|2",), id="twice and different"),
        pytest.param("Utility|KES|1|1&Utility|KES|1|1", 100, (), id="twice and the same"),
        pytest.param("Utility Account|KES|1|1&&Nonsense", 100, ("Nonsense",), id="an unreadable part beside it"),
        pytest.param("Working Account|KES|1|1", None, (), id="no utility account is not zero"),
        pytest.param("", None, (), id="nothing"),
    ],
)  # fmt: skip
def test_the_utility_account_is_read_by_name_and_never_guessed(
    packed: str, utility: int | None, unreadable: tuple[str, ...]
) -> None:
    found = answer(packed)
    assert (found.utility_cents, found.unreadable) == (utility, unreadable)


def test_the_other_accounts_and_the_time_come_along() -> None:
    found = answer(PORTAL, BOCompletedTime=20261123140509)
    assert (found.working_cents, found.charges_cents) == (70_000_000, -154_000)
    assert found.as_of == datetime(2026, 11, 23, 11, 5, 9, tzinfo=UTC)
    assert answer(PORTAL, BOCompletedTime="20261123140509").as_of == found.as_of
    assert answer(PORTAL, BOCompletedTime="20261399999999").as_of is None


def test_a_result_of_a_payment_says_the_balances_after_it() -> None:
    items = [
        {"Key": "B2CUtilityAccountAvailableFunds", "Value": 98750.5},
        {"Key": "B2CWorkingAccountAvailableFunds", "Value": "0.00"},
        {"Key": "B2CChargesPaidAccountAvailableFunds", "Value": -180.00},
        {"Key": "TransactionCompletedDateTime", "Value": "23.11.2026 14:05:09"},
    ]
    body = {"Result": {"ResultCode": 0, "ConversationID": "AG_1", "ResultParameters": {"ResultParameter": items}}}
    found = read_result(parse_result(json.dumps(body).encode()))
    assert found == Balances(9_875_050, 0, -18_000, datetime(2026, 11, 23, 11, 5, 9, tzinfo=UTC))
