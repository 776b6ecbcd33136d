"""A whole run, as a command and a task of Celery make it: followed, its results waited for, and what comes next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import httpx

from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.run import Run, Selection
from kasoko_cli.operations.payouts.send_and_wait import RunOutcome, outcome_of, send_and_wait
from kasoko_cli.operations.reconciliation.ask_and_wait import AskRequest, ask_and_wait
from kasoko_cli.operations.reconciliation.ask_and_wait import outcome_of as outcome_of_round
from kasoko_cli.operations.reconciliation.status_queries import AskPolicy
from kasoko_cli.operations.shared.run_registry import AtWork
from kasoko_cli.operations.shared.watching import Attended
from tests.operations.payout_harness import AT_ONCE, PayoutHarness

PEOPLE = {"ann": "254712000001", "ben": "254712000002"}


class Audience:
    """Remembers what it was told; and has M-Pesa post what it owes as soon as something is waited for."""

    def __init__(self, harness: PayoutHarness) -> None:
        self.harness, self.told = harness, list[str]()

    @contextlib.contextmanager
    def part(
        self, title: str, total: int | None = None, *, seconds: float | None = None
    ) -> Iterator[Callable[[str], None]]:
        if title.startswith("Waiting"):
            assert seconds is not None, "a wait says when it gives up"
            self.harness.deliver()
        self.told.append(f"{title} of {total}")
        yield self.told.append

    def happened(self, event: str, what: object) -> None:
        self.told.append(f"event {event}")


def order(harness: PayoutHarness, *only: str) -> SendOrder:
    return SendOrder(AT_ONCE, harness.trust, Selection(only=only))


def run(harness: PayoutHarness, *only: str) -> tuple[Run, RunOutcome]:
    done = send_and_wait(harness.context, harness.gateway, order(harness, *only), Attended(AtWork("run-1")))
    return done, outcome_of(harness.db, harness.clock, done)


def test_a_run_is_followed_to_its_results(harness: PayoutHarness) -> None:
    harness.owe(PEOPLE)
    work, audience = AtWork("run-1"), Audience(harness)
    attended = Attended(work, watcher=audience)
    done = send_and_wait(harness.context, harness.gateway, order(harness), attended, listen_seconds=30, expected=2)
    found = outcome_of(harness.db, harness.clock, done)
    assert [end.status for end in found.ends] == ["COMPLETED", "COMPLETED"]
    assert (len(done.sent), found.exit_code, found.after_doubt, found.states) == (2, 0, None, {"COMPLETED"})
    assert audience.told == [
        "Sending of 2",
        *["event payout", "SENT"] * 2,
        "Waiting for results of 2",
        *["event result", "COMPLETED"] * 2,
    ]
    assert (work.doing, work.counts) == ("waiting for results", {"SENT": 2})


def test_a_run_that_takes_no_results_waits_for_none(harness: PayoutHarness) -> None:
    harness.owe(PEOPLE)
    _, found = run(harness, harness.payout("ann").id)
    assert [end.status for end in found.ends] == ["SENT"]
    assert harness.statuses() == {"ann": "SENT", "ben": "PENDING"}


def test_what_is_unknown_is_asked_about_before_anything_else(harness: PayoutHarness) -> None:
    harness.owe(PEOPLE)
    harness.interpose = lambda request: httpx.Response(500) if "paymentrequest" in request.url.path else None
    _, found = run(harness)
    assert (found.exit_code, found.states) == (7, {"UNKNOWN"})
    assert found.after_doubt == "Unknown is not failed. Ask M-Pesa how they ended: kasoko reconcile --now"


def test_a_round_is_followed_to_its_answers(harness: PayoutHarness) -> None:
    harness.owe(PEOPLE)
    harness.send()
    harness.posts.clear()  # the results are lost
    harness.clock.forward(3600)
    work, audience = AtWork("run-2"), Audience(harness)
    report = ask_and_wait(
        harness.context,
        harness.gateway,
        AskPolicy(),
        harness.trust,
        AskRequest(now_at_once=True, listen_seconds=30),
        Attended(work, watcher=audience),
    )
    found = outcome_of_round(harness.db, report, None)
    assert (found.open, found.not_asked, found.exit_code, found.next) == ([], [], 0, "")
    assert audience.told == ["Asking of None", *["event question", "asked"] * 2, "Waiting for answers of 2", "", ""]
    assert (work.doing, work.counts) == ("waiting for answers", {"asked": 2})
