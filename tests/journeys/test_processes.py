"""Several processes on one database, and processes that end in the middle: nobody is ever paid twice."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from kasoko_cli.cli.signals import SAME_WORD_SECONDS
from kasoko_cli.store.engine.database import parse_url
from tests.journeys.deployment_harness import PATIENCE_SECONDS, DeploymentHarness, Json

#: So few requests a second that a run lasts some seconds, in which other things can happen.
SLOWLY = """
    [payout]
    rate_per_second = 8
    concurrency = 4
    lease_seconds = 10
"""

#: Of the simulator's table: it is paid, and no result ever comes.
NO_RESULT = "0799300001"
#: The same, and not even the request is answered.
NO_ANSWER = "0799200007"


def owe(deployed: DeploymentHarness, count: int) -> dict[str, str]:
    """A settled market that owes KES 97 to each of so many winners; their phones by user, as the wire has them."""
    winners = {f"w{number:03d}": f"0712{number:06d}" for number in range(count)}
    stakes = [(user, phone, "Yes", "100") for user, phone in winners.items()]
    # The loser's stake pays the fee and two shillings for each winner.
    deployed.open_market("rain", "Yes", "No", stakes=[*stakes, ("loser", "0799000999", "No", str(count * 100 // 40))])
    settled = deployed.settle("rain", "Yes")
    assert (settled["to_phones"], settled["wire_cents"]) == (count, count * 9_700)
    return {user: "254" + phone[1:] for user, phone in winners.items()}


def until(done: Callable[[], bool]) -> None:
    """Look again and again, for a time."""
    ends_at, pause = time.monotonic() + PATIENCE_SECONDS, threading.Event()
    while not done():
        assert time.monotonic() < ends_at, "it did not happen"
        pause.wait(0.02)


def assert_each_was_paid_once(deployed: DeploymentHarness, phones: dict[str, str]) -> None:
    """The simulator paid each winner once, our books say the same, and every check holds."""
    assert Counter((one["phone"], one["amount_cents"]) for one in deployed.payments()) == Counter(
        (phone, 9_700) for phone in phones.values()
    )
    receipts = {one["phone"]: one["receipt"] for one in deployed.payments()}
    items = deployed.items("rain")
    assert {user: (item["status"], item["receipt"]) for user, item in items.items()} == {
        user: ("COMPLETED", receipts[phone]) for user, phone in phones.items()
    }
    delivered = deployed.rows("SELECT sum(amount_cents) FROM postings WHERE account = 'delivered'")
    assert int(delivered[0][0]) == len(phones) * 9_700
    assert deployed.rows("SELECT coalesce(sum(amount_cents), 0) FROM postings WHERE account = 'in_flight'") == [(0,)]
    assert deployed.ask("audit", "--deep", "--chain")["ok"]


# --- At once -------------------------------------------------------------------------------------


@contextmanager
def gates(deployed: DeploymentHarness, count: int) -> Iterator[tuple[list[Path], Callable[[], None]]]:
    """So many pipes in the place of a secret's file, and what opens them all at once.

    A process that reads its settings waits at its pipe; the gates open when each has one waiting.
    """
    secret = deployed.secrets()["MPESA_CONSUMER_SECRET"]
    pipes = [deployed.folder / f"gate-{number}" for number in range(count)]
    for pipe in pipes:
        os.mkfifo(pipe, mode=0o600)
    ends: list[int] = []

    def somebody_waits(pipe: Path) -> bool:
        try:
            ends.append(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:  # nobody has it open for reading
            return False
        return True

    def open_all() -> None:
        for pipe in pipes:
            until(lambda pipe=pipe: somebody_waits(pipe))  # type: ignore[misc]
        for end in ends:
            os.write(end, secret.encode())
            os.close(end)

    yield pipes, open_all


@pytest.mark.exhaustive_on("sqlite")
def test_of_three_runs_at_once_one_works_and_pays_each_winner_once(deployed: DeploymentHarness) -> None:
    """The others say who has the work. Senders that do share one work are raced in tests/proof."""
    deployed.furnish(SLOWLY)
    deployed.start_simulator()
    phones = owe(deployed, 60)
    deployed.start_listener()
    # The consumer secret stands in .env too; only one place may have it.
    env = deployed.folder / ".env"
    with gates(deployed, 3) as (pipes, open_all):
        secretless = [line for line in env.read_text().splitlines() if not line.startswith("MPESA_CONSUMER_SECRET=")]
        env.write_text("\n".join(secretless) + "\n")
        runs = [
            deployed.start("payout", "rain", "--yes", "--json", MPESA_CONSUMER_SECRET_FILE=str(pipe)) for pipe in pipes
        ]
        open_all()
        done = [run.wait() for run in runs]

    done.sort(key=lambda one: one.code)
    assert [one.code for one in done] == [0, 9, 9], [one.err for one in done]
    for one in done[1:]:
        error = json.loads(one.err.splitlines()[-1])["error"]
        assert (error["kind"], error["exit_code"]) == ("busy", 9)
        assert error["message"].startswith("Another run has this work: kasoko payout of rain, by ")
    assert Counter(payout["payout_id"] for payout in done[0].json["run"]["sent"]) == Counter(
        item["id"] for item in deployed.items("rain").values()
    )
    deployed.until_final("rain")
    assert deployed.ledger()["duplicates_refused"] == 0
    assert_each_was_paid_once(deployed, phones)


#: What a process may take to see that sending is paused. It looks twice a second; a busy machine adds to that.
SEEN_SECONDS = 3.0


@pytest.mark.exhaustive_on("sqlite")
def test_a_pause_is_seen_by_every_host_that_is_sending(deployed: DeploymentHarness) -> None:
    deployed.furnish(
        """
        [payout]
        rate_per_second = 60
        concurrency = 8
        """
    )
    deployed.start_simulator()
    phones = owe(deployed, 300)
    deployed.start_listener()
    # SQLite has one host; on PostgreSQL the hosts share the work.
    hosts = ["pay1"] if deployed.database_url.startswith("sqlite") else ["pay1", "pay2", "pay3"]
    runs = [deployed.start("payout", "rain", "--yes", "--json", KASOKO_HOST=host) for host in hosts]
    sending = "SELECT count(DISTINCT lease_token) FROM attempts WHERE status <> 'INTENT'"
    until(lambda: deployed.rows(sending) == [(len(hosts),)])
    deployed.run("pause", "--reason", "the float is being moved", "--yes")
    assert [run.wait().code for run in runs] == [10] * len(hosts), "work is left"
    [(paused_at,)] = deployed.rows("SELECT at FROM switches WHERE name = 'pause'")
    [(last_at, requests)] = deployed.rows("SELECT max(at), count(*) FROM exchanges WHERE kind = 'b2c'")
    assert requests < len(phones)
    assert (_moment(last_at) - _moment(paused_at)).total_seconds() < SEEN_SECONDS
    [(left,)] = deployed.rows("SELECT count(*) FROM payouts WHERE status = 'PENDING'")
    assert left == len(phones) - requests, "what was claimed and not sent is due again"
    deployed.run("resume")
    deployed.run("payout", "rain", "--yes", "--wait", "--max-seconds", "120")
    deployed.until_final("rain")
    assert_each_was_paid_once(deployed, phones)


def _moment(said: object) -> datetime:
    """A time as the one database or the other has it."""
    return said if isinstance(said, datetime) else datetime.fromisoformat(str(said))


# --- Ended in the middle -------------------------------------------------------------------------


@contextmanager
def nothing_can_be_applied(deployed: DeploymentHarness) -> Iterator[None]:
    """Callbacks can be stored, and not applied: as if whoever applies them stood still in between."""
    engine = sa.create_engine(parse_url(deployed.database_url))
    try:
        if engine.dialect.name == "sqlite":
            trigger = "CREATE TRIGGER stands_still BEFORE UPDATE ON callbacks BEGIN SELECT RAISE(ABORT, 'still'); END"
            with engine.begin() as connection:
                connection.execute(sa.text(trigger))
            yield
            with engine.begin() as connection:
                connection.execute(sa.text("DROP TRIGGER stands_still"))
        else:
            with engine.begin() as connection:
                connection.execute(sa.text("SELECT id FROM payouts FOR UPDATE")).all()
                yield
    finally:
        engine.dispose()


@pytest.mark.exhaustive_on("sqlite")
def test_a_result_that_a_killed_listener_had_stored_is_applied_by_the_next_command(deployed: DeploymentHarness) -> None:
    """M-Pesa's answer is on the disk, its 200 has gone out, and the listener dies before it applies it."""
    deployed.furnish()
    deployed.start_simulator()
    deployed.open_market(
        "rain", "Yes", "No", stakes=[("ann", NO_RESULT, "Yes", "100"), ("ben", "0712000002", "No", "50")]
    )
    deployed.settle("rain", "Yes")
    deployed.run("payout", "rain", "--yes")
    listener = deployed.start_listener()

    with nothing_can_be_applied(deployed):
        deployed.run("reconcile", "--now", "--no-listen")  # the answer is posted to the listener
        until(lambda: deployed.rows("SELECT count(*) FROM callbacks") == [(1,)])
        assert listener.kill().code == -signal.SIGKILL
    assert deployed.rows("SELECT count(*) FROM callbacks WHERE applied_at IS NULL") == [(1,)]
    assert deployed.ask("status")["callbacks_waiting"] == 1
    assert deployed.items("rain")["ann"]["status"] == "SENT"

    assert deployed.ask("payout", "rain", "--yes")["run"]["sent"] == []
    assert deployed.items("rain")["ann"]["status"] == "COMPLETED"
    assert deployed.ask("status")["callbacks_waiting"] == 0
    assert deployed.wallet("ann") == (14_250, 50)
    assert [one["amount_cents"] for one in deployed.payments()] == [14_200]
    assert deployed.ask("audit", "--deep", "--chain")["ok"]


def _ask_until_each_is_known_or_not_found(deployed: DeploymentHarness) -> list[Json]:
    """Ask M-Pesa about all that is open, again and again; what it says it never heard of stays open."""
    still: list[Json] = []

    def asked() -> bool:
        found = deployed.run("reconcile", "--now", "--json", code=None)
        assert found.code in (0, 7), found.err
        still[:] = found.json["open"]
        return all(one["status"] == "UNKNOWN" and one["last_answer"].startswith("NOT_FOUND") for one in still)

    until(asked)
    return still


@pytest.mark.exhaustive_on("sqlite")
def test_a_run_killed_in_the_middle_is_found_out_and_finished_and_nobody_is_paid_twice(
    deployed: DeploymentHarness,
) -> None:
    """Nobody listens while it runs, so that of what it sent not even the results are known."""
    deployed.furnish(SLOWLY)
    deployed.start_simulator()
    phones = owe(deployed, 24)
    run = deployed.start("payout", "rain", "--yes")
    until(lambda: len(deployed.payments()) >= 6)
    assert run.kill().code == -signal.SIGKILL
    paid = {one["phone"] for one in deployed.payments()}
    assert len(paid) < 24, "it was killed in the middle"

    # Until the lease of 10 s is over its last attempts may still be on their way, for all that anybody knows.
    lost = [one["payout_id"] for one in _ask_until_each_is_known_or_not_found(deployed)]
    items = deployed.items("rain")
    assert {phones[user] for user, item in items.items() if item["status"] == "COMPLETED"} == paid
    assert len(deployed.payments()) == len(paid), "finding out sends nothing"
    assert len(lost) <= 4, "no more than were out at once"

    # That M-Pesa never heard of them is no proof that it never will: a person looks, and says so.
    for payout_id in lost:
        deployed.run(
            *("payout", "decide", payout_id, "--not-paid", "--yes"),
            *("--evidence", "the portal, a day later", "--reason", "the power went"),
        )
    if lost:
        deployed.run("payout", "retry", *lost, "--yes", "--listen")
    deployed.run("payout", "rain", "--yes", "--listen")
    assert deployed.ledger()["duplicates_refused"] == 0
    assert_each_was_paid_once(deployed, phones)


@pytest.mark.exhaustive_on("sqlite")
def test_ctrl_c_stops_between_payouts_and_a_second_run_finishes(deployed: DeploymentHarness) -> None:
    deployed.furnish(SLOWLY)
    deployed.start_simulator()
    phones = owe(deployed, 24)
    deployed.start_listener()
    run = deployed.start("payout", "rain", "--yes", "--json")
    until(lambda: len(deployed.payments()) >= 4)
    run.signal(signal.SIGINT)
    stopped = run.wait()

    assert stopped.code == 130
    assert stopped.err.splitlines()[-1] == (
        "Stopping: what is in flight is waited for. Once more to stop at once; both are safe."
    )
    first = stopped.json
    assert (first["run"]["stopped"], first["exit_code"]) == ("interrupted", 130)
    assert {payout["became"] for payout in first["run"]["sent"]} == {"SENT"}, "what was in flight was waited for"
    assert len(first["run"]["sent"]) == len(deployed.payments()) < 24
    assert first["run"]["left"] == 24 - len(deployed.payments())

    second = deployed.ask("payout", "rain", "--yes")
    assert (second["run"]["stopped"], second["run"]["left"]) == ("done", 0)
    assert len(second["run"]["sent"]) == first["run"]["left"]
    deployed.until_final("rain")
    assert_each_was_paid_once(deployed, phones)


@pytest.mark.exhaustive_on("sqlite")
def test_a_second_ctrl_c_waits_for_nobody_and_what_was_in_flight_is_asked_about(deployed: DeploymentHarness) -> None:
    deployed.furnish(SLOWLY)
    deployed.start_simulator()
    deployed.open_market(
        "rain", "Yes", "No", stakes=[("ann", NO_ANSWER, "Yes", "100"), ("ben", "0712000001", "No", "9")]
    )
    deployed.settle("rain", "Yes")
    deployed.start_listener()
    run = deployed.start("payout", "rain", "--yes", "--json")
    until(lambda: len(deployed.payments()) == 1)
    run.signal(signal.SIGINT)
    run.wait_for(lambda running: any(line.startswith("Stopping: ") for line in running.err))
    time.sleep(2 * SAME_WORD_SECONDS)
    run.signal(signal.SIGINT)
    assert run.wait().code == 130

    def states() -> list[str]:
        return [one["status"] for one in deployed.items("rain").values()]

    def asked() -> bool:
        deployed.run("reconcile", "--now", "--no-listen", code=None)
        return states() == ["COMPLETED"]

    assert states() != ["COMPLETED"], "nobody waited for the answer"
    assert deployed.ask("payout", "rain", "--yes")["run"]["sent"] == [], "it stands as sent, whatever became of it"
    until(asked)
    assert len(deployed.payments()) == 1
    assert deployed.ask("audit")["ok"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_listener_that_is_told_to_stop_says_how_many_results_it_took(
    bare: DeploymentHarness, number: signal.Signals
) -> None:
    bare.furnish()
    listener = bare.start_listener()
    listener.signal(number)
    done = listener.wait()
    assert (done.code, done.err.splitlines()[-1]) == (0, "Stopped: 0 received, 0 applied.")
