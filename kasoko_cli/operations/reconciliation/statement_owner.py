"""Whose statement a file is: proven before anything of it is booked, and the one place that says so.

A file proves it by naming our shortcode, or by payments of ours, which it has by the receipts that M-Pesa's own
results gave us. Where it does neither, an operator may say so: then it is booked, and its silence proves nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from shlex import quote

from kasoko_cli.errors import Refused
from kasoko_cli.operations.reconciliation.statement_parser import LineStatus, StatementFile
from kasoko_cli.store.statements import KnownAttempt

#: What the evidence of an attempt begins with that M-Pesa itself told us of: a result, or an answer.
TOLD_BY_MPESA = ("callback:", "status:")


class Proof(StrEnum):
    """What shows that a statement is of our account."""

    LEAD = "lead"  #: it names our shortcode, and no other
    LINES = "lines"  #: it has payments of ours, by the receipts that M-Pesa's results gave us
    WORD = "word"  #: an operator said so


@dataclass(frozen=True, slots=True)
class Proven:
    """The account that a statement is of, where the settings name one, and what shows it."""

    shortcode: str | None
    by: Proof

    @property
    def is_shown(self) -> bool:
        """Whether the file itself shows it, so that what it does not have was not paid from this account."""
        return self.by is not Proof.WORD


class NobodysStatement(Refused):
    """Nothing in a file shows whose account it is of; an operator may know."""


def prove(file: StatementFile, attempts: Iterable[KnownAttempt], *, shortcode: str | None, said: str | None) -> Proven:
    """Which account a statement is of: ours, or it is refused.

    `said` is the shortcode that an operator gave for it.

    Raises:
        NobodysStatement: nothing shows it, and nobody said it.
        Refused: it is of another account, or in another currency; or another account was said.
    """
    lead = file.lead
    if lead.currency:
        raise Refused(
            f"{file.name} is in {lead.currency}, and these books are in Kenyan shillings. Nothing was changed.",
            hint="Export the statement of the account that pays.",
        )
    if lead.other_account:
        raise Refused(
            f"{file.name} says {lead.other_account!r}, and payouts leave from the utility account."
            " Nothing was changed.",
            hint="Export the statement of the organisation's utility account.",
        )
    if said is not None and said != shortcode:
        ours = "has no shortcode in its settings" if shortcode is None else f"pays from {shortcode}"
        raise Refused(
            f"--account says {said}, and this deployment {ours}. Nothing was changed.",
            hint="Export the statement of the shortcode that pays, or set daraja.shortcode.",
        )
    others = [name for name in lead.accounts if name != shortcode]
    if shortcode is not None and others and shortcode not in lead.accounts:
        raise Refused(
            f"{file.name} is the statement of {others[0]}, and this deployment pays from {shortcode}."
            " Nothing was changed.",
            hint="Export the statement of the shortcode that pays, or set daraja.shortcode.",
        )
    if shortcode in lead.accounts and not others:
        return Proven(shortcode, Proof.LEAD)
    if _has_payments_of_ours(file, attempts):
        return Proven(shortcode, Proof.LINES)
    if said is not None:
        return Proven(shortcode, Proof.WORD)
    names = "names more than one account" if lead.accounts and shortcode else "names no account that is known here"
    raise NobodysStatement(
        f"Nothing shows that {file.name} is of the account that pays: its lead {names}, and it has no payment of"
        " which M-Pesa's results told. Nothing was changed.",
        hint="Set daraja.shortcode, and take it in again."
        if shortcode is None
        else f"If it is of {shortcode}, say so: kasoko reconcile --statement {quote(file.name)} --account {shortcode}",
    )


def _has_payments_of_ours(file: StatementFile, attempts: Iterable[KnownAttempt]) -> bool:
    ours = {one.receipt: one for one in attempts if (one.evidence or "").startswith(TOLD_BY_MPESA)}
    return any(
        (one := ours.get(line.receipt)) is not None
        and line.withdrawn_cents == one.wire_cents
        and line.party.may_be(one.phone)
        for line in file.lines
        if line.status is LineStatus.COMPLETED
    )
