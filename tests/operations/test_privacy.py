"""A person is forgotten, and the books, the record and the chain stay whole."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from kasoko_cli.errors import Refused
from kasoko_cli.operations import privacy, users
from kasoko_cli.operations.acts import Act
from kasoko_cli.operations.audit import audit
from kasoko_cli.store.tables import Exchange
from tests.operations.town import Town, refusal

PHONE = "254712345678"
NAME = "Wanjiku Otieno"


@pytest.fixture
def paid(town: Town) -> Town:
    """Ann won and was paid; her name and her phone stand wherever they can."""
    users.add_user(town.db, town.clock, town.act, user_id="ann", name=NAME, phone=PHONE)
    town.deposit("ann", 100_00)
    town.user("ben", deposit_kes=100)
    town.market("rain")
    town.bet("rain", "ann", "Yes", kes=100)
    town.bet("rain", "ben", "No", kes=100)
    town.settle("rain", "Yes")
    attempt = town.intend("ann")
    with town.db.transaction() as session:
        now = town.clock()
        body = json.dumps({"PartyB": PHONE, "ReceiverPartyPublicName": f"{PHONE} - {NAME}"})
        session.add(
            Exchange(at=now, kind="b2c", subject=attempt, outcome="taken", latency_ms=1, request=body, response=body)
        )
    town.accepted(attempt)
    town.paid(attempt, body=body.encode())
    return town


def _everything(town: Town) -> str:
    """Every value of every table, as text."""
    found = []
    with town.db.reading() as session:
        for table in ("users", "attempts", "exchanges", "callbacks", "events", "incidents", "entries", "postings"):
            found += [repr(tuple(row)) for row in session.execute(text(f"SELECT * FROM {table}"))]
    return "\n".join(found)


def test_an_erased_person_stands_nowhere_and_the_audit_is_whole(paid: Town) -> None:
    before = _everything(paid)
    assert PHONE in before
    assert NAME in before
    done = privacy.erase(paid.db, paid.clock, paid.act, user_id="ann")
    assert (done.is_new, done.attempts, done.callbacks, done.calls) == (True, 1, 1, 1)
    after = _everything(paid)
    assert PHONE not in after
    assert NAME not in after
    assert "712345678" not in after
    report = audit(paid.db, paid.clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []
    assert not privacy.erase(paid.db, paid.clock, paid.act, user_id="ann").is_new
    assert users.show_user(paid.db, "ann").name == "erased"


def test_nobody_is_erased_while_money_is_open(paid: Town) -> None:
    act = Act("tester", "asked for it")
    paid.deposit("ben", 50_00)
    told, _ = refusal(lambda: privacy.erase(paid.db, paid.clock, act, user_id="ben"), Refused)
    assert told == "ben was not erased: KES 50.00 stand in the wallet. Nothing was changed."
    paid.market("snow")
    paid.bet("snow", "ben", "Yes", kes=50)
    told, _ = refusal(lambda: privacy.erase(paid.db, paid.clock, act, user_id="ben"), Refused)
    assert told == "ben was not erased: a bet stands on snow, which is not settled. Nothing was changed."
    paid.settle("snow", "Yes")
    told, _ = refusal(lambda: privacy.erase(paid.db, paid.clock, act, user_id="ben"), Refused)
    assert told == "ben was not erased: the payout snow.1.1 is PENDING. Nothing was changed."
    told, _ = refusal(lambda: privacy.erase(paid.db, paid.clock, Act("tester"), user_id="ann"), Refused)
    assert told == "Erasing a person needs a reason. Nothing was changed."
    assert NAME in _everything(paid)


def test_what_is_old_is_emptied_and_the_audit_is_whole(paid: Town) -> None:
    assert privacy.expire(paid.db, paid.clock, paid.act, days=30).callbacks == 0
    paid.clock.forward(days=31)
    done = privacy.expire(paid.db, paid.clock, paid.act, days=30)
    assert (done.callbacks, done.calls) == (1, 1)
    assert privacy.expire(paid.db, paid.clock, paid.act, days=30).callbacks == 0
    assert audit(paid.db, paid.clock, deep=True, chain=True).ok


def test_one_person_gets_all_that_is_known_of_them(paid: Town) -> None:
    known = privacy.data_of(paid.db, paid.clock, paid.act, user_id="ann")
    assert known["user"]["phone"] == PHONE
    assert [bet["user_id"] for bet in known["bets"]] == ["ann"]
    assert [payout["user_id"] for payout in known["payouts"]] == ["ann"]
    assert len(known["attempts"]) == len(known["results"]) == 1
    with paid.db.reading() as session:
        asked = session.execute(text("SELECT actor FROM events WHERE action = 'user.export'")).scalars().all()
    assert asked == ["tester"]
