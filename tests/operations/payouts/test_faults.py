"""Every trouble that the simulator knows, one winner each, over real sockets: paid once or not at all, and known.

The rows that stay open are named here, each with its reason; whatever is not named ends as M-Pesa's own ledger says.
"""

from __future__ import annotations

import sys

import pytest

from kasoko_cli.daraja.simulator.app import SimulatorSettings
from kasoko_cli.daraja.simulator.people import PEOPLE
from kasoko_cli.errors import AccountRefused
from kasoko_cli.operations.payouts import outage, switches
from kasoko_cli.operations.payouts.run import SendPolicy
from kasoko_cli.operations.reconciliation import status_queries
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store import callbacks
from kasoko_cli.store.engine.database import Database
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import ANN, LoudHarness

POLICY = SendPolicy(rate_per_second=0, concurrency=8)
NEVER_TAKEN = "M-Pesa never took it and did not say so: it only ever answers that it does not know the id"
SAYS_NOTHING = "no answer of M-Pesa's says how it ended"
ANOTHER = "every answer of M-Pesa's speaks of another payment"

#: Who rightly stays open, by the last six digits of the phone, and why.
OPEN = {
    "100008": NEVER_TAKEN,
    "100009": NEVER_TAKEN,
    "100010": NEVER_TAKEN,
    "100011": NEVER_TAKEN,
    "100012": NEVER_TAKEN,
    "100013": NEVER_TAKEN,
    "100014": NEVER_TAKEN,
    "100015": NEVER_TAKEN,
    "100016": NEVER_TAKEN,
    "100017": NEVER_TAKEN,
    "100018": NEVER_TAKEN,
    "100019": NEVER_TAKEN,
    "400006": SAYS_NOTHING,
    "400008": ANOTHER,
    "400009": ANOTHER,
    "400011": SAYS_NOTHING,
}
#: Whose token is refused every time: it stays due until a person has mended the account.
REFUSES_THE_ACCOUNT = "100006"
#: M-Pesa answers "Declined" to our own question, with every id right, and had paid. Nobody could see through that:
#: the matrix leaves this one alone once it is believed failed, as a second payment could not be told from a first.
LIES_TO_US = "400007"


@pytest.mark.exhaustive
def test_every_trouble_of_the_table_ends_in_one_payment_or_none_and_we_know_which(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Everybody here is in trouble, which is no outage.
    monkeypatch.setattr(outage, "UNKNOWN_STOPS_AFTER", 10**6)
    settings = SimulatorSettings(
        result_delay_seconds=(0.0, 0.1),
        late_seconds=0.5,
        slow_seconds=0.2,
        hang_seconds=6.0,
        drip_seconds=0.05,
        contradiction_seconds=0.2,
    )
    users = {f"user{phone[6:]}": phone for phone in PEOPLE}
    with LoudHarness(db, clock, new_id, actor, settings, timeout_seconds=1.5, total_seconds=3.0) as harness:
        harness.owe(users)
        for round_ in range(7):
            # Twice an operator tries again all that may be tried again; the rest is the schedule's.
            if round_ in (1, 2):
                harness.retry(only=_worth_another_try(harness))
            _send_all(harness)
            _listen(harness)
            _ask(harness)
            clock.forward(hours=1)
        statuses = {user[4:]: status for user, status in harness.statuses().items()}
        paid = {phone[6:]: harness.paid_to(phone) for phone in PEOPLE}

        still_open = {who for who, status in statuses.items() if status in ("UNKNOWN", "SENT")}
        assert still_open == set(OPEN)
        assert statuses.pop(REFUSES_THE_ACCOUNT) == "PENDING"
        assert (statuses.pop(LIES_TO_US), paid.pop(LIES_TO_US)) == ("FAILED", 10_000)

        assert set(paid.values()) == {0, 10_000}, "somebody was paid twice"
        wrong = {
            who: (status, paid[who])
            for who, status in statuses.items()
            if who not in OPEN and (status, paid[who]) not in (("COMPLETED", 10_000), ("FAILED", 0))
        }
        assert wrong == {}
        assert [who for who, why in OPEN.items() if why is NEVER_TAKEN and paid[who]] == []
        expected = {phone[6:] for phone, person in PEOPLE.items() if person.paid}
        assert {who for who, cents in paid.items() if cents} | {LIES_TO_US} == expected - _never_sent_again()
        _assert_books_and_believed(harness)


def _never_sent_again() -> set[str]:
    """Who would have been paid if a request that may have been taken were sent again, which it never is."""
    return {who for who, why in OPEN.items() if why is NEVER_TAKEN}


def _send_all(harness: LoudHarness) -> None:
    """Runs, each resumed where an account-level answer had stopped it, until nothing else is due."""
    for _ in range(40):
        try:
            run = harness.send(POLICY)
        except AccountRefused:
            run = None
        switches.resume(harness.context)
        if run is not None and (run.left == 0 or not _due_now(harness, but=f"user{REFUSES_THE_ACCOUNT}")):
            return
    raise AssertionError(f"forty runs did not send everything: {harness.statuses()}")


def _due_now(harness: LoudHarness, *, but: str) -> list[str]:
    """Whose payout may be sent now."""
    found = []
    for user, status in harness.statuses().items():
        if status == "PENDING" and user != but:
            payout = harness.payout(user)
            if payout.not_before is None or payout.not_before <= harness.clock():
                found.append(user)
    return found


def _listen(harness: LoudHarness) -> None:
    """Wait until every result that M-Pesa owes was posted and applied."""
    harness.until(lambda: harness.simulator.ledger()["results_owed"] == 0)
    harness.until(lambda: not harness.waiting())


def _ask(harness: LoudHarness) -> None:
    harness.reconcile(deliver=False)
    _listen(harness)


def _worth_another_try(harness: LoudHarness) -> list[str]:
    """Failed payouts, but for the one about which M-Pesa lied to our face."""
    return [
        harness.payout(user).id
        for user, status in harness.statuses().items()
        if status == "FAILED" and user != f"user{LIES_TO_US}"
    ]


def _assert_books_and_believed(harness: LoudHarness) -> None:
    """The books hold, and each attempt's receipt is the ledger's own."""
    harness.assert_books()
    receipts = {payment["originator_conversation_id"]: payment["receipt"] for payment in harness.ledger()}
    for user, status in harness.statuses().items():
        for attempt in harness.attempts(user):
            if attempt.receipt is not None:
                assert receipts[attempt.id] == attempt.receipt, user
            elif user != f"user{LIES_TO_US}" and attempt.status in ("FAILED", "REJECTED"):
                assert attempt.id not in receipts, (user, status)
    open_now = {one.payout_id for one in status_queries.list_open(harness.db)}
    assert open_now == {harness.payout(f"user{who}").id for who in OPEN}


def test_the_table_of_the_matrix_names_only_numbers_of_the_simulator() -> None:
    numbers = {phone[6:] for phone in PEOPLE}
    assert {*OPEN, REFUSES_THE_ACCOUNT, LIES_TO_US} <= numbers


def test_a_result_from_another_address_is_believed_and_its_address_is_kept(
    db: Database, clock: FixedClock, new_id: CountedIds, actor: Actor
) -> None:
    """M-Pesa posts from many addresses: which one it was is evidence, and no factor of belief."""
    address = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"  # only Linux has all of 127.0.0.0/8
    settings = SimulatorSettings(post_from=address, result_delay_seconds=(0.0, 0.01))
    with LoudHarness(db, clock, new_id, actor, settings) as harness:
        harness.owe({"ann": ANN})
        harness.send()
        harness.until(lambda: harness.statuses() == {"ann": "COMPLETED"})
        with db.reading() as session:
            assert [callback.source for callback in callbacks.list_all(session)] == [address]
