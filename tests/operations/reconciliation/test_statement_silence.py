"""Claims about what a statement does not say: it proves nothing while a line of it may be the payment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kasoko_cli.domain.payout import AttemptStatus, PayoutStatus
from kasoko_cli.operations.reconciliation.statement_findings import KnownBooks, LineVerdict, StatementFinding
from kasoko_cli.operations.reconciliation.statement_matching import match
from kasoko_cli.operations.reconciliation.statement_owner import Proof, Proven
from kasoko_cli.operations.reconciliation.statement_parser import LINES_APPEAR_LATE, Span, StatementFile, read_statement
from kasoko_cli.store.statements import KnownAttempt
from tests.operations.paper import B2C, CHARGE, TRANSFER, Paper

SENT = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
NOW = SENT + timedelta(days=4)
ANN, BEN = "254712000111", "254712000222"
CENTS = 10_000

TO_CUSTOMER = [
    B2C,
    "Business Payment to Customer Withdrawal Charge Paid via API",
    "Salary Payment to Customer Withdrawal Charge Paid via API",
    "MMI Transfer to Customer via API",
    "Promotion Payment to Customer via API",
]


def attempt(phone: str = ANN, *, number: int = 1, status: AttemptStatus = AttemptStatus.UNKNOWN) -> KnownAttempt:
    """A payout of a hundred shillings that was sent, and of which M-Pesa knows nothing when it is asked."""
    is_paid = status is AttemptStatus.SUCCEEDED
    return KnownAttempt(
        id=f"ks-{number:032x}",
        payout_id=f"derby.1.{number}",
        user_id=f"u{number}",
        payout_status=PayoutStatus.COMPLETED if is_paid else PayoutStatus.UNKNOWN,
        status=status,
        phone=phone,
        wire_cents=CENTS,
        receipt=f"UKP{number:07d}" if is_paid else None,
        conversation_id=None,
        gateway_id=None,
        evidence="callback:1" if is_paid else None,
        lease_token="x",
        created_at=SENT,
        sent_at=SENT,
        status_at=SENT,
        account_id=1,
    )


def sheet(*rows: dict[str, object], party: str | None = None) -> StatementFile:
    """Two days around it, with these lines in the order of their time; `party` as the first of them writes it."""
    paper = Paper()
    paper.movement(SENT - timedelta(days=1))
    for row in rows:
        paper.line("UKX0000001", SENT + timedelta(minutes=1), **({"withdrawn": CENTS} | row))  # type: ignore[arg-type]
    if party is not None:
        paper.rows[1][10] = party
    paper.movement(SENT + timedelta(days=2))
    file = paper.read()
    assert file.whole
    return file


def judged(file: StatementFile, *attempts: KnownAttempt, now: datetime = NOW) -> dict[str, StatementFinding]:
    """What is said of each payout that has no line, or has one."""
    hours = (SENT + timedelta(hours=1), SENT + timedelta(hours=3))
    known = KnownBooks(
        attempts=attempts,
        account=Proven("600000", Proof.LEAD),
        span=file.span(now),
        answers={one.id: [(at, "NOT_FOUND") for at in hours] for one in attempts},
        customers_are_counted=True,
        account_id=1,
    )
    found = match(file, known)
    assert len(found) >= len(file.lines)
    return {one.attempt.payout_id: one for one in found if one.attempt is not None and one.is_payment}


def test_silence_ends_it_where_nothing_else_may_be_it() -> None:
    [finding] = judged(sheet(), attempt()).values()
    assert finding.verdict is LineVerdict.ENDED_NOT_PAID
    [finding] = judged(sheet({"phone": BEN}), attempt()).values()
    assert finding.verdict is LineVerdict.ENDED_NOT_PAID, "a line that names somebody else is not it"


# --- Whatever may be it ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", [*TO_CUSTOMER, CHARGE, TRANSFER, "", "Utility fees", "Reversal of charge"])
@pytest.mark.parametrize("party", ["2547 ***** 111 - JANE", "JANE O'BRIEN - 2********111", "254712000111"])
def test_a_line_that_names_the_receiver_is_the_payment_whatever_its_words(reason: str, party: str) -> None:
    [finding] = judged(sheet({"reason": reason}, party=party), attempt()).values()
    assert (finding.verdict, finding.is_payment) == (LineVerdict.ENDED_PAID, True)


@pytest.mark.parametrize("reason", [B2C, CHARGE, TRANSFER, ""])
@pytest.mark.parametrize("party", ["", "JANE DOE", "2547****11", "************", "600111 - KASOKO", "2.54712E+11"])
def test_a_line_that_may_be_anybodys_leaves_the_payout_unknown_and_both_are_named(reason: str, party: str) -> None:
    file = sheet({"reason": reason}, party=party)
    known = KnownBooks([attempt()], Proven("600000", Proof.LEAD), file.span(NOW), account_id=1, answers={})
    found = {one.verdict: one for one in match(file, known)}
    assert "UKX0000001 (line 6) may be it" in found[LineVerdict.STILL_UNKNOWN].why
    assert "derby.1.1" in found[LineVerdict.AMBIGUOUS].why
    assert found[LineVerdict.AMBIGUOUS].suspense_cents == 0, "its money may be in flight already"
    assert LineVerdict.ENDED_NOT_PAID not in {one.verdict for one in judged(file, attempt()).values()}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        pytest.param([{"status": "Pending"}], "M-Pesa may still carry it out", id="a pending line"),
        pytest.param([{"phone": ANN}, {"phone": ANN}], "two lines, and one payout", id="more lines than payouts"),
        pytest.param(
            [{"phone": BEN, "details": f"Original conversation ID is {attempt().id}."}], "our id", id="a wrong receiver"
        ),
        pytest.param(
            [{"withdrawn": 500, "reason": CHARGE, "details": attempt().id}], "it was charged for", id="its charge"
        ),
    ],
)
def test_a_payout_stays_unknown_while_a_line_may_be_it(rows: Sequence[dict[str, object]], why: str) -> None:
    found = judged(sheet(*rows), attempt())
    assert found["derby.1.1"].verdict is not LineVerdict.ENDED_NOT_PAID, why


def test_one_line_that_two_payouts_may_be_ends_neither() -> None:
    found = judged(sheet({"phone": ANN}), attempt(), attempt(number=2))
    assert {one.verdict for one in found.values()} == {LineVerdict.STILL_UNKNOWN}


def test_a_line_whose_time_is_of_another_zone_may_be_it() -> None:
    paper = Paper()
    paper.movement(SENT - timedelta(days=1))
    paper.line("UKX0000001", SENT - timedelta(hours=3), withdrawn=CENTS, phone=ANN)
    paper.movement(SENT + timedelta(days=2))
    [finding] = judged(paper.read(), attempt()).values()
    assert finding.verdict is LineVerdict.STILL_UNKNOWN


def test_the_charge_of_another_payment_is_not_taken_for_a_payout() -> None:
    paid = attempt(BEN, number=2, status=AttemptStatus.SUCCEEDED)
    paper = Paper()
    paper.movement(SENT - timedelta(days=1))
    paper.line("UKP0000002", SENT, withdrawn=CENTS, phone=BEN)
    paper.line("UKP0000002", SENT, withdrawn=CENTS, phone=ANN, reason=CHARGE)
    paper.movement(SENT + timedelta(days=2))
    found = judged(paper.read(), attempt(), paid)
    assert (found["derby.1.2"].verdict, found["derby.1.1"].verdict) == (LineVerdict.MATCHED, LineVerdict.ENDED_NOT_PAID)


def test_words_of_a_customer_decide_no_kind() -> None:
    paper = Paper()
    paper.line(
        "UKX0000001", SENT, paid_in=CENTS, reason="Pay Bill Online", details="reversal of B2C charge", account="x"
    )
    paper.line("UKX0000002", SENT, withdrawn=CENTS, reason="", details="Business Payment Charge, reversal")
    assert [str(line.kind) for line in paper.read().lines] == ["customer", "other"]


# --- How it is written ------------------------------------------------------------------------------------------------

FILLS = ["*", "x", "X", "#", "•", "·", "_", "?", ".", "…", "-", "█", "~"]
NAMES = [
    "JANE DOE",
    "O'BRIEN",
    "D’SOUZA",
    "JOHN X DOE",
    "A & B LTD",
    "99 PROBLEMS",
    "JANE 2",
    "X",
    "",
    "ＪＡＮＥ",
    "J. DOE",
]


@st.composite
def renderings(draw: st.DrawFn) -> str:
    """Ann's number, truly, as somebody may write it."""
    text = draw(st.sampled_from(["254", "0", "", "+254", "00254", "2540", "'254", "254 "])) + ANN[3:]
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, len(text)))
    if draw(st.booleans()):
        fill = draw(st.sampled_from(FILLS))
        times = draw(st.sampled_from([end - start, 1, 2, 3, 5, 8]))
        gap = draw(st.sampled_from(["", " "]))
        hidden = fill * max(2 if fill in ".-" else 1, times)
        text = text[:start] + gap + hidden + gap + text[end:]
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(text)))
        text = text[:place] + draw(st.sampled_from([" ", "-", "\u00a0", "\u200b"])) + text[place:]
    name, between = draw(st.sampled_from(NAMES)), draw(st.sampled_from([" - ", " ", ", ", ": ", "/", "-"]))
    return draw(st.sampled_from([f"{text}{between}{name}", f"{name}{between}{text}", text, f"{name} ({text})"]))


@settings(max_examples=400, deadline=None)
@given(
    party=st.one_of(renderings(), st.text(max_size=30).filter(lambda text: sum(map(str.isdigit, text)) < 3)),
    reason=st.one_of(st.sampled_from([*TO_CUSTOMER, CHARGE, TRANSFER, ""]), st.text("abc charge fee", max_size=30)),
    after=st.integers(0, 24 * 3600 - 1),
    day_first=st.booleans(),
    has_start=st.booleans(),
    others=st.lists(st.sampled_from([ANN, BEN, "254799000111"]), max_size=3),
    lines=st.lists(st.sampled_from(["", ANN, BEN]), max_size=2),
)
def test_however_a_payment_is_written_down_it_never_ends_as_not_paid(
    party: str,
    reason: str,
    after: int,
    day_first: bool,
    has_start: bool,
    others: list[str],
    lines: list[str],
) -> None:
    """Ann was paid: whatever else is unknown, and whatever else is on the sheet, her payout is not sent again."""
    paper = Paper(day_first=day_first)
    paper.movement(SENT - timedelta(days=1))
    rows = [("UKX0000001", party), *((f"UKY{nth:07d}", phone) for nth, phone in enumerate(lines))]
    for receipt, shown in rows:
        paper.line(receipt, SENT + timedelta(seconds=after), withdrawn=CENTS, reason=reason)
        paper.rows[-1][10] = " ".join(shown.split("\r")).replace("\0", "")
        if not has_start:
            paper.rows[-1][2] = ""
    paper.movement(SENT + timedelta(days=2))
    unknown = [attempt(), *(attempt(phone, number=nth) for nth, phone in enumerate(others, start=2))]
    file = paper.read()
    found = judged(file, *unknown)
    paid_to_ann = [one for one in unknown if one.phone == ANN]
    ended = [one for one in paid_to_ann if found[one.payout_id].verdict is LineVerdict.ENDED_NOT_PAID]
    assert len(ended) < len(paid_to_ann), "one of hers was paid, and one may be unpaid only beside a line that was hers"
    if found["derby.1.1"].verdict is LineVerdict.ENDED_NOT_PAID:
        assert any(found[one.payout_id].verdict is LineVerdict.ENDED_PAID for one in paid_to_ann)


# --- How far it goes --------------------------------------------------------------------------------------------------


def spanned(file: StatementFile, now: datetime = NOW) -> Span:
    return file.span(now)


def test_a_statement_covers_what_it_shows_and_not_what_it_says() -> None:
    paper = Paper().covering([SENT])
    paper.movement(SENT)
    paper.line("UKX0000001", SENT + timedelta(hours=20), paid_in=100, status="Failed")
    paper.movement(SENT + timedelta(hours=10))
    paper.line("UKX0000002", SENT + timedelta(hours=30), paid_in=100, status="Failed")
    file = paper.read()
    assert file.lead.period == (SENT - timedelta(days=2), SENT + timedelta(days=2))
    assert spanned(file) == Span(SENT, SENT + timedelta(hours=10) - LINES_APPEAR_LATE), "balances prove no more"


@pytest.mark.parametrize("ends", ["said", "now", "made", "printed", "saved"])
def test_the_time_of_a_statement_ends_where_anything_says_so(ends: str) -> None:
    noon = SENT + timedelta(hours=3)
    paper = Paper()
    if ends == "said":
        paper.since, paper.until = SENT - timedelta(days=9), noon
    paper.movement(SENT)
    paper.movement(SENT + timedelta(hours=30))
    file = paper.read()
    if ends == "made":
        file = replace(file, lead=replace(file.lead, made_at=noon))
    if ends == "printed":
        lead = "Generated on,23/11/2026 03:00 PM\r\n"
        file = read_statement("s.csv", lead.encode() + paper.csv(mark=False))
    if ends == "saved":
        file = read_statement("s.xlsx", paper.xlsx(saved_at=noon))
    span = spanned(file, noon if ends == "now" else NOW)
    assert span == Span(SENT, noon - LINES_APPEAR_LATE)


def test_what_it_asks_for_from_the_start_is_no_proof_that_it_has_it() -> None:
    """Portals cut an export at so many lines, and the newest come first."""
    paper = Paper().covering([SENT])
    paper.movement(SENT + timedelta(minutes=1))
    paper.movement(SENT + timedelta(days=2))
    [finding] = judged(paper.read(), attempt()).values()
    assert finding.verdict is LineVerdict.STILL_UNKNOWN
    assert "covers" in finding.why


@pytest.mark.parametrize("newest", [timedelta(hours=6), timedelta(hours=24, minutes=59)])
def test_a_file_without_a_movement_after_the_time_ends_nothing(newest: timedelta) -> None:
    paper = Paper().covering([SENT])
    paper.movement(SENT - timedelta(days=1))
    paper.movement(SENT + newest)
    [finding] = judged(paper.read(), attempt()).values()
    assert finding.verdict is LineVerdict.STILL_UNKNOWN


def test_a_file_of_failed_lines_covers_nothing() -> None:
    paper = Paper().covering([SENT])
    for hours in (-24, 48):
        paper.line("UKX0000001", SENT + timedelta(hours=hours), paid_in=100, status="Failed")
    span = spanned(paper.read())
    assert span.first == span.last
    assert not span.covers(span.first, span.last)
