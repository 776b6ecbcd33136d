"""Claims about whose statement a file is: nothing is booked before that is proven."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from kasoko_cli.errors import Refused
from kasoko_cli.ledger.chart import Account
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.reconciliation.statement_import import StatementReport
from kasoko_cli.operations.reconciliation.statement_owner import NobodysStatement, Proof, Proven, prove
from kasoko_cli.operations.reconciliation.statement_parser import StatementFile, read_statement
from kasoko_cli.operations.reconciliation.statement_preamble import read_lead
from kasoko_cli.operations.shared.record_files import FileRefused
from tests.operations.data_builder import refusal
from tests.operations.paper import HEADER, Paper
from tests.operations.payout_harness import ANN, CYN, PayoutHarness

OURS, OTHER = "600000", "556677"


NOON = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


def written(*lead: str, paper: Paper | None = None) -> StatementFile:
    """What stands on the paper, or a line that nothing here knows of, under these lines about the organisation."""
    if paper is None:
        paper = Paper()
        paper.line("UKX0000001", NOON, withdrawn=72_000_000, phone=CYN)
    rows = paper.csv(mark=False).decode().split(HEADER[0], 1)[1]
    return read_statement("s.csv", ("\r\n".join([*lead, "", HEADER[0]]) + rows).encode())


def proven(*lead: str, said: str | None = None) -> Proven:
    return prove(written(*lead), [], shortcode=OURS, said=said)


LEADS = [
    "Short Code:,{}",
    "Paybill,{}",
    "Pay Bill No.: {}",
    "Till Number:,{}",
    "Organization:,{}",
    "Organization:,KASOKO LTD ({})",
    "Organisation Name,{} - KASOKO LTD",
    "Account Holder: {} - KASOKO LTD",
    "Account Holder,KASOKO,,{}",
    "ShortCode {}",
    "Business Number,'{}",
    "Business No: {}",
    "Merchant Store Number: {}",
    "{} - KASOKO LTD Paybill Account",
    "Account: {} From 2026-11-01 00:00:00 To 2026-11-30 23:59:59",
]


@pytest.mark.parametrize("lead", LEADS)
def test_a_statement_of_another_account_is_refused_however_it_names_it(lead: str) -> None:
    message, _ = refusal(lambda: proven(lead.format(OTHER)), Refused)
    assert message == f"s.csv is the statement of {OTHER}, and this deployment pays from {OURS}. Nothing was changed."
    message, _ = refusal(lambda: proven(lead.format(OTHER), said=OURS), Refused)
    assert OTHER in message, "an operator's word is not heard against the file's own"
    assert proven(lead.format(OURS)) == Proven(OURS, Proof.LEAD)


def test_a_number_that_is_not_an_accounts_is_not_taken_for_one() -> None:
    rows = [
        ["Organization Name:", "KASOKO LTD"],
        ["Address", "P.O. Box 12345, 00100 Nairobi"],
        ["Account balance:", "500000"],
        ["Opening balance", "12,345.00", "Short Code:", "600000"],
        ["Tel 0712345678"],
    ]
    assert read_lead(rows).accounts == ("600000",)


def test_nothing_is_booked_before_it_is_shown_or_said_whose_it_is(harness: PayoutHarness) -> None:
    def take(said: str | None = None, *, paper: Paper | None = None, lead: str = "Utility Account") -> StatementReport:
        file = written(lead, paper=paper)
        return statement_import.take_statement(
            harness.context,
            file,
            statement_import.StatementRules(shortcode=OURS, customers_are_counted=False, said_account=said),
        )

    message, hint = refusal(take, NobodysStatement)
    assert message.startswith("Nothing shows that s.csv is of the account that pays")
    assert hint == "If it is of 600000, say so: kasoko reconcile --statement s.csv --account 600000"
    assert "pays from 600000" in refusal(lambda: take(OTHER), Refused)[0]
    assert "USD" in refusal(lambda: take(OURS, lead="Currency: USD"), Refused)[0]
    assert harness.balance(Account.SUSPENSE) == 0
    assert take(OURS).account_proof == "word"
    assert harness.balance(Account.SUSPENSE) == 72_000_000

    harness.owe({"ann": ANN})
    harness.send()
    harness.deliver()
    paper, receipt = Paper(), harness.attempt("ann").receipt or ""
    paper.line(receipt, harness.clock(), withdrawn=9_900, phone=ANN)
    refusal(lambda: take(paper=paper), NobodysStatement)
    paper.line(receipt, harness.clock(), withdrawn=10_000, phone=ANN)
    refusal(lambda: take(paper=paper, lead=f"Paybill,{OTHER}"), Refused)
    assert take(paper=paper).account_proof == "lines", "M-Pesa's result told of that receipt"


def test_of_several_accounts_that_a_lead_names_none_is_proven() -> None:
    lead = (f"Head Office,{OURS}", f"Till Number,{OTHER}")
    message, _ = refusal(lambda: proven(*lead), NobodysStatement)
    assert "its lead names more than one account" in message
    assert proven(*lead, said=OURS).is_shown is False, "its silence proves nothing then"


@pytest.mark.parametrize("lead", ["Currency: USD", "Currency Code,UGX", "Account Type,Working Account"])
def test_another_currency_or_another_account_of_ours_is_refused(lead: str) -> None:
    refusal(lambda: proven(f"Short Code,{OURS}", lead), Refused)
    assert proven(f"Short Code,{OURS}", "Currency,KES", "Account Type,Utility Account").is_shown


@pytest.mark.parametrize("word", ["KES", "Ksh", "", "USD"])
def test_a_column_of_another_currency_is_refused_with_its_line(word: str) -> None:
    paper = Paper()
    paper.line("UKX0000001", NOON, withdrawn=100, phone=CYN)
    rows = paper.csv(mark=False).decode().strip().split("\r\n")
    content = "\r\n".join([*rows[:-2], f"{rows[-2]},Currency", f"{rows[-1]},{word}"]).encode()
    if word != "USD":
        assert len(read_statement("s.csv", content).lines) == 1
    else:
        message, _ = refusal(lambda: read_statement("s.csv", content), FileRefused)
        assert "line 5, Currency: 'USD' is no Kenyan shilling" in message


def test_without_a_shortcode_in_the_settings_only_payments_of_ours_prove_it() -> None:
    file = written(f"Short Code,{OTHER}")
    _, hint = refusal(lambda: prove(file, [], shortcode=None, said=None), NobodysStatement)
    assert hint.startswith("Set daraja.shortcode")
