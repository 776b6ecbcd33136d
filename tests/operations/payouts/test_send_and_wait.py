"""A whole run, as a command and a task of Celery make it: followed, its results waited for, and what comes next."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import httpx

from kasoko_cli.operations.payouts.order import SendOrder
from kasoko_cli.operations.payouts.run import Run, Selection
from kasoko_cli.operations.payouts.send_and_wait import RunOutcome, outcome_of, send_and_wait
from kasoko_cli.operations.reconciliation.ask_and_wait import AskRequest, ask_and_wait
from kasoko_cli.operations.reconciliation.ask_and_wait import outcome_of as outcome_of_round
from kasoko_cli.operations.reconciliation.status_queries import AskPolicy
from kasoko_cli.operations.shared.run_registry import AtWork
from kasoko_cli.operations.shared.watching import Attended
from tests.operations.road import AT_ONCE, Road

PEOPLE = {"ann": "254712000001", "ben": "254712000002"}


class Audience:
    """Remembers what it was told; and has M-Pesa post what it owes as soon as something is waited for."""

    def __init__(self, road: Road) -> None:
        self.road, self.told = road, list[str]()

    @contextlib.contextmanager
    def part(self, title: str, total: int | None = None) -> Iterator[Callable[[str], None]]:
        if title in ("Results", "Answers"):
            self.road.deliver()
        self.told.append(f"{title} of {total}")
        yield self.told.append

    def happened(self, event: str, what: object) -> None:
        self.told.append(f"event {event}")


def order(road: Road, *only: str) -> SendOrder:
    return SendOrder(AT_ONCE, road.trust, Selection(only=only))


def run(road: Road, *only: str) -> tuple[Run, RunOutcome]:
    done = send_and_wait(road.context, road.gateway, order(road, *only), Attended(AtWork("run-1")))
    return done, outcome_of(road.db, done)


def test_a_run_is_followed_to_its_results(road: Road) -> None:
    road.owe(PEOPLE)
    work, audience = AtWork("run-1"), Audience(road)
    attended = Attended(work, watcher=audience)
    done = send_and_wait(road.context, road.gateway, order(road), attended, listen_seconds=30, expected=2)
    found = outcome_of(road.db, done)
    assert [end.status for end in found.ends] == ["COMPLETED", "COMPLETED"]
    assert (len(done.sent), found.exit_code, found.after_doubt, found.states) == (2, 0, None, {"COMPLETED"})
    assert audience.told == [
        "Sending of 2",
        *["event payout", "SENT"] * 2,
        "Results of 2",
        *["event result", "COMPLETED"] * 2,
    ]
    assert (work.doing, work.counts) == ("waiting for results", {"SENT": 2})


def test_a_run_that_takes_no_results_waits_for_none(road: Road) -> None:
    road.owe(PEOPLE)
    _, found = run(road, road.payout("ann").id)
    assert [end.status for end in found.ends] == ["SENT"]
    assert road.statuses() == {"ann": "SENT", "ben": "PENDING"}


def test_what_is_unknown_is_asked_about_before_anything_else(road: Road) -> None:
    road.owe(PEOPLE)
    road.interpose = lambda request: httpx.Response(500) if "paymentrequest" in request.url.path else None
    _, found = run(road)
    assert (found.exit_code, found.states) == (7, {"UNKNOWN"})
    assert found.after_doubt == "Unknown is not failed. Ask M-Pesa how they ended: kasoko reconcile --now"


def test_a_round_is_followed_to_its_answers(road: Road) -> None:
    road.owe(PEOPLE)
    road.send()
    road.posts.clear()  # the results are lost
    road.clock.forward(3600)
    work, audience = AtWork("run-2"), Audience(road)
    report = ask_and_wait(
        road.context,
        road.gateway,
        AskPolicy(),
        road.trust,
        AskRequest(now_at_once=True, listen_seconds=30),
        Attended(work, watcher=audience),
    )
    found = outcome_of_round(road.db, report, None)
    assert (found.open, found.not_asked, found.exit_code, found.next) == ([], [], 0, "")
    assert audience.told == ["Asking of None", *["event question", "asked"] * 2, "Answers of 2", "", ""]
    assert (work.doing, work.counts) == ("waiting for answers", {"asked": 2})
