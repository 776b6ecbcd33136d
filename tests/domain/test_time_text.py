"""Times as people and spreadsheets write them: read in one way, or refused with the reason."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from kasoko_cli.domain.time_text import DateOrder, DateSurvey, TimeStyle, has_no_offset, parse_time, zone_of
from kasoko_cli.errors import Refused

FIVE_IN_THE_AFTERNOON = datetime(2027, 3, 5, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "2027-03-05 17:00",
        "2027-03-05T17:00:00",
        "2027-3-5 17:00",
        "2027/03/05 17:00",
        "2027-03-05 17:00 EAT",
        "2027-03-05 14:00 UTC",
        "2027-03-05 14:00Z",
        " 2027-03-05 17:00 ",
        "5 Mar 2027 17:00",
        "5-Mar-2027 5:00 PM",
        "05 March 2027, 5:00:00 p.m.",
        "March 5, 2027 17:00",
    ],
)
def test_what_has_one_meaning_is_read_by_the_clock_of_nairobi(text: str) -> None:
    assert parse_time(text, TimeStyle()) == FIVE_IN_THE_AFTERNOON


@pytest.mark.parametrize(
    ("order", "texts"),
    [
        (
            DateOrder.DMY,
            ["05/03/2027 17:00", "5/3/2027 17:00", "05.03.2027 17:00", "05-03-2027 5:00 pm", "5/3/27 17:00"],
        ),
        (DateOrder.MDY, ["03/05/2027 17:00", "3/5/2027 5:00 PM", "03-05-2027, 17:00:00", "3/5/27 17:00"]),
    ],
)
def test_a_date_that_ends_in_its_year_is_read_in_the_order_that_is_known(order: DateOrder, texts: list[str]) -> None:
    assert {parse_time(text, TimeStyle(order=order)) for text in texts} == {FIVE_IN_THE_AFTERNOON}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "05/03/2027 17:00",
            "'05/03/2027 17:00' does not say which of its numbers is the day: it can be 5 March or 3 May.",
        ),
        ("25/03/2027 17:00", "'25/03/2027 17:00' does not say which of its numbers is the day."),
        ("2027-03-05", "'2027-03-05' is a day without a time of day."),
        ("46086.7083", "The time '46086.7083' is the number that a spreadsheet keeps a date by."),
        ("2027-02-30 17:00", "'2027-02-30 17:00' is not a time."),
        ("2027-03-05 25:00", "'2027-03-05 25:00' is not a time."),
        ("2027-03-05 13:00 PM", "'2027-03-05 13:00 PM' is not a time."),
        ("05.03.27 17:00", "'05.03.27 17:00' is not a time."),
        ("1027-03-05 17:00", "'1027-03-05 17:00' is not a time."),
        ("1763650800", "'1763650800' is not a time."),
        ("5 Foo 2027 17:00", "'5 Foo 2027 17:00' is not a time."),
        ("today", "'today' is not a time."),
        ("2027-03-05\u200b17:00", "'2027-03-05\\u200b17:00' is not a time. Its character 11 is a hidden character:"),
    ],
)
def test_what_could_be_read_in_two_ways_or_in_none_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        parse_time(text, TimeStyle())
    assert refused.value.message.startswith(message)


def test_a_date_that_does_not_fit_the_order_is_never_turned_round() -> None:
    with pytest.raises(Refused, match="is no date that is written as month/day/year"):
        parse_time("25/03/2027 17:00", TimeStyle(order=DateOrder.MDY))
    with pytest.raises(Refused, match="is no date that is written as day/month/year"):
        parse_time("03/25/2027 17:00", TimeStyle(order=DateOrder.DMY))


def test_an_hour_that_a_clock_shows_twice_or_never_is_refused() -> None:
    london = TimeStyle(ZoneInfo("Europe/London"))
    with pytest.raises(Refused, match="clocks were put forward"):
        parse_time("2026-03-29 01:30", london)
    with pytest.raises(Refused, match="clocks were put back"):
        parse_time("2026-10-25 01:30", london)
    assert parse_time("2026-10-25T01:30:00+01:00", london) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("cells", "order"),
    [
        (["05/03/2027 17:00", "25/03/2027 17:00"], DateOrder.DMY),
        (["05/03/2027 17:00", "03/25/2027 17:00"], DateOrder.MDY),
        (["05/03/2027 17:00", "06/03/2027 17:00"], None),
        (["25/03/2027 17:00", "03/25/2027 17:00"], None),
        (["5/3/2027 17:00", "25/03/2027 17:00", "05/04/2027 17:00"], None),
        (["2027-03-05 17:00"], None),
        ([], None),
    ],
)
def test_an_order_is_proven_only_where_nothing_speaks_against_it(cells: list[str], order: DateOrder | None) -> None:
    assert DateSurvey(cells).order is order


def test_dates_beside_text_are_what_a_spreadsheet_leaves_that_took_days_for_months() -> None:
    assert DateSurvey(["2027-05-03 17:00:00", "25/03/2027 17:00"]).is_mixed
    assert not DateSurvey(["2027-05-03T17:00:00Z", "25/03/2027 17:00"]).is_mixed
    assert not DateSurvey(["05/03/2027 17:00", "25/03/2027 17:00"]).is_mixed


def test_a_zone_is_named_or_is_an_offset() -> None:
    for name, hour in (("Africa/Nairobi", 14), ("EAT", 14), ("+03:00", 14), ("UTC", 17), ("Europe/London", 17)):
        assert parse_time("2027-03-05 17:00", TimeStyle(zone_of(name))).hour == hour
    for name in ("Nairobi", "", "../etc/passwd", "+3", "+99:00"):
        with pytest.raises(Refused, match="There is no time zone"):
            zone_of(name)


def test_what_says_its_offset_is_known() -> None:
    assert has_no_offset("2027-03-05 17:00")
    assert has_no_offset("05/03/2027 17:00")
    assert not has_no_offset("2027-03-05 17:00+03:00")
    assert not has_no_offset("05/03/2027 17:00 EAT")
    assert not has_no_offset("nonsense")
