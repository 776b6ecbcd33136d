"""Whoever sees exit 7 finds in the output the one next command to type: on every path, for people and for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
import typer.main
from sqlmodel import select

from kasoko_cli.cli.app import app
from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.operations.callbacks import apply_results
from kasoko_cli.store.log import raise_incident
from kasoko_cli.store.schema.tables import Attempt
from tests.proof.bench import Bench, with_listener
from tests.proof.conftest import MakeBench
from tests.proof.processes import Ended, Forker

ANN = "254712000001"
#: Of the simulator's table: taken, then the connection breaks; never taken, and no answer; taken, then not known as
#: a receiver; its result is lost, and every status answer names another amount.
NO_ANSWER, NEVER_TAKEN, UNREGISTERED = "254799200005", "254799100010", "254799002040"
ANOTHER_AMOUNT = "254799400008"

ASK, DECIDE, INCIDENTS = "kasoko reconcile --now", "kasoko payout decide derby.1.1 --help", "kasoko incident list"
FLOAT = "kasoko float --listen"
PAY, ROUND = ("payout", "--yes"), ("reconcile", "--now", "--listen-seconds", "1")

Story = Callable[[Bench, Forker], tuple[str, ...]]


def unknown(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """A payment without an answer."""
    bench.owe({"u1": (NO_ANSWER, 10_000)})
    return PAY


def a_lost_sender(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """The run before died in the middle, and this one marks what it left."""
    bench.owe({"u1": (ANN, 10_000)})
    bench.run_one(forker, *PAY, points="kill:request.after:2")
    bench.forward(100)
    return PAY


def held(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """Something came up against a payout that was due."""
    bench.owe({"u1": (ANN, 10_000)})
    with bench.opened() as db, db.transaction() as session:
        raise_incident(session, key="k", kind="contradiction", what="?", at=bench.clock(), payout_id="derby.1.1")
    return PAY


def failed_then_silent(bench: Bench, forker: Forker) -> None:
    bench.owe({"u1": (UNREGISTERED, 10_000)})
    bench.run_one(forker, *with_listener(PAY))
    bench.set_phone("u1", NO_ANSWER)


def tried_again(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """The second attempt of what failed has no answer."""
    failed_then_silent(bench, forker)
    return "retry-failed", "--yes"


def tried_again_by_name(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """The same by hand."""
    failed_then_silent(bench, forker)
    return "payout", "retry", "derby.1.1", "--yes"


def not_answered_yet(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """M-Pesa was asked, and nobody listens for its answer."""
    bench.owe({"u1": (NO_ANSWER, 10_000)})
    bench.run_one(forker, *PAY)
    return "reconcile", "--now", "--no-listen"


def never_known(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """M-Pesa was asked again and again, and does not know it."""
    bench.owe({"u1": (NEVER_TAKEN, 10_000)})
    bench.run_one(forker, *PAY)
    for _ in range(3):
        bench.forward(1)
        bench.run_one(forker, *ROUND)
    return ROUND


def contradicted(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """M-Pesa took it, its result is lost, and the status answer speaks of another amount."""
    bench.owe({"u1": (ANOTHER_AMOUNT, 10_000)})
    bench.run_one(forker, *PAY)
    return ROUND


def no_balance(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """M-Pesa was asked for its balances, and nobody listens for the answer."""
    bench.owe({"u1": (ANN, 10_000)})
    return "float", "--listen-seconds", "0"


def a_result_that_waits(bench: Bench, forker: Forker) -> tuple[str, ...]:
    """A result came before the acknowledgement, whose sender may still be at work."""
    bench.owe({"u1": (ANN, 10_000)})
    bench.run_one(forker, *PAY, points="kill:request.after:2")
    with bench.opened() as db:
        with db.reading() as session:
            attempt = session.exec(select(Attempt)).one()
        values = {"TransactionAmount": attempt.wire_cents // 100, "TransactionReceipt": "UKO1234567"}
        result = {
            "ResultType": 0,
            "ResultCode": 0,
            "OriginatorConversationID": attempt.id,
            "ConversationID": "AG_20261124_1",
            "TransactionID": "UKO1234567",
            "ResultParameters": {"ResultParameter": [{"Key": key, "Value": value} for key, value in values.items()]},
        }
        body = json.dumps({"Result": result}).encode()
        early = Delivery(CallbackKind.RESULT, attempt.id, True, "127.0.0.1", bench.clock(), body)
        apply_results.store_deliveries(db, bench.clock, [early])
    return "callback", "replay", "1"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("story", "command"),
    [
        (unknown, ASK),
        (a_lost_sender, ASK),
        (held, INCIDENTS),
        (tried_again, ASK),
        (tried_again_by_name, ASK),
        (not_answered_yet, ASK),
        (never_known, DECIDE),
        (contradicted, INCIDENTS),
        (no_balance, FLOAT),
        (a_result_that_waits, ASK),
    ],
    ids=lambda part: part.__name__ if callable(part) else "",
)
@pytest.mark.parametrize("as_json", [False, True], ids=["for people", "for programs"])
def test_who_sees_exit_7_finds_the_one_next_command(
    make_bench: MakeBench, forker: Forker, story: Story, command: str, as_json: bool
) -> None:
    bench = make_bench("sqlite")
    words = story(bench, forker)
    ended = bench.run_one(forker, *words, *(["--json"] if as_json else []))

    assert ended.code == 7, ended.said
    assert told(ended, as_json=as_json) == [command], ended.said
    following = bench.run_one(forker, *command.split()[1:])
    assert following.code in (0, 7), f"{command} cannot be typed: {following.said}"
    assert bench.troubles == []


def told(ended: Ended, *, as_json: bool) -> list[str]:
    """The commands that are named as the next: on the one line that begins with Hint, or under `next`."""
    text = ended.said
    if as_json:
        # The talk stands in the same file, before the document and after it.
        found = json.JSONDecoder().raw_decode(text[text.index("{\n") :])[0]["next"]
    else:
        hints = re.findall(r"^Hint: (.*)$", text, re.MULTILINE)
        assert len(hints) == 1, text
        found = hints[0]
    assert isinstance(found, str)
    return re.findall(r"kasoko(?: [a-z0-9.-]+)+", found)


def commands_of(command: object, path: str = "kasoko") -> Iterator[tuple[str, str]]:
    """Each command with its help text."""
    for name, one in getattr(command, "commands", {}).items():
        yield f"{path} {name}", str(one.help or "")
        yield from commands_of(one, f"{path} {name}")


def test_every_command_that_may_exit_with_7_is_among_these() -> None:
    """`settle --pay` goes on to the same sending as `payout`; what `payout decide` leaves of many is told there."""
    may = {
        path
        for path, text in commands_of(typer.main.get_command(app))
        if re.search(r"\b7\s", text.partition("Exit status")[2] or text.partition("Exit codes")[2])
    }
    sends = {"kasoko payout send", "kasoko payout retry", "kasoko retry-failed"}
    assert may == {*sends, "kasoko payout decide", "kasoko reconcile", "kasoko float", "kasoko callback replay"}
