"""Tax by dated rules: kept back with the settlement and with the delivery, taken back with them, reported, paid."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from kasoko_cli.cli.output.explanation_text import spoken
from kasoko_cli.domain import proof
from kasoko_cli.domain.market import Resolution, Rounding, Rules
from kasoko_cli.domain.payout import PayoutStatus
from kasoko_cli.domain.withholding import Base, Duty, DutyBook, On, RoundTo
from kasoko_cli.errors import ConfigurationError, Refused
from kasoko_cli.ledger import book
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.audit.run import audit
from kasoko_cli.operations.reporting import taxes
from kasoko_cli.operations.settlement import approval, correction, settle, settlement_proof
from kasoko_cli.operations.settlement.explanation import explain_payout
from kasoko_cli.operations.settlement.tax_rules_file import load_duties, parse_duties
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.schema.tables import Settlement
from tests.domain.test_withholding import WINNINGS, WITHDRAWALS
from tests.operations.data_builder import LIMITS, DataBuilder, refusal

BOTH = DutyBook((WINNINGS, WITHDRAWALS))
FIRST, SECOND = Actor("ann at the desk", "read wrongly"), Actor("ben at the desk", "checked it")
DOCS = Path(__file__).parents[3] / "docs"
PACKAGE = Path(__file__).parents[3] / "kasoko_cli"


def holds(builder: DataBuilder) -> None:
    report = audit(builder.db, builder.clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []


def balance(builder: DataBuilder, account: Account, owner: str | None = None) -> int:
    with builder.db.reading() as session:
        return book.balance(session, account, owner)


def derby(builder: DataBuilder, duties: DutyBook = BOTH, rules: Rules | None = None) -> DataBuilder:
    """The operator's example: ann 100 and ben 200 on Yes, cyn 150 on No; Yes wins."""
    builder.market("derby", rules=rules)
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("Yes", 200), "cyn": ("No", 150)})
    builder.settle("derby", "Yes", duties=duties)
    return builder


def pays(builder: DataBuilder, user: str) -> str:
    builder.accepted(attempt := builder.intend(user))
    builder.paid(attempt)
    return attempt


def test_without_a_rule_nothing_is_kept_back_and_nothing_is_written_of_it(builder: DataBuilder) -> None:
    derby(builder, DutyBook())
    with builder.db.reading() as session:
        row = session.get(Settlement, ("derby", 1))
        assert row is not None
        assert (row.duties, row.tax_cents, row.taxed_cents) == (None, 0, 0)
    assert builder.payout_of("ann").amount_cents == 14_250
    found = taxes.taxes_report(builder.db)
    assert (found.rows, found.people, found.withheld_cents) == ([], [], 0)


def test_a_rule_of_another_day_keeps_nothing_back(builder: DataBuilder) -> None:
    derby(builder, DutyBook((replace(WINNINGS, valid_from=date(2027, 1, 1)),)))
    assert balance(builder, Account.TAX_WITHHELD) == 0
    holds(builder)


def test_winnings_are_taxed_once_and_what_is_sent_when_it_has_arrived(builder: DataBuilder) -> None:
    derby(builder)
    ann = builder.payout_of("ann")
    # 142.50 less 10 % of 42.50; then 131.00 is sent, and 5 % of 137.89 kept back of it.
    assert (ann.amount_cents, ann.wire_cents, ann.withheld_cents) == (13_825, 13_100, 689)
    assert balance(builder, Account.TAX_WITHHELD, "ann") == -425
    attempt = builder.intend("ann")
    assert balance(builder, Account.TAX_WITHHELD, "ann") == -425, "what has not arrived is not taxed"
    builder.accepted(attempt)
    builder.paid(attempt)
    assert balance(builder, Account.TAX_WITHHELD, "ann") == -425 - 689
    assert builder.balances("ann") == (13_825 - 689, 13_825 - 689 - 13_100)
    holds(builder)
    builder.came_back(attempt)
    assert balance(builder, Account.TAX_WITHHELD, "ann") == -425
    assert builder.balances("ann") == (13_825, 13_825)
    holds(builder)
    builder.due_again("ann")
    assert builder.balances("ann")[1] == 13_825 - 13_100 - 689, "what is sent again, and its tax, cannot be spent"
    holds(builder)
    pays(builder, "ann")
    assert balance(builder, Account.TAX_WITHHELD, "ann") == -425 - 689
    holds(builder)


def test_a_payout_that_goes_to_the_wallet_is_no_withdrawal(builder: DataBuilder) -> None:
    builder.market("small")
    builder.bets("small", {"dan": ("Yes", 8), "eve": ("No", 2)})
    builder.settle("small", "Yes", duties=BOTH)
    dan = builder.payout_of("dan")
    assert (dan.status, dan.wire_cents, dan.withheld_cents) == (PayoutStatus.WALLET, 0, 0)
    assert balance(builder, Account.TAX_WITHHELD) == -(950 - 800) // 10
    holds(builder)


@pytest.mark.parametrize("with_refunds", [False, True])
def test_refunds_are_nothing_won_and_withdrawn_only_where_the_rule_says_so(
    builder: DataBuilder, with_refunds: bool
) -> None:
    builder.market("off")
    builder.bets("off", {"dan": ("Yes", 100), "eve": ("No", 50)})
    done = builder.settle("off", duties=DutyBook((WINNINGS, replace(WITHDRAWALS, with_refunds=with_refunds))))
    assert done.settlement.tax_cents == 0
    dan = builder.payout_of("dan")
    assert (dan.wire_cents, dan.withheld_cents) == ((9_500, 500) if with_refunds else (10_000, 0))
    pays(builder, "dan")
    holds(builder)


def test_before_anything_was_sent_a_reversal_takes_the_tax_back_exactly(builder: DataBuilder) -> None:
    derby(builder)
    no = Resolution(winners=(1,))
    done = correction.override(
        OperationContext(builder.db, builder.clock, FIRST),
        correction.OverridePolicy(LIMITS, BOTH),
        market="derby",
        resolution=no,
    )
    assert done.way == "reversal"
    assert balance(builder, Account.TAX_WITHHELD) == 0
    holds(builder)
    settle.settle_market(builder.context, LIMITS, market="derby", duties=BOTH)
    assert balance(builder, Account.TAX_WITHHELD, "cyn") == -(42_750 - 15_000) // 10
    holds(builder)
    rows = taxes.taxes_report(builder.db).rows
    assert [(row.times, row.base_cents, row.withheld_cents) for row in rows] == [(1, 27_750, 2_775)]


@pytest.mark.parametrize("rounding", [Rounding.HOUSE, Rounding.LARGEST])
def test_after_payouts_were_sent_a_correction_books_the_difference_of_the_tax(
    builder: DataBuilder, rounding: Rounding
) -> None:
    """The winnings stay under the rule that they were under, whatever the file says by then."""
    derby(builder, rules=Rules(fee_bps=500, rounding=rounding))
    pays(builder, "ann")
    no = Resolution(winners=(1,))
    later = DutyBook((replace(WINNINGS, rate_bps=5_000),))
    given: dict[str, Any] = {"market": "derby", "resolution": no}
    proposed = correction.override(
        OperationContext(builder.db, builder.clock, FIRST), correction.OverridePolicy(LIMITS, later), **given
    )
    done = correction.override(
        OperationContext(builder.db, builder.clock, SECOND),
        correction.OverridePolicy(LIMITS, later),
        confirm=proposed.plan_hash,
        **given,
    )
    assert (done.way, done.is_new) == ("correction", True)
    assert balance(builder, Account.TAX_WITHHELD, "ben") == 0
    assert balance(builder, Account.TAX_WITHHELD, "cyn") == -2_775
    assert balance(builder, Account.TAX_WITHHELD, "ann") == -689, "the withdrawal was one"
    assert balance(builder, Account.RECEIVABLE, "ann") == 13_825
    assert builder.payout_of("cyn").amount_cents == 42_750 - 2_775
    holds(builder)
    explained = explain_payout(builder.db, builder.payout_of("cyn").id)
    assert (explained.won_cents, explained.had_cents, explained.owed_cents) == (42_750, 0, 39_975)


def test_a_payout_of_a_difference_is_explained_as_the_rest(builder: DataBuilder) -> None:
    """A dead heat that was none after all: what was taken from a winner on paper is owed again, and no more."""
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "ben": ("No", 100), "cyn": ("Yes", 300)})
    builder.settle("derby", "Yes")
    pays(builder, "cyn")
    half = Resolution(winners=(0, 1))
    given: dict[str, Any] = {"market": "derby", "resolution": half}
    proposed = correction.override(
        OperationContext(builder.db, builder.clock, FIRST), correction.OverridePolicy(LIMITS), **given
    )
    correction.override(
        OperationContext(builder.db, builder.clock, SECOND),
        correction.OverridePolicy(LIMITS),
        confirm=proposed.plan_hash,
        **given,
    )
    back = Resolution(winners=(0,))
    given["resolution"] = back
    proposed = correction.override(
        OperationContext(builder.db, builder.clock, FIRST), correction.OverridePolicy(LIMITS), **given
    )
    correction.override(
        OperationContext(builder.db, builder.clock, SECOND),
        correction.OverridePolicy(LIMITS),
        confirm=proposed.plan_hash,
        **given,
    )
    holds(builder)
    with builder.db.reading() as session:
        every = session.execute(text("SELECT id FROM payouts ORDER BY id")).scalars().all()
    told = [explain_payout(builder.db, payout_id) for payout_id in every]
    rest = [one for one in told if one.had_cents]
    assert rest
    assert all(one.owed_cents + one.had_cents == one.won_cents for one in rest if one.market == "derby")
    for one in rest:
        assert any("The result was corrected after payments had been made" in line for line in spoken(one, "en"))
        assert any("Matokeo yalirekebishwa baada ya malipo" in line for line in spoken(one, "sw"))


def test_a_bettor_is_told_what_was_kept_back_and_why(builder: DataBuilder) -> None:
    derby(builder)
    found = explain_payout(builder.db, builder.payout_of("ann").id)
    told = spoken(found, "en")
    assert (
        "Of what you won above your stake, KES 42.50, 10% is kept back as tax (a duty on winnings): KES 4.25." in told
    )
    assert "So you are owed KES 138.25." in told
    assert (
        "Of what is sent to a phone 5% is kept back as tax (a duty on withdrawals), here KES 6.89 of KES 137.89:"
        " KES 131.00 goes to your phone."
    ) in told
    assert any("inakatwa kama kodi" in line for line in spoken(found, "sw"))


def test_the_second_person_sees_the_tax_and_releases_exactly_that(builder: DataBuilder) -> None:
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 100), "cyn": ("No", 150)})
    builder.settle("derby", "Yes", duties=BOTH, approval_above_cents=0)
    shown = approval.look(builder.db, market="derby")
    assert shown.settlement.tax_cents == (23_750 - 10_000) // 10
    assert shown.withheld_cents == builder.payout_of("ann").withheld_cents > 0
    approval.approve(OperationContext(builder.db, builder.clock, SECOND), market="derby", plan_hash=shown.plan_hash)
    holds(builder)


@pytest.mark.parametrize(
    ("base", "rounding", "unit"),
    [(Base.PROFIT, RoundTo.DOWN, 1), (Base.PROFIT, RoundTo.UP, 100), (Base.PAYOUT, RoundTo.HALF_UP, 1)],
)
def test_a_taxed_settlement_is_proven_by_both_verifiers(
    builder: DataBuilder, base: Base, rounding: RoundTo, unit: int
) -> None:
    if not builder.db.is_sqlite:
        return  # a proof is made of what `stream_bets` gives on both
    spec = importlib.util.spec_from_file_location("verify_alone", DOCS / "verify.py")
    assert spec is not None
    assert spec.loader is not None
    alone = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(alone)
    duty = replace(WINNINGS, base=base, rounding=rounding, unit_cents=unit, rate_bps=777)
    derby(builder, DutyBook((duty, WITHDRAWALS)))
    made = settlement_proof.prove(builder.db, "derby", bytes(32))
    assert made["form"] == proof.TAXED_FORM
    proof.check(proof.read(settlement_proof.canonical_file(made).encode()))
    alone.check(made)
    for change in (
        {"settlement": {**made["settlement"], "tax_cents": made["settlement"]["tax_cents"] + 1}},
        {"duty": {**made["duty"], "rate_bps": 700}},
        {"leaves": [{**made["leaves"][0], "tax_cents": made["leaves"][0]["tax_cents"] + 1}, *made["leaves"][1:]]},
    ):
        forged: dict[str, Any] = {**made, **change}
        forged["root"] = proof.merkle_root([proof.leaf_hash(leaf) for leaf in forged["leaves"]])
        plain = {name: value for name, value in forged.items() if name not in ("digest", "signature", "public_key")}
        signed = proof.sign(plain, bytes(32))
        with pytest.raises(proof.ProofBroken):
            proof.check(signed)
        with pytest.raises(ValueError, match="another"):
            alone.check(signed)


def test_the_report_has_what_was_kept_back_by_day_rule_and_person_and_what_is_due(builder: DataBuilder) -> None:
    derby(builder)
    pays(builder, "ann")
    attempt = pays(builder, "ben")
    builder.clock.forward(86_400)
    builder.came_back(attempt)
    found = taxes.taxes_report(builder.db)
    ben = builder.payout_of("ben")
    assert [(row.day.day, row.on, row.times, row.base_cents, row.withheld_cents) for row in found.rows] == [
        (23, "winnings", 2, 12_750, 1_275),
        (23, "withdrawals", 2, 13_789 + ben.wire_cents + ben.withheld_cents, 689 + ben.withheld_cents),
        (24, "withdrawals", -1, -ben.wire_cents - ben.withheld_cents, -ben.withheld_cents),
    ]
    assert [(one.user, one.on, one.withheld_cents) for one in found.people] == [
        ("ann", "winnings", 425),
        ("ann", "withdrawals", 689),
        ("ben", "winnings", 850),
        ("ben", "withdrawals", 0),
    ]
    assert [(one.on, one.due_cents) for one in found.due] == [("winnings", 1_275), ("withdrawals", 689)]
    assert (
        sum(row.withheld_cents for row in found.rows) == found.withheld_cents == -balance(builder, Account.TAX_WITHHELD)
    )


def test_what_is_paid_to_the_authority_is_booked_once_and_never_more_than_is_due(builder: DataBuilder) -> None:
    derby(builder)
    actor = Actor("ann at the desk", "November")
    given: dict[str, Any] = {"on": On.WINNINGS, "source": "bank", "reference": "PRN1"}
    assert refusal(
        lambda: taxes.remit(OperationContext(builder.db, builder.clock, Actor("ann")), cents=1, **given),
        Refused,
    )[0].startswith("Paying tax to the authority needs a reason")
    done = taxes.remit(OperationContext(builder.db, builder.clock, actor), cents=1_000, **given)
    assert (done.is_new, done.due_cents) == (True, 275)
    again = taxes.remit(OperationContext(builder.db, builder.clock, actor), cents=1_000, **given)
    assert (again.is_new, again.due_cents) == (False, 275)
    assert refusal(
        lambda: taxes.remit(OperationContext(builder.db, builder.clock, actor), cents=999, **given), Refused
    ) == (
        "The reference 'PRN1' was taken before, for something else; nothing was changed.",
        "Each payment has its own: the number of the authority's receipt. See them: kasoko report taxes",
    )
    given["reference"] = "PRN2"
    assert refusal(
        lambda: taxes.remit(OperationContext(builder.db, builder.clock, actor), cents=276, **given), Refused
    ) == (
        "KES 2.75 of tax on winnings is due, and not KES 2.76. Nothing was changed.",
        "See what is due: kasoko tax show",
    )
    assert balance(builder, Account.BANK) == -1_000
    assert [(one.reference, one.amount_cents) for one in taxes.taxes_report(builder.db).remitted] == [("PRN1", 1_000)]
    holds(builder)


# --- The file --------------------------------------------------------------------------------------------------------


def test_the_example_can_be_read_and_says_that_it_is_made_up() -> None:
    found = load_duties(PACKAGE / "duties.example.toml")
    assert [(duty.on, duty.base) for duty in found.duties] == [
        (On.WINNINGS, Base.PROFIT),
        (On.WITHDRAWALS, Base.WITHDRAWN),
    ]
    assert all(duty.source.startswith("made up") for duty in found.duties)
    assert "AN EXAMPLE, NOT THE LAW" in (PACKAGE / "duties.example.toml").read_text()


GOOD = """[[duty]]
name = "a duty"
on = "winnings"
base = "profit"
rate_bps = 1000
valid_from = 2026-01-01
rounding = "down"
source = "made up"
"""


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("x = ", "The duties d.toml are not valid TOML: Invalid value (at end of document)."),
        ("rate = 5", "The duties d.toml hold something else than [[duty]] tables."),
        (GOOD.replace('source = "made up"\n', ""), "The duty 1 of d.toml does not say: source."),
        (GOOD + "threshold = 5\n", "The duty 1 of d.toml has what no duty has: threshold."),
        (GOOD.replace("1000", "10.0"), "The duty 1 of d.toml has no whole number in rate_bps."),
        (GOOD.replace("1000", "true"), "The duty 1 of d.toml has no whole number in rate_bps."),
        (
            GOOD.replace("2026-01-01", '"2026-01-01"'),
            "The duty 1 of d.toml has no date in valid_from, like 2026-07-01.",
        ),
        (GOOD.replace("profit", "sent"), "The duty 1 of d.toml has in base none of: profit, payout."),
        (GOOD.replace('"winnings"', '"stakes"'), "The duty 1 of d.toml has in on none of: winnings, withdrawals."),
        (GOOD.replace('"a duty"', "7"), "The duty 1 of d.toml has no text in name."),
        (GOOD + "with_refunds = 1\n", "The duty 1 of d.toml says neither true nor false in with_refunds."),
    ],
)
def test_a_file_that_holds_no_such_rules_is_refused_and_says_why(wrong: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse_duties(wrong, name="d.toml")
    assert refused.value.message == says
    assert refused.value.hint == (
        "Nothing was settled. Begin from the form, kasoko help taxes > duties.toml, and have an accountant read it."
    )


def test_a_file_that_is_not_there_is_told_before_anything_is_settled(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        load_duties(tmp_path / "none.toml")
    assert refused.value.message.endswith("No such file or directory. Nothing was settled.")
    assert parse_duties("", name="d.toml") == DutyBook()
    assert isinstance(parse_duties(GOOD, name="d.toml").duties[0], Duty)
