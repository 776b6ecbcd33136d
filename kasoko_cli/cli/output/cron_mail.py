"""What a command says where nobody looks on: nothing when it went as it should, else a few lines to act on.

Cron mails whatever a command prints. A mail has to mean that somebody must do something, and has to say it in
few lines: what happened, what became of the money, and what to type.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from kasoko_cli.cli.parsing import amount_of, count_of

if TYPE_CHECKING:
    from kasoko_cli.operations.audit.run import AuditReport
    from kasoko_cli.operations.payouts.run import Run
    from kasoko_cli.operations.payouts.run_report import End
    from kasoko_cli.operations.reconciliation.status_queries import Contradiction, Reconciled, StillOpen

#: How many payouts are named; the rest are counted.
MOST = 12

#: What became of the money of a payout in this state.
_MONEY = {
    "FAILED": "did not move",
    "HELD": "did not move now",
    "UNKNOWN": "may have moved",
    "SENDING": "may have moved",
}


def needs_somebody(run: Run, ends: Sequence[End]) -> bool:
    """Whether a person has to look at this run. What was not sent goes again by itself; no one has to act on that."""
    return bool(run.held or run.reaped or str(run.stopped) == "account" or any(one.status in _MONEY for one in ends))


def run_mail(run: Run, ends: Sequence[End]) -> str:
    """A run that somebody has to look at."""
    troubled = [one for one in ends if one.status in _MONEY]
    lines = [f"kasoko: {_headline(run, ends, len(troubled))}."]
    if run.why:
        lines.append(f"It stopped: {run.why}")
    for state in dict.fromkeys(one.status for one in troubled):
        here = [one for one in troubled if one.status == state]
        lines.append(f"{state}, {amount_of(sum(one.wire_cents for one in here))}, which {_MONEY[state]}:")
        lines += [f"  {one.payout_id}  {amount_of(one.wire_cents)}  {one.why or one.code}" for one in here[:MOST]]
        if len(here) > MOST:
            lines.append(f"  and {len(here) - MOST:,} more: kasoko payout list --status {state}")
    if run.left:
        lines.append(f"{count_of(run.left, 'payout')} left for a later run.")
    return "\n".join(lines)


def _headline(run: Run, ends: Sequence[End], troubled: int) -> str:
    """What needs a look, in one line; every reason why a run ends with a code stands in it, none with a zero."""
    parts = []
    if troubled:
        parts.append(f"of {count_of(len(ends), 'payout')} in this run, {troubled:,} need a look")
    if run.reaped:
        parts.append(f"{count_of(run.reaped, 'payout')} of a sender that stopped in the middle may have moved")
    if run.held:
        parts.append(f"{count_of(run.held, 'payout')} held back, since what is known of them is in doubt")
    return "; ".join(parts) or "sending stopped"


def reconcile_mail(report: Reconciled, still: Sequence[StillOpen], doubts: Sequence[Contradiction]) -> str:
    """Payouts whose end M-Pesa was asked for and does not tell."""
    unknown = [one for one in still if one.status == "UNKNOWN"]
    lines = []
    if unknown:
        cents = sum(one.wire_cents for one in unknown)
        lines.append(
            f"kasoko: how {count_of(len(unknown), 'payout')} ended is unknown; {amount_of(cents)} may have moved."
        )
        lines += [
            f"  {one.payout_id}  {amount_of(one.wire_cents)}  asked {count_of(one.questions, 'time')}:"
            f" {one.last_answer or '-'}"
            for one in unknown[:MOST]
        ]
        if len(unknown) > MOST:
            lines.append(f"  and {len(unknown) - MOST:,} more: kasoko payout list --status UNKNOWN")
    if doubts:
        lines.append(f"kasoko: what is known of {count_of(len(doubts), 'payout')} contradicts itself:")
        lines += [f"  {one.payout_id}  {one.what}" for one in doubts[:MOST]]
    refused = [one for one in report.asked if not one.taken]
    if refused:
        lines.append(f"kasoko: {len(refused):,} could not be asked about: {refused[0].why}")
    return "\n".join(lines)


def audit_mail(report: AuditReport) -> str:
    """What the audit found, and what to do about each."""
    wrong = [check for check in report.checks if not check.ok]
    lines = [
        f"kasoko: the audit found {count_of(sum(check.count for check in wrong), 'violation')}. Stop sending first:"
    ]
    lines.append("  kasoko pause --reason 'the audit found something'")
    for check in wrong:
        lines.append(f"{check.name}: {check.says}")
        lines += [f"  {one.subject}: {one.what}" for one in check.violations[:MOST]]
        if check.count > MOST:
            lines.append(f"  and {check.count - MOST:,} more: kasoko audit")
        lines.append(f"  {check.hint}")
    return "\n".join(lines)
