"""The people who bet: taken in once, on a Kenyan phone, masked wherever they are shown."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import text

from kasoko_cli.errors import NotFound, Refused
from kasoko_cli.operations.records import users
from kasoko_cli.operations.records.users import UserLine
from kasoko_cli.operations.shared.context import OperationContext
from tests.operations.data_builder import DataBuilder, refusal


def test_a_user_is_taken_in_once_and_told_again_without_harm(builder: DataBuilder) -> None:
    def add(phone: str) -> bool:
        return users.add_user(builder.context, user_id="ann", name="Ann", phone=phone)

    assert add("0712 345 678") is True
    assert add("+254712345678") is False
    assert users.list_users(builder.db) == [UserLine("ann", "Ann", "2547****5678")]


@pytest.mark.parametrize(("name", "phone"), [("Ben", "0712345678"), ("Ann", "0712345679")])
def test_an_id_that_names_somebody_else_is_refused(builder: DataBuilder, name: str, phone: str) -> None:
    users.add_user(builder.context, user_id="ann", name="Ann", phone="0712345678")
    assert refusal(lambda: users.add_user(builder.context, user_id="ann", name=name, phone=phone), Refused) == (
        "The user 'ann' exists with another name or phone; nothing was changed.",
        "For a new number: kasoko user set-phone ann PHONE. For another person choose another id.",
    )
    assert users.list_users(builder.db) == [UserLine("ann", "Ann", "2547****5678")]


@pytest.mark.parametrize("phone", ["+255 712 345 678", "020 222 2222", "0712 345 67", "hello"])
def test_a_phone_that_is_not_a_kenyan_mobile_is_refused(builder: DataBuilder, phone: str) -> None:
    message, hint = refusal(lambda: users.add_user(builder.context, user_id="ann", name="Ann", phone=phone), Refused)
    assert message.startswith("The phone ")
    assert message.endswith(" is not a Kenyan mobile number.")
    assert hint == "Nothing was changed. Write it as 0712 345 678 or +254 712 345 678."
    assert users.list_users(builder.db) == []


def test_a_new_phone_is_kept_and_the_record_shows_neither_number(builder: DataBuilder) -> None:
    builder.user("ann", phone="0712345678")
    builder.clock.forward(hours=1)
    assert users.set_phone(builder.context, user_id="ann", phone="0799 999 999") is True
    assert users.set_phone(builder.context, user_id="ann", phone="254799999999") is False
    shown = users.show_user(builder.db, "ann")
    assert (shown.phone, shown.phone_set_at, shown.created_at < shown.phone_set_at) == (
        "2547****9999",
        builder.clock(),
        True,
    )
    with builder.db.reading() as session:
        details = session.execute(text("SELECT detail FROM events WHERE action = 'user.set-phone'")).scalars().all()
    assert [list(json.loads(detail)) for detail in details] == [["seal"]]


def test_an_unknown_user_is_not_found(builder: DataBuilder) -> None:
    expected = ("There is no user 'nobody'.", "List them: kasoko user list")
    assert refusal(lambda: users.show_user(builder.db, "nobody"), NotFound) == expected
    actor = builder.actor
    assert (
        refusal(
            lambda: users.set_phone(
                OperationContext(builder.db, builder.clock, actor), user_id="nobody", phone="0712345678"
            ),
            NotFound,
        )
        == expected
    )


def test_a_user_is_shown_with_both_numbers_of_the_wallet(builder: DataBuilder) -> None:
    builder.user("ann", deposit_kes=50)
    shown = users.show_user(builder.db, "ann")
    assert (shown.balance_cents, shown.available_cents, shown.payouts) == (5_000, 5_000, 0)


def test_every_act_on_a_user_names_who_did_it_and_why(builder: DataBuilder) -> None:
    builder.user("ann")
    with builder.db.reading() as session:
        row = session.execute(text("SELECT actor, action, subject, reason FROM events")).one()
    assert tuple(row) == ("tester", "user.add", "ann", "a test")
