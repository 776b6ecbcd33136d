"""Everything that must always hold, asked of the rows themselves, by name.

The books, the payouts and the attempts say the same things in three ways, and the bets say them all
over again. An audit reads one unchanging picture of the database and lets each of them contradict the
others. It writes nothing, and it trusts no figure that can be worked out from older rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from inspect import cleandoc
from typing import NamedTuple

from sqlmodel import Session

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.operations.approvals import second_person, signatures
from kasoko_cli.operations.audit import chain_check, event_consistency, invariants, recompute
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store.engine.database import Database


@dataclass(frozen=True, slots=True)
class Check:
    """One sentence that must hold, and what speaks against it.

    `violations` shows at most as many as were asked for; `count` is all of them. `hint` says what to
    do about a violation, and is empty where there is none.
    """

    name: str
    says: str
    ok: bool
    violations: list[Violation]
    count: int
    hint: str
    took_ms: int


@dataclass(frozen=True, slots=True)
class AuditReport:
    """Every check in its order; `ok` where all hold. `heads` are those of the chain, where it was followed."""

    ok: bool
    checks: list[Check]
    heads: chain_check.Heads | None = None


Find = Callable[[Session], Iterable[Violation]]


class _Rule(NamedTuple):
    """A check before it is made: `find` yields what speaks against it."""

    name: str
    says: str
    find: Find
    hint: str


def _rule(find: Find, hint: str) -> _Rule:
    """A check that is named as its function; what must hold is the first paragraph of the function's docstring."""
    says, _, _ = cleandoc(find.__doc__ or "").partition("\n\n")
    return _Rule(find.__name__.replace("_", "-"), says.replace("\n", " "), find, hint)


#: What to do where the books themselves were written wrongly: nothing here can repair them.
_KEEP = (
    "Send nothing more. Keep a copy of the database as it is, compare it with the last backup, and report this:"
    " no command writes such rows."
)
#: What to do where a row was changed behind the program's back.
_EDITED = (
    "Somebody edited the database by hand. Send nothing more, keep a copy of it as it is, and restore these rows"
    " from a backup."
)
_NO_BET = "Take no bet and pay nothing out of this wallet until it is explained: kasoko wallet show USER"
_SHOW_PAYOUT = "Send nothing of it until a person has compared it with M-Pesa's statement: kasoko payout show PAYOUT"

RULES = (
    _rule(invariants.entries_balance, _KEEP),
    _rule(invariants.book_balances, _KEEP),
    _rule(invariants.available_not_negative, _NO_BET),
    _rule(
        invariants.open_pools_equal_stakes,
        "Do not settle this market. Compare its bets with those of your platform: kasoko bet list MARKET",
    ),
    _rule(
        invariants.settled_markets_hold_nothing,
        "Send nothing more of this market, and look at how it was settled: kasoko status MARKET",
    ),
    _rule(invariants.in_flight_equals_live_attempts, _SHOW_PAYOUT),
    _rule(invariants.payouts_follow_their_attempts, _SHOW_PAYOUT),
    _rule(
        invariants.win_credited_once, "Pay nothing out of this wallet until it is explained: kasoko wallet show USER"
    ),
    _rule(invariants.completed_means_credited_and_delivered, _SHOW_PAYOUT),
    _rule(invariants.paid_attempts_are_booked_once, _SHOW_PAYOUT),
    _rule(invariants.new_attempt_has_dead_predecessor, _SHOW_PAYOUT),
    _rule(
        invariants.payable_equals_uncredited_payouts,
        "Send nothing to this user until it is explained: kasoko user show USER",
    ),
    _rule(invariants.withheld_equals_what_arrived, _SHOW_PAYOUT),
    _rule(invariants.remittances_are_as_recorded, _KEEP),
    _rule(invariants.receivables_not_negative, "Look at what was recovered and written off: kasoko wallet show USER"),
    _rule(invariants.suspense_equals_open_lines, "Resolve nothing until it is explained: kasoko suspense list"),
    _rule(invariants.success_has_receipt_and_evidence, _SHOW_PAYOUT),
    _rule(invariants.wire_within_payout, _SHOW_PAYOUT),
    _rule(
        invariants.second_person_releases,
        "Send nothing more of this market: kasoko pause --reason audit. Who did what: kasoko payout show PAYOUT",
    ),
    _Rule(
        "two-people-are-two",
        "What needs two people was said by two: the same, of the same thing, before the first word expired.",
        second_person.agreements_of_one,
        "Send nothing of it until both have been asked. Who did what: kasoko events SUBJECT",
    ),
    _Rule(
        "acts-are-signed",
        "Where signatures are required, approvals, decisions and approvers are signed by people who might; and no"
        " signature is forged.",
        signatures.bad_signatures,
        "Send nothing of it until they have said whether it was them. Who signs: kasoko approver list",
    ),
    _rule(invariants.reversal_negates_target, _KEEP),
    _rule(
        recompute.closed_markets_keep_their_bets,
        "Somebody edited the database by hand: restore those rows from a backup before this market is settled.",
    ),
    _rule(
        recompute.settlements_recompute,
        "Send nothing more of this market. Somebody edited its rows by hand: restore them from a backup.",
    ),
)

#: Asked for besides, since they read every movement of every wallet.
DEEP_RULES = (
    _rule(invariants.wallets_recompute, _NO_BET),
    _rule(invariants.rows_are_as_booked, _EDITED),
    _rule(
        event_consistency.people_are_as_recorded,
        "Send nothing to these users until their numbers are known: somebody edited the database by hand.",
    ),
    _rule(event_consistency.markets_are_as_recorded, _EDITED),
    _rule(event_consistency.incidents_are_as_recorded, _EDITED),
    _rule(
        event_consistency.switches_are_as_recorded,
        "Turn it as it should be, with a reason: kasoko pause, kasoko resume",
    ),
    _rule(event_consistency.payouts_are_as_recorded, _SHOW_PAYOUT),
    _rule(event_consistency.results_are_kept, _EDITED),
)

#: Asked for besides, since they work out the digest of every row that is written once.
CHAIN_RULES = (
    _rule(chain_check.chain_holds, _EDITED),
    _rule(
        event_consistency.what_is_written_once_is_guarded,
        "Somebody took the guard away. See what else was touched, restore from a backup, and change the password.",
    ),
)
HEAD = "chain-holds-the-head"


def audit(
    db: Database,
    clock: Clock = system_clock,
    *,
    deep: bool = False,
    chain: bool = False,
    head: chain_check.Heads | None = None,
    limit_per_check: int = 20,
) -> AuditReport:
    """Make every check on one unchanging picture of the database; `deep` also works the wallets out again.

    `chain` follows the chain of digests, and `head` holds it against heads that were exported before. At most
    `limit_per_check` violations of each check are shown; all are counted.
    """
    with db.reading() as session:
        checks = check_all(session, deep=deep, chain=chain, head=head, limit_per_check=limit_per_check)
        heads = chain_check.heads_of(session, clock()) if chain else None
    return AuditReport(ok=all(check.ok for check in checks), checks=checks, heads=heads)


def check_all(
    session: Session,
    *,
    deep: bool = False,
    chain: bool = False,
    head: chain_check.Heads | None = None,
    limit_per_check: int = 20,
) -> list[Check]:
    """Make every check in a transaction that is open already."""
    rules = [*RULES, *(DEEP_RULES if deep else ()), *(CHAIN_RULES if chain else ())]
    if head is not None:
        rules.append(
            _Rule(
                HEAD,
                "The chain goes through every head that was exported.",
                partial(chain_check.unlike_heads, exported=head),
                "An older copy of the database sends nothing before what happened since is known: kasoko reconcile."
                " If no copy was restored, somebody rewrote it: keep it as it is, and restore from a backup.",
            )
        )
    return [_made(session, rule, limit_per_check) for rule in rules]


def _found(rule: _Rule, session: Session) -> Iterator[Violation]:
    """What speaks against it; a value that cannot even be read speaks against it too."""
    try:
        yield from rule.find(session)
    except (TypeError, ValueError, LookupError) as error:
        yield Violation("a row", f"holds a value that no command writes, and cannot be read ({type(error).__name__})")


def _made(session: Session, rule: _Rule, limit: int) -> Check:
    started, shown, count = time.perf_counter(), list[Violation](), 0
    for violation in _found(rule, session):
        count += 1
        if count <= limit:
            shown.append(violation)
    took_ms = round((time.perf_counter() - started) * 1000)
    return Check(rule.name, rule.says, count == 0, shown, count, rule.hint if count else "", took_ms)
