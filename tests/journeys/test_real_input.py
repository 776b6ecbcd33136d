"""An operator's own files, from the import to the phones: every cent compared with what each user is owed.

Everything runs as it would: the program, `kasoko listen` and the simulator are processes of their own, which
talk HTTP. What is expected was worked out apart from this program, and so is what is read from the files here.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.deployment_harness import DeploymentHarness, Json

DATA = Path(__file__).parent.parent / "data"

#: Whoever is owed something: the market, the user, and why.
Owed = tuple[str, str, str]

#: In the simulator's utility account at the start, in shillings: more than all winners are owed.
FLOAT_KES = 10_000_000


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


MARKETS = {row["market_id"]: row for row in rows("markets.csv")}
TOTALS = {row["market_id"]: row for row in rows("expected-totals.csv")}
EXPECTED: Mapping[Owed, tuple[int, str]] = {
    (row["market_id"], row["user_id"], row["kind"]): (int(row["amount_cents"]), row["wire_cents"])
    for row in rows("expected.csv")
}
#: Each user's phone as the wire has it: 254 and the last nine digits, however it was spelt.
PHONES = {
    row["user_id"]: "254" + "".join(character for character in row["phone"] if character.isdigit())[-9:]
    for row in rows("users.csv")
}
#: What comes back into the wallet without any payout: stakes of bets that were cancelled, in cents.
CANCELLED: Mapping[str, int] = Counter()
for _bet in rows("bets.csv"):
    if _bet["cancelled_at"]:
        CANCELLED[_bet["user_id"]] += int(Decimal(_bet["stake_kes"]) * 100)  # type: ignore[index]


def wires_of(text: str) -> list[int]:
    """`25000000+3617600` as its parts; a wire of nothing is no part."""
    return [int(part) for part in text.split("+") if int(part)]


ALL_WIRES = [(PHONES[user], wire) for (_, user, _), (_, wires) in EXPECTED.items() for wire in wires_of(wires)]


def imported(deployed: DeploymentHarness) -> None:
    """Take in the operator's three files."""
    counted = {}
    for kind in ("users", "markets", "bets"):
        answer = deployed.ask("import", kind, str(DATA / f"{kind}.csv"), "--yes")
        counted[kind] = answer["new"], answer["known"]
    assert counted == {"users": (1_200, 0), "markets": (7, 0), "bets": (4_030, 0)}


def settled(deployed: DeploymentHarness, market_id: str) -> dict[str, Any]:
    """Resolve a market as the operator did, settle it, and compare the figures."""
    totals = TOTALS[market_id]
    answer = deployed.settle(market_id, *totals["winning_outcomes"].split("|"))
    figures: dict[str, Any] = answer["settlement"]
    assert answer["is_new"]
    assert {name: figures[name] for name in totals if name.endswith("_cents")} == {
        name: int(amount) for name, amount in totals.items() if name.endswith("_cents")
    }
    return figures


def balances(deployed: DeploymentHarness) -> dict[str, tuple[int, int]]:
    """Balance and available of everybody who ever had any, added up from the exported books."""
    books = csv.DictReader(io.StringIO(deployed.run("export", "entries").out))
    wallet: Counter[str] = Counter()
    delivered: Counter[str] = Counter()
    for line in books:
        if line["account"] == "wallet":
            wallet[line["owner"]] -= int(line["amount_cents"])
        elif line["account"] == "delivered":
            delivered[line["owner"]] += int(line["amount_cents"])
    return {user: (cents, cents - delivered[user]) for user, cents in wallet.items()}


def expected_balances() -> dict[str, tuple[int, int]]:
    """All that was credited, and of that what no payment could carry."""
    credited: Counter[str] = Counter(CANCELLED)
    left: Counter[str] = Counter(CANCELLED)
    for (_, user, _), (amount, wires) in EXPECTED.items():
        credited[user] += amount
        left[user] += amount - sum(wires_of(wires))
    return {user: (cents, left[user]) for user, cents in credited.items()}


@pytest.mark.exhaustive_on("postgres")
@pytest.mark.timeout(600)  # on a busy machine; on an idle one it takes a tenth of that
def test_the_operators_files_are_settled_and_paid_to_the_cent(deployed: DeploymentHarness) -> None:
    deployed.furnish(
        """
        [payout]
        rate_per_second = 1000
        concurrency = 16
        daily_kes = 10000000
        """
    )
    deployed.start_simulator("--float", str(FLOAT_KES), "--daily", "10000000")
    imported(deployed)
    for market_id in MARKETS:
        settled(deployed, market_id)

    # One market is paid by a command that takes the results itself, the others beside a listener.
    by_itself = deployed.ask("payout", "one-sided", "--yes", "--listen")
    assert {one["status"] for one in by_itself["payouts"]} == {"COMPLETED"}
    assert by_itself["exit_code"] == 0
    listener = deployed.start_listener()
    sent = deployed.ask("payout", "--yes")
    assert (sent["run"]["stopped"], sent["run"]["left"], sent["run"]["postponed"]) == ("done", 0, 0)
    deployed.until_final()
    assert listener.stop().code == 0

    found = {market_id: deployed.ask("status", market_id, "--payouts") for market_id in MARKETS}
    _each_payout_refund_and_leg_is_as_expected(found)
    _each_leg_was_paid_once_to_the_right_phone(deployed.ledger(), found)
    assert balances(deployed) == expected_balances()
    for user in ("u00647", "u00001", next(iter(CANCELLED))):
        assert deployed.wallet(user) == expected_balances()[user]
    assert deployed.ask("audit")["ok"]

    # Whatever is asked for a second time is there already.
    assert not deployed.ask("settle", "m1", "--yes")["is_new"]
    assert deployed.ask("payout", "--yes")["run"]["sent"] == []
    assert deployed.ask("import", "bets", str(DATA / "bets.csv"), "--yes")["known"] == 4_030


def _each_payout_refund_and_leg_is_as_expected(statuses: Mapping[str, Json]) -> None:
    found: dict[Owed, tuple[int, str]] = {}
    for market_id, status in statuses.items():
        legs: dict[Owed, list[dict[str, Any]]] = defaultdict(list)
        for item in status["items"]:
            assert item["status"] == ("COMPLETED" if item["wire_cents"] else "WALLET")
            assert bool(item["receipt"]) == bool(item["wire_cents"])
            legs[market_id, item["user"], item["kind"]].append(item)
        for owed, items in legs.items():
            items.sort(key=lambda item: item["leg"])
            assert [item["leg"] for item in items] == list(range(1, len(items) + 1))
            wires = "+".join(str(item["wire_cents"]) for item in items)
            found[owed] = sum(item["amount_cents"] for item in items), wires

        totals = {name: int(TOTALS[market_id][name]) for name in TOTALS[market_id] if name.endswith("_cents")}
        assert {name: status["settlement"][name] for name in totals} == totals
        assert status["market"]["resolved_outcome"] == TOTALS[market_id]["winning_outcomes"]
        assert status["payouts"]["completed"]["count"] == len(status["items"])
        assert status["payouts"]["completed"]["amount_cents"] == totals["payouts_cents"] + totals["refunds_cents"]
    assert found == dict(EXPECTED)


def _each_leg_was_paid_once_to_the_right_phone(ledger: Json, statuses: Mapping[str, Json]) -> None:
    payments = ledger["payments"]
    assert Counter((one["phone"], one["amount_cents"]) for one in payments) == Counter(ALL_WIRES)
    assert len({one["originator_conversation_id"] for one in payments}) == len(payments) == len(ALL_WIRES)
    assert ledger["duplicates_refused"] == 0
    assert ledger["results_undelivered"] == 0

    # The receipts in our books are those of the simulator, each on the payment that it proves.
    proven = {
        item["originator_conversation_id"]: (item["receipt"], PHONES[item["user"]], item["wire_cents"])
        for status in statuses.values()
        for item in status["items"]
        if item["wire_cents"]
    }
    assert proven == {
        one["originator_conversation_id"]: (one["receipt"], one["phone"], one["amount_cents"]) for one in payments
    }


@pytest.mark.exhaustive_on("postgres")
def test_what_is_above_the_days_limit_waits_for_the_next_day_in_nairobi(deployed: DeploymentHarness) -> None:
    """The winner of 536,176.69 gets two legs of 250,000 today; the third, of 36,176, tomorrow."""
    deployed.furnish()
    deployed.start_simulator("--float", str(FLOAT_KES))
    imported(deployed)
    settled(deployed, "m5")
    legs = sorted(
        (item for item in deployed.ask("status", "m5", "--payouts")["items"] if item["user"] == "u00647"),
        key=lambda item: item["leg"],
    )
    assert [leg["wire_cents"] for leg in legs] == [25_000_000, 25_000_000, 3_617_600]
    only = [word for leg in legs for word in ("--only", leg["id"])]

    before = datetime.now(UTC)
    done = deployed.run("payout", "--yes", "--listen", *only, code=6)
    after = datetime.now(UTC)

    nairobi = timezone(timedelta(hours=3))
    midnights = {
        (moment.astimezone(nairobi) + timedelta(days=1)).strftime("%Y-%m-%d 00:00 EAT") for moment in (before, after)
    }
    assert done.out == "became\tpayouts\tKES to phones\nCOMPLETED\t2\t500,000.00\n"
    assert any(
        done.err.endswith(
            "1 wait for tomorrow: their receivers have had the day's limit.\n"
            f"1 payout left, the next at {midnight}: kasoko payout\n"
        )
        for midnight in midnights
    ), done.err

    found = deployed.ask("payout", "list", "m5")["items"]
    by_leg = {item["leg"]: item for item in found if item["user"] == "u00647"}
    assert [by_leg[leg]["status"] for leg in (1, 2, 3)] == ["COMPLETED", "COMPLETED", "PENDING"]
    waits_until = datetime.fromisoformat(by_leg[3]["not_before"]).astimezone(nairobi)
    assert waits_until.strftime("%Y-%m-%d %H:%M EAT") in midnights
    story = deployed.ask("status", legs[2]["id"])
    assert story["note"] == "the receiver has had the day's KES 500,000.00"
    assert [(one["phone"], one["amount_cents"]) for one in deployed.payments()] == [(PHONES["u00647"], 25_000_000)] * 2

    # It is not due, so nothing more is sent today, however often it is asked for.
    again = deployed.run("payout", "--yes", *only)
    assert "Nothing is due." in again.err
    assert len(deployed.payments()) == 2
    assert deployed.wallet("u00647")[0] == 50_000_000 + CANCELLED.get("u00647", 0)
    assert deployed.ask("audit")["ok"]
