"""Each person signs with a key of their own: two people are two keys, and an audit finds what is not theirs."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlmodel import col, select

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.domain.keys import public_key_of
from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.approvals import approvers, signatures
from kasoko_cli.operations.approvals.approvers import ApproverAdded
from kasoko_cli.operations.approvals.second_person import ApprovalTerms
from kasoko_cli.operations.approvals.signatures import Approver
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.payouts import manual_decision
from kasoko_cli.operations.payouts.manual_decision import Decided, Decision
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.log import note_event
from kasoko_cli.store.schema.tables import Event
from tests.operations.payout_harness import ANN, RECEIPT, PayoutHarness

KEYS = {name: bytes([number]) * 32 for number, name in enumerate(("wanjiku", "otieno", "amina", "mallory"), start=1)}
SIGNED, UNSIGNED = ApprovalTerms(signed=True), ApprovalTerms()
PAID = Decision(RECEIPT, "statement of 23 November")


def by(name: str, *, key: str | None = "") -> Actor:
    """An act of a person, signed with their own key, another's, or none."""
    return Actor(name, "I have read it", None if key is None else KEYS[key or name])


def add(
    harness: PayoutHarness, name: str, actor: Actor, terms: ApprovalTerms = SIGNED, *, key: str = ""
) -> ApproverAdded:
    return approvers.add(
        OperationContext(harness.db, harness.clock, actor),
        terms,
        name=name,
        public_key=public_key_of(KEYS[key or name]),
    )


def remove(harness: PayoutHarness, name: str, actor: Actor, terms: ApprovalTerms = SIGNED) -> Approver:
    return approvers.remove(OperationContext(harness.db, harness.clock, actor), terms, name=name)


def say(
    harness: PayoutHarness,
    actor: Actor,
    decision: Decision = PAID,
    terms: ApprovalTerms = SIGNED,
    *,
    two_people: bool = True,
) -> Decided:
    return manual_decision.decide(
        OperationContext(harness.db, harness.clock, actor),
        payout_id="derby.1.1",
        decision=decision,
        two_people=two_people,
        terms=terms,
    )


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.message


def found(harness: PayoutHarness) -> list[str]:
    """What an audit says of signatures."""
    [check] = [check for check in audit(harness.db).checks if check.name == "acts-are-signed"]
    return [one.what for one in check.violations]


@pytest.fixture
def two(harness: PayoutHarness) -> PayoutHarness:
    """Wanjiku and Otieno sign; Ann's payout was taken, and is unknown."""
    add(harness, "wanjiku", by("root", key=None))
    add(harness, "otieno", by("wanjiku"))
    harness.owe({"ann": ANN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    harness.post(CallbackKind.TIMEOUT, harness.attempt("ann").id, b"{}")
    return harness


def test_two_people_who_sign_decide(two: PayoutHarness) -> None:
    assert say(two, by("wanjiku")).waits_for_second
    assert say(two, by("Otieno ", key="otieno")).status == "COMPLETED"
    assert found(two) == []
    with two.db.reading() as session:
        told = session.exec(select(Event.detail).where(col(Event.action) == "payout.decide")).one()
    assert json.loads(told)["signature"]["public_key"] == public_key_of(KEYS["otieno"])


@pytest.mark.parametrize(
    ("actor", "message"),
    [
        (by("wanjiku", key=None), "A decision has to be signed: approval.signed. Nothing was changed."),
        (by("amina"), "A decision was not taken: amina is no approver. Nothing was changed."),
        (
            by("wanjiku", key="otieno"),
            "A decision was not taken: it is signed with another key than that of wanjiku. Nothing was changed.",
        ),
    ],
)
def test_a_word_without_the_right_signature_is_refused(two: PayoutHarness, actor: Actor, message: str) -> None:
    for two_people in (True, False):
        assert refused(lambda is_two=two_people: say(two, actor, two_people=is_two)) == message  # type: ignore[misc]
    assert two.states("ann") == ("UNKNOWN", ["UNKNOWN"])


def test_one_person_is_not_two_with_one_key(two: PayoutHarness) -> None:
    """Not under another spelling, not under another's name, and not by a key that is added for a name of one's own."""
    say(two, by("wanjiku"))
    assert say(two, by("WANJIKU", key="wanjiku")).waits_for_second
    assert "another key than that of otieno" in refused(lambda: say(two, by("otieno", key="wanjiku")))
    assert "was added before" in refused(lambda: add(two, "mallory", by("wanjiku"), key="wanjiku"))
    assert add(two, "mallory", by("wanjiku")).waits_for_second
    assert add(two, "mallory", by("wanjiku")).waits_for_second
    assert "mallory is no approver" in refused(lambda: say(two, by("mallory")))
    assert add(two, "mallory", by("otieno")).note == "signs from now on"
    assert say(two, by("mallory")).status == "COMPLETED"
    assert found(two) == []


def test_settings_that_ask_for_less_are_no_way_round(two: PayoutHarness) -> None:
    say(two, by("wanjiku"))
    for actor in (by("otieno"), by("otieno", key=None)):
        message = refused(lambda actor=actor: say(two, actor, terms=UNSIGNED))  # type: ignore[misc]
        assert message == "A decision has to be signed here, and these settings do not ask for it. Nothing was changed."
    assert "these settings do not ask for it" in refused(lambda: add(two, "amina", by("root", key=None), UNSIGNED))


def test_a_first_word_of_somebody_who_was_removed_since_counts_for_nothing(two: PayoutHarness) -> None:
    say(two, by("wanjiku"))
    remove(two, "wanjiku", by("otieno"))
    assert say(two, by("otieno")).waits_for_second
    assert found(two) == []


def test_who_is_left_alone_does_not_make_a_second_of_themselves(two: PayoutHarness) -> None:
    remove(two, "otieno", by("wanjiku"))
    assert add(two, "mallory", by("wanjiku")).waits_for_second
    assert "is the last approver, and stays" in refused(lambda: remove(two, "wanjiku", by("wanjiku")))
    assert "is no approver" in refused(lambda: add(two, "mallory", by("otieno")))


def test_to_begin_anew_is_possible_and_never_silent(two: PayoutHarness) -> None:
    for name in ("wanjiku", "otieno"):
        remove(two, name, by("root", key=None), UNSIGNED)
    assert [incident.kind for incident in two.all_incidents()] == ["approver_removed"] * 2
    assert found(two) == []
    assert not approvers.list_approvers(two.db).required
    assert say(two, by("root", key=None), terms=UNSIGNED, two_people=False).status == "COMPLETED"
    assert "was added before" in refused(lambda: add(two, "wanjiku", by("root", key=None)))
    add(two, "amina", by("root", key=None))
    listed = approvers.list_approvers(two.db)
    assert (listed.required, [(one.name, one.removed_at is None) for one in listed.approvers]) == (
        True,
        [("amina", True), ("wanjiku", False), ("otieno", False)],
    )
    assert found(two) == []


def test_a_removed_approver_signs_no_more_and_what_they_signed_still_holds(two: PayoutHarness) -> None:
    say(two, by("wanjiku"))
    say(two, by("otieno"))
    remove(two, "otieno", by("wanjiku"))
    assert "otieno is no approver" in refused(lambda: add(two, "amina", by("otieno")))
    assert found(two) == []
    with pytest.raises(NotFound, match="otieno is no approver"):
        remove(two, "otieno", by("wanjiku"))


def test_signing_is_a_choice_until_the_settings_ask_for_it(two: PayoutHarness) -> None:
    for name in ("wanjiku", "otieno"):
        remove(two, name, by("root", key=None), UNSIGNED)
    add(two, "amina", by("root", key=None), UNSIGNED)
    assert say(two, by("amina"), terms=UNSIGNED).waits_for_second
    assert say(two, by("root", key=None), terms=UNSIGNED).status == "COMPLETED"
    assert found(two) == []


def test_an_audit_finds_what_was_written_by_hand(two: PayoutHarness) -> None:
    """A missing signature, one that was changed, one that is another's, and one that was used before."""
    say(two, by("wanjiku"), two_people=False)
    two.books_hold_at_the_end = False
    with two.db.transaction() as session:
        done = session.exec(select(Event).where(col(Event.action) == "payout.decide")).one()
        signed = json.loads(done.detail)
        plain = {name: value for name, value in signed.items() if name != "signature"}
        later = done.at + timedelta(seconds=1)
        for actor, at, detail in (
            ("wanjiku", later, plain),
            ("wanjiku", later, signed),
            ("wanjiku", done.at, {**signed, "sends": 2}),
            ("otieno", done.at, signed),
            ("wanjiku", done.at, signed),
            ("wanjiku", done.at, {**plain, "signature": {"public_key": public_key_of(KEYS["wanjiku"]), "value": "x"}}),
        ):
            note_event(
                session,
                at=at,
                actor=actor,
                action=done.action,
                subject=done.subject,
                reason=done.reason,
                detail=detail,
            )
        key = public_key_of(KEYS["mallory"])
        note_event(
            session,
            at=later,
            actor="wanjiku",
            action=signatures.ADD,
            subject=signatures.SUBJECT,
            detail={"name": "mallory", "public_key": key},
        )
        note_event(
            session,
            at=later,
            actor="root",
            action=signatures.REMOVE,
            subject=signatures.SUBJECT,
            detail={"name": "otieno", "public_key": public_key_of(KEYS["otieno"])},
        )
    another = "has a signature that does not count: it is signed with another key than that of otieno"
    forged = "has a signature that wanjiku did not give, or was changed after it was given"
    assert found(two) == [
        "payout.decide of derby.1.1 by wanjiku is not signed",
        f"payout.decide of derby.1.1 by wanjiku {forged}",
        f"payout.decide of derby.1.1 by wanjiku {forged}",
        f"payout.decide of derby.1.1 by otieno {another}",
        "payout.decide of derby.1.1 by wanjiku has a signature that another act has too",
        f"payout.decide of derby.1.1 by wanjiku {forged}",
        "approver.add of approvers by wanjiku is not signed",
        "approver.remove of approvers by root is not signed",
    ]


@pytest.mark.parametrize(
    ("name", "message"), [(" ", "An approver needs a name"), ("Wanjiku ", "wanjiku signs already")]
)
def test_a_name_has_one_key(two: PayoutHarness, name: str, message: str) -> None:
    assert message in refused(
        lambda: approvers.add(
            OperationContext(two.db, two.clock, by("wanjiku")),
            SIGNED,
            name=name,
            public_key=public_key_of(KEYS["amina"]),
        )
    )
