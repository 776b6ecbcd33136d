"""What is tried again, what is left alone, and what an operator is told about it."""

from __future__ import annotations

import threading
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import text

from kasoko_cli.clock import eat
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.codes import RESULT_RULES, Fate
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.errors import NotFound
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.retry import LeftAlone, Retried
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness


def sent(harness: PayoutHarness, *, cents: int = 10_000, phone: str = ANN) -> PayoutHarness:
    """Ann's payout was taken, and its result is left to the test."""
    harness.owe({"ann": phone}, cents=cents)
    harness.send()
    harness.posts.clear()
    return harness


def end(harness: PayoutHarness, user: str, code: object, **changes: object) -> str:
    """The result of a user's payout, in order."""
    attempt = harness.attempt(user)
    return harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, **changes))  # type: ignore[arg-type]


def left_alone(report: Retried) -> tuple[str, str]:
    """Why the one payout was left alone, and what to do."""
    [left] = report.left
    assert report.retried == []
    return left.why, left.hint


def test_each_definite_failure_is_retried_or_left_alone_as_its_code_says(harness: PayoutHarness) -> None:
    failures = {code: rule for code, rule in RESULT_RULES.items() if rule.fate is Fate.FAILED}
    users = {f"user{n}": code for n, code in enumerate(failures)}
    harness.owe({user: f"2547120{n:05d}" for n, user in enumerate(users)})
    harness.send()
    for user, code in users.items():
        assert end(harness, user, code) == "failed"
    report = harness.retry()
    retried = {code for user, code in users.items() if harness.payout(user).id in report.retried}
    assert retried == {code for code, rule in failures.items() if rule.may_succeed_again}
    assert report.wire_cents == 10_000 * len(retried)
    told = {left.code: left for left in report.left}
    for code in set(failures) - retried:
        rule, user = failures[code], next(user for user, c in users.items() if c == code)
        payout_id = harness.payout(user).id
        if rule.needs_other_phone:
            assert told[code] == LeftAlone(
                payout_id,
                "FAILED",
                code,
                f"it cannot succeed to the same number: {rule.meaning}",
                f"Correct the number: kasoko user set-phone {user} PHONE, then: kasoko payout retry {payout_id}",
            )
        else:
            assert told[code] == LeftAlone(
                payout_id, "FAILED", code, f"it cannot succeed unchanged: {rule.meaning}", rule.advice
            )
    harness.assert_books()


def _to(harness: PayoutHarness, status: PayoutStatus) -> None:
    """Bring Ann's payout into a state by the shortest true way."""
    harness.owe({"ann": ANN})
    match status:
        case PayoutStatus.PENDING:
            return
        case PayoutStatus.HELD:
            manual_decision.hold(harness.context, payout_id="derby.1.1")
        case PayoutStatus.WALLET:
            manual_decision.to_wallet(harness.context, payout_id="derby.1.1")
        case PayoutStatus.SENT:
            harness.send()
        case PayoutStatus.UNKNOWN:
            harness.send()
            end(harness, "ann", 17)
        case PayoutStatus.COMPLETED:
            harness.send()
            end(harness, "ann", 0)
        case PayoutStatus.SENDING:

            def killed(request: httpx.Request) -> httpx.Response | None:
                if "b2c" in request.url.path:
                    raise KeyboardInterrupt
                return None

            harness.interpose = killed
            with pytest.raises(KeyboardInterrupt):
                harness.send()
        case _:
            raise AssertionError(status)


@pytest.mark.parametrize(
    ("status", "why", "hint"),
    [
        (PayoutStatus.PENDING, "it is due already", "kasoko payout"),
        (PayoutStatus.SENDING, "it is being sent", "kasoko reconcile"),
        (PayoutStatus.SENT, "M-Pesa took it, and its result is still to come", "kasoko reconcile"),
        (PayoutStatus.UNKNOWN, "nobody here knows whether it was paid", "kasoko reconcile"),
        (PayoutStatus.COMPLETED, "it was paid", "kasoko payout show derby.1.1"),
        (PayoutStatus.WALLET, "it was credited to the wallet", "kasoko payout show derby.1.1"),
        (PayoutStatus.HELD, "it is held", "kasoko payout show derby.1.1"),
    ],
)
def test_what_is_not_failed_is_left_alone_with_a_reason_and_what_to_do(
    harness: PayoutHarness, status: PayoutStatus, why: str, hint: str
) -> None:
    _to(harness, status)
    before = harness.money()
    report = harness.retry(only=["derby.1.1"])
    assert report.left == [LeftAlone("derby.1.1", str(status), report.left[0].code, why, hint)]
    assert report.retried == []
    assert (harness.money(), harness.payout("ann").status) == (before, status)
    assert harness.retry().left == []


def test_a_payout_that_is_not_there_is_not_found_and_nothing_else_is_retried(harness: PayoutHarness) -> None:
    sent(harness)
    end(harness, "ann", 26)
    with pytest.raises(NotFound):
        harness.retry(only=["derby.1.1", "derby.1.9"])
    with pytest.raises(NotFound):
        harness.retry(market="nowhere")
    assert harness.payout("ann").status is PayoutStatus.FAILED


def test_a_corrected_number_is_tried_again(harness: PayoutHarness) -> None:
    sent(harness)
    end(harness, "ann", 2040)
    assert left_alone(harness.retry()) == (
        "it cannot succeed to the same number: the receiver is not a registered M-Pesa customer",
        "Correct the number: kasoko user set-phone ann PHONE, then: kasoko payout retry derby.1.1",
    )
    harness.set_phone("ann", BEN)
    assert harness.retry().retried == ["derby.1.1"]
    harness.send()
    harness.deliver()
    assert (harness.paid_to(BEN), harness.attempt("ann").phone) == (10_000, BEN)
    harness.assert_books()


def test_a_number_that_is_impossible_is_not_tried_again_unchanged(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799100001"})
    harness.send()
    why, hint = left_alone(harness.retry())
    assert why.startswith("it cannot succeed to the same number: Bad Request - Invalid PartyB")
    assert hint.startswith("Correct the number: kasoko user set-phone ann PHONE")


def test_a_large_failure_that_was_posted_is_confirmed_first(harness: PayoutHarness) -> None:
    """A forged failure invites a second payment: above the limit a callback alone opens no new attempt."""
    sent(harness, cents=1_000_100)
    end(harness, "ann", 26)
    from_at = harness.clock() + timedelta(seconds=300)
    assert left_alone(harness.retry()) == (
        "above KES 10,000.00 a failure that was posted to us is confirmed first",
        f"Ask M-Pesa, from {eat(from_at)} on: kasoko reconcile --now",
    )
    assert harness.retry(confirm_above_cents=1_000_100).retried == ["derby.1.1"]


def test_a_large_payout_that_never_left_needs_no_confirmation(harness: PayoutHarness) -> None:
    harness.owe({"ann": "254799100001"}, cents=2_000_000)
    harness.send()
    assert harness.payout("ann").status is PayoutStatus.FAILED
    harness.set_phone("ann", ANN)
    assert harness.retry().retried == ["derby.1.1"]


def test_a_payout_about_which_something_else_was_posted_is_asked_about_first(harness: PayoutHarness) -> None:
    sent(harness)
    attempt = harness.attempt("ann")
    harness.post(CallbackKind.RESULT, attempt.id, harness.result(attempt, amount=1))
    end(harness, "ann", 26)
    assert left_alone(harness.retry()) == (
        "something was posted that says otherwise, and M-Pesa has not answered since",
        "Ask M-Pesa: kasoko reconcile --now. Where it does not say: kasoko incident close 1 --reason WHY",
    )
    [incident] = harness.all_incidents()
    manual_decision.close_incidents(harness.context, numbers=[incident.id or 0])
    assert harness.retry().retried == ["derby.1.1"]


def test_a_doubtful_success_after_the_failure_keeps_it_from_being_tried_again(harness: PayoutHarness) -> None:
    sent(harness)
    end(harness, "ann", 26)
    assert end(harness, "ann", 0, amount="left out") == "hint"
    assert harness.retry().retried == []
    assert harness.incidents() == ["contradiction"]


def test_failures_of_a_market_or_of_the_last_hours_are_chosen(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN}, market="first")
    harness.owe({"ben": BEN}, market="second")
    harness.send()
    end(harness, "ann", 26)
    harness.clock.forward(hours=30)
    end(harness, "ben", 26)
    assert harness.retry(market="first", hours=24).retried == []
    assert harness.retry(hours=24).retried == ["second.1.1"]
    assert harness.retry(market="first").retried == ["first.1.1"]
    assert harness.retry().retried == []


def test_two_retries_at_once_make_each_payout_due_once(harness: PayoutHarness) -> None:
    people = {f"user{n}": f"2547120{n:05d}" for n in range(10)}
    harness.owe(people)
    harness.send()
    for user in people:
        end(harness, user, 26)
    reports: list[Retried] = []
    barrier, trouble = threading.Barrier(2), []

    def retry() -> None:
        try:
            barrier.wait(timeout=10)
            reports.append(harness.retry())
        except Exception as error:
            trouble.append(error)

    threads = [threading.Thread(target=retry) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert trouble == []
    retried = [payout_id for report in reports for payout_id in report.retried]
    assert len(retried) == len(set(retried)) == 10
    assert {left.why for report in reports for left in report.left} <= {"it is due already"}
    with harness.db.reading() as session:
        events = session.execute(text("SELECT count(*) FROM events WHERE action = 'payout.retry'")).scalar_one()
    assert events == 10
    harness.send()
    assert {len(harness.attempts(user)) for user in people} == {2}
    harness.assert_books()


def test_a_payout_named_twice_is_retried_once(harness: PayoutHarness) -> None:
    sent(harness)
    end(harness, "ann", 26)
    report = harness.retry(only=["derby.1.1", "derby.1.1"])
    assert (report.retried, [left.why for left in report.left]) == (["derby.1.1"], ["it is due already"])


def test_retry_failed_never_touches_what_is_unknown_however_often_it_runs(harness: PayoutHarness) -> None:
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN})
    harness.send()
    harness.posts.clear()
    for user, code in (("ann", 17), ("ben", 99999), ("cyn", 15)):
        end(harness, user, code)
    for _ in range(3):
        harness.clock.forward(days=1)
        assert harness.retry().retried == []
        assert harness.send().sent == []
    assert set(harness.statuses().values()) == {"UNKNOWN"}
    assert [len(harness.attempts(user)) for user in ("ann", "ben", "cyn")] == [1, 1, 1]
    harness.assert_agreed()
