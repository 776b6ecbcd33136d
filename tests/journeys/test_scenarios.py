"""What the operator expects to see: four scenarios and the example, from the first bet to the phones."""

from __future__ import annotations

from datetime import datetime

import httpx
import pytest

from tests.journeys.deployment_harness import DeploymentHarness, assert_hides

#: Phones of the simulator's table.
ANN, BEN, CYN = "0712000001", "0712000002", "0712000003"
RESULT_TWICE = "0799300002"
IMPOSSIBLE = "0799100001"
NOT_REGISTERED = "0799002040"


@pytest.mark.exhaustive_on("postgres")
def test_two_users_on_different_outcomes_are_settled_and_the_winner_alone_is_paid(deployed: DeploymentHarness) -> None:
    deployed.furnish()
    deployed.start_simulator()
    deployed.open_market("rain", "Yes", "No", stakes=[("ann", ANN, "Yes", "100"), ("ben", BEN, "No", "150.50")])
    before = deployed.wallet("ann"), deployed.wallet("ben")

    deployed.settle("rain", "Yes")
    assert (deployed.wallet("ann"), deployed.wallet("ben")) == before, "settling pays nobody yet"
    listener = deployed.start_listener("--until-settled", "rain")
    deployed.run("payout", "rain", "--yes")
    assert listener.wait().code == 0

    # Of 250.50 the fee is 12.525, rounded down; M-Pesa carries whole shillings.
    assert before == ((0, 0), (0, 0))
    assert deployed.wallet("ann") == (23_798, 98)
    assert deployed.wallet("ben") == (0, 0)
    assert [(one["phone"], one["amount_cents"]) for one in deployed.payments()] == [("254712000001", 23_700)]
    assert deployed.ask("audit")["ok"]


@pytest.mark.exhaustive_on("postgres")
def test_the_same_result_posted_twice_completes_once_and_credits_the_wallet_once(deployed: DeploymentHarness) -> None:
    """M-Pesa posts it twice by itself, and then somebody posts the stored body again."""
    deployed.furnish()
    deployed.start_simulator()
    deployed.open_market("rain", "Yes", "No", stakes=[("ann", RESULT_TWICE, "Yes", "100"), ("ben", BEN, "No", "50")])
    deployed.settle("rain", "Yes")
    listener = deployed.start_listener("--count", "3")
    deployed.run("payout", "rain", "--yes")
    deployed.until_final("rain")
    assert deployed.wallet("ann") == (14_250, 50)

    [(subject, body)] = deployed.rows("SELECT DISTINCT subject, body FROM callbacks")
    url = deployed.links().of_payment(subject).result
    answer = httpx.post(url, content=bytes(body), trust_env=False)
    assert (answer.status_code, answer.json()) == (200, {"ResultCode": 0, "ResultDesc": "Accepted"})
    assert listener.wait().code == 0

    verdicts = deployed.rows("SELECT verdict, detail FROM callbacks ORDER BY id")
    assert len(verdicts) == 3
    assert verdicts[1:] == [("paid", "known already")] * 2
    item = deployed.items("rain")["ann"]
    assert (item["status"], item["attempts"]) == ("COMPLETED", 1)
    assert deployed.wallet("ann") == (14_250, 50)
    assert len(deployed.payments()) == 1
    assert deployed.ask("audit")["ok"]


@pytest.mark.exhaustive_on("postgres")
def test_an_impossible_phone_fails_and_says_why_and_once_corrected_a_retry_succeeds(
    deployed: DeploymentHarness,
) -> None:
    """One number that M-Pesa refuses at once, and one that it finds out about later."""
    deployed.furnish()
    deployed.start_simulator()
    stakes = [("ann", IMPOSSIBLE, "Yes", "100"), ("cyn", NOT_REGISTERED, "Yes", "100"), ("ben", BEN, "No", "50")]
    deployed.open_market("rain", "Yes", "No", stakes=stakes)
    deployed.settle("rain", "Yes")

    sent = deployed.run("payout", "rain", "--yes", "--listen", code=6)
    failed = deployed.items("rain")
    assert {user: item["status"] for user, item in failed.items()} == {"ann": "FAILED", "cyn": "FAILED"}
    assert failed["ann"]["failure_code"] == "400.002.02"
    assert failed["ann"]["failure_reason"] == "Bad Request - Invalid PartyB"
    assert failed["cyn"]["failure_code"] == "2040"
    for item in failed.values():
        assert f"{item['id']}\t118.00\tFAILED\t{item['failure_reason']}\t-\n" in sent.out
        assert item["receipt"] is None
    assert deployed.payments() == []
    assert deployed.wallet("ann") == deployed.wallet("cyn") == (0, 0)

    # To the same number it cannot succeed, so it is not sent again, and the hint says what to do.
    left = deployed.run("payout", "retry", failed["cyn"]["id"], "--yes", "--json", code=5).error
    assert left["message"].startswith(f"{failed['cyn']['id']} was not sent again: it cannot succeed to the same number")
    assert left["hint"] == (
        "Correct the number: kasoko user set-phone cyn PHONE, then: kasoko payout retry " + failed["cyn"]["id"]
    )

    deployed.run("user", "set-phone", "ann", ANN, "--yes")
    deployed.run("user", "set-phone", "cyn", CYN, "--yes")
    deployed.run("payout", "retry", failed["ann"]["id"], failed["cyn"]["id"], "--yes", "--listen")
    paid = deployed.items("rain")
    assert {user: item["status"] for user, item in paid.items()} == {"ann": "COMPLETED", "cyn": "COMPLETED"}
    # What was refused at once was never taken, so its id is not spent; the other needs a new one.
    assert (paid["ann"]["attempts"], paid["cyn"]["attempts"]) == (1, 2)
    assert sorted((one["phone"], one["amount_cents"]) for one in deployed.payments()) == [
        ("254712000001", 11_800),
        ("254712000003", 11_800),
    ]
    assert deployed.wallet("ann") == deployed.wallet("cyn") == (11_875, 75)
    assert deployed.ask("audit")["ok"]


@pytest.mark.exhaustive_on("postgres")
def test_in_an_outage_the_schedule_is_kept_then_it_fails_and_a_retry_by_hand_succeeds(
    deployed: DeploymentHarness,
) -> None:
    """The schedule is of five waits, here of a second each; the true ones are in test_schedule.py."""
    deployed.furnish("[payout]\nretry_schedule_seconds = [1, 1, 1, 1, 1]\n")
    simulator = deployed.start_simulator()
    port = int(deployed.daraja_url.rpartition(":")[2])
    deployed.open_market("rain", "Yes", "No", stakes=[("ann", ANN, "Yes", "100"), ("ben", BEN, "No", "50")])
    deployed.open_market("sun", "Yes", "No", stakes=[("cyn", CYN, "Yes", "100"), ("dan", "0712000004", "No", "50")])
    deployed.settle("rain", "Yes")
    deployed.settle("sun", "Yes")
    deployed.run("payout", "sun", "--yes", "--listen")  # M-Pesa is there, and its token is good for an hour
    assert simulator.stop().code == 0

    waited = deployed.run("payout", "rain", "--yes", "--wait", code=6)
    item = deployed.items("rain")["ann"]
    assert (item["status"], item["failure_code"], item["not_before"]) == ("FAILED", "NOT_SENT", None)
    assert f"{item['id']}\t142.00\tFAILED\t{item['failure_reason']}\t-\n" in waited.out
    [(tries,)] = deployed.rows(f"SELECT tries FROM payouts WHERE id = '{item['id']}'")
    [(sends,)] = deployed.rows(f"SELECT sends FROM attempts WHERE payout_id = '{item['id']}'")
    assert (tries, sends) == (6, 6), "the first try and five more, all under one id"
    calls = deployed.rows("SELECT at FROM exchanges WHERE kind = 'b2c' AND http_status IS NULL ORDER BY at, id")
    times = [datetime.fromisoformat(str(at)) for (at,) in calls]
    assert len(times) == 6 * 3, "each try is three quick ones of the same id"
    for last, first in zip(times[2:-1:3], times[3::3], strict=True):
        assert (first - last).total_seconds() >= 1, "no try comes before the schedule says so"
    assert deployed.wallet("ann") == (0, 0)
    assert deployed.ask("audit")["ok"], "what was reserved is back in the float, each time"

    deployed.start_simulator(port=port)
    deployed.run("payout", "retry", item["id"], "--yes", "--listen")
    paid = deployed.items("rain")["ann"]
    assert (paid["status"], paid["originator_conversation_id"]) == ("COMPLETED", item["originator_conversation_id"])
    assert [(one["phone"], one["amount_cents"]) for one in deployed.payments()] == [("254712000001", 14_200)]
    assert deployed.wallet("ann") == (14_250, 50)
    assert deployed.ask("audit")["ok"]


@pytest.mark.exhaustive_on("postgres")
def test_every_bet_on_losing_outcomes_refunds_everyone_in_full_and_takes_no_fee(deployed: DeploymentHarness) -> None:
    deployed.furnish()
    deployed.start_simulator()
    stakes = [("ann", ANN, "A", "100.75"), ("ben", BEN, "B", "9.99"), ("cyn", CYN, "A", "2000")]
    deployed.open_market("party", "A", "B", "C", stakes=stakes)
    settled = deployed.settle("party", "C")

    assert {name: settled["settlement"][name] for name in ("fee_cents", "payouts_cents", "refunds_cents")} == {
        "fee_cents": 0,
        "payouts_cents": 0,
        "refunds_cents": 211_074,
    }
    deployed.run("payout", "party", "--yes", "--listen")
    found = deployed.items("party")
    assert {
        user: (item["kind"], item["amount_cents"], item["wire_cents"], item["status"]) for user, item in found.items()
    } == {
        "ann": ("REFUND", 10_075, 10_000, "COMPLETED"),
        "ben": ("REFUND", 999, 0, "WALLET"),  # M-Pesa carries nothing under ten shillings: it stays Ben's
        "cyn": ("REFUND", 200_000, 200_000, "COMPLETED"),
    }
    assert [deployed.wallet(user) for user in ("ann", "ben", "cyn")] == [(10_075, 75), (999, 999), (200_000, 0)]
    assert sorted((one["phone"], one["amount_cents"]) for one in deployed.payments()) == [
        ("254712000001", 10_000),
        ("254712000003", 200_000),
    ]
    assert deployed.ask("audit")["ok"]


@pytest.mark.exhaustive_on("postgres")
def test_the_operators_example_reads_exactly(deployed: DeploymentHarness) -> None:
    """Stakes of 100 and 200 on Yes and 150 on No, from wallets, at five percent; each result comes twice."""
    deployed.furnish()
    deployed.start_simulator()
    people = [("u1", ANN, "Yes", 100), ("u2", RESULT_TWICE, "Yes", 200), ("u3", CYN, "No", 150)]
    market = ("market", "add", "rain", "--question", "Will it rain?", "--outcome", "Yes", "--outcome", "No")
    deployed.run(*market, "--closes-at", "2036-12-01T15:00:00+03:00", "--fee-pct", "5.00", "--yes")
    for number, (user, phone, outcome, stake) in enumerate(people):
        deployed.run("user", "add", user, user.upper(), phone, "--yes")
        deployed.run("wallet", "deposit", user, str(stake), "--reference", f"UKN000000{number}", "--yes")
        deployed.run("bet", "place", "rain", user, outcome, str(stake), "--funding", "wallet")
    deployed.run("market", "close", "rain", "--yes")
    before = {user: deployed.wallet(user) for user, _, _, _ in people}
    assert before == {"u1": (0, 0), "u2": (0, 0), "u3": (0, 0)}

    settled = deployed.settle("rain", "Yes")["settlement"]
    assert (settled["gross_cents"], settled["fee_cents"], settled["net_cents"]) == (45_000, 2_250, 42_750)
    assert (settled["winners"], settled["payouts_cents"], settled["breakage_cents"]) == (2, 42_750, 0)
    listener = deployed.start_listener("--count", "3")
    deployed.run("payout", "rain", "--yes")
    assert listener.wait().code == 0

    shown = deployed.run("status", "rain", "--payouts").out
    assert "fee\tKES 22.50" in shown
    assert "winners\t2 share KES 427.50" in shown
    lines = [line.split("\t") for line in shown.splitlines() if line.startswith("rain.1.")]
    assert [line[:7] for line in lines] == [
        ["rain.1.1", "u1", "2547****0001", "PAYOUT", "142.50", "142.00", "COMPLETED"],
        ["rain.1.2", "u2", "2547****0002", "PAYOUT", "285.00", "285.00", "COMPLETED"],
    ]
    assert {user: deployed.wallet(user) for user in before} == {"u1": (14_250, 50), "u2": (28_500, 0), "u3": (0, 0)}
    assert sorted((one["phone"], one["amount_cents"]) for one in deployed.payments()) == [
        ("254712000001", 14_200),
        ("254799300002", 28_500),
    ]
    assert deployed.ask("audit")["ok"]

    # What is kept of each call to M-Pesa, and of each act, is for anybody to read.
    kept = deployed.rows("SELECT kind, subject, request, response, outcome FROM exchanges")
    assert {"b2c"} <= {row[0] for row in kept} <= {"b2c", "oauth"}
    assert {row[1] for row in kept} >= {item["originator_conversation_id"] for item in deployed.items("rain").values()}
    acts = deployed.rows("SELECT action, actor, detail FROM events")
    assert {"user.add", "market.resolve", "market.settle", "payout.send"} <= {row[0] for row in acts}
    for row in (*kept, *acts):
        assert_hides(" ".join(map(str, row)), deployed.secrets())
