"""Everything that must always hold, asked of the rows themselves, by name.

The books, the payouts and the attempts say the same things in three ways, and the bets say them all
over again. An audit reads one unchanging picture of the database and lets each of them contradict the
others. It writes nothing, and it trusts no figure that can be worked out from older rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlmodel import Session

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.operations.approvals import second_person, signatures
from kasoko_cli.operations.audit import chain_check, event_consistency, invariants, recompute
from kasoko_cli.operations.shared.violation import Violation
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import APPEND_ONLY


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


@dataclass(frozen=True, slots=True)
class _Rule:
    """A check before it is made: `find` yields what speaks against it."""

    name: str
    says: str
    find: Callable[[Session], Iterable[Violation]]
    hint: str


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
_SHOW_PAYOUT = "Send nothing of it until a person has compared it with M-Pesa's statement: kasoko payout show PAYOUT"

RULES = (
    _Rule("entries-balance", "Each entry sums to zero.", invariants.unbalanced_entries, _KEEP),
    _Rule("book-balances", "All postings together sum to zero.", invariants.unbalanced_book, _KEEP),
    _Rule(
        "available-not-negative",
        "Nobody has less than nothing available.",
        invariants.negative_wallets,
        "Take no bet and pay nothing out of this wallet until it is explained: kasoko wallet show USER",
    ),
    _Rule(
        "open-pools-equal-stakes",
        "The pool of a market that is not settled holds exactly its stakes.",
        invariants.pools_unlike_stakes,
        "Do not settle this market. Compare its bets with those of your platform: kasoko bet list MARKET",
    ),
    _Rule(
        "settled-markets-hold-nothing",
        "A settled market has divided every cent that it held.",
        invariants.pools_left_over,
        "Send nothing more of this market, and look at how it was settled: kasoko status MARKET",
    ),
    _Rule(
        "in-flight-equals-live-attempts",
        "What is in flight is what the attempts whose fate is open were sent with, one by one.",
        invariants.in_flight_unlike_attempts,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "payouts-follow-their-attempts",
        "A payout that is being sent, sent or unknown has one attempt in that state, and no other payout has one"
        " unless it was paid by another.",
        invariants.payouts_unlike_attempts,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "win-credited-once",
        "Each credit is the whole of one payout, to its own user.",
        invariants.wrong_credits,
        "Pay nothing out of this wallet until it is explained: kasoko wallet show USER",
    ),
    _Rule(
        "completed-means-credited-and-delivered",
        "A completed payout was credited and delivered exactly once, and no other has a delivery that stands.",
        invariants.wrong_completions,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "paid-attempts-are-booked-once",
        "An attempt that M-Pesa paid is booked once, as delivered or as overpaid, and no other attempt is.",
        invariants.wrong_deliveries,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "new-attempt-has-dead-predecessor",
        "A payout is tried under a new id only after the attempt before it ended without the money moving for good.",
        invariants.attempts_too_many,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "payable-equals-uncredited-payouts",
        "What the books owe each user is the sum of the payouts that were not credited yet.",
        invariants.payable_unlike_payouts,
        "Send nothing to this user until it is explained: kasoko user show USER",
    ),
    _Rule(
        "withheld-equals-what-arrived",
        "What was kept back of what was sent to a user is what their payments that arrived say.",
        invariants.withheld_unlike_payouts,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "remittances-are-as-recorded",
        "Each payment of tax to the authority is in the books as somebody booked it.",
        invariants.remittances_unlike_acts,
        _KEEP,
    ),
    _Rule(
        "receivables-not-negative",
        "Nobody has given back more than was overpaid.",
        invariants.negative_receivables,
        "Look at what was recovered and written off: kasoko wallet show USER",
    ),
    _Rule(
        "suspense-equals-open-lines",
        "What stands in suspense is the money of statement lines that nobody has resolved, one by one.",
        invariants.suspense_unlike_lines,
        "Resolve nothing until it is explained: kasoko suspense list",
    ),
    _Rule(
        "success-has-receipt-and-evidence",
        "An attempt that was paid has a receipt, and its evidence is in this database.",
        invariants.successes_without_proof,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "wire-within-payout", "No attempt was sent with more than its payout.", invariants.wires_too_large, _SHOW_PAYOUT
    ),
    _Rule(
        "second-person-releases",
        "What waits for a second person has not gone on, and nothing waits that asks for none.",
        invariants.unapproved_payouts,
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
    _Rule(
        "reversal-negates-target",
        "A reversal takes back exactly the entry that it names.",
        invariants.wrong_reversals,
        _KEEP,
    ),
    _Rule(
        "closed-markets-keep-their-bets",
        "The bets and rules of a closed market are those that stood at the close.",
        recompute.changed_markets,
        "Somebody edited the database by hand: restore those rows from a backup before this market is settled.",
    ),
    _Rule(
        "settlements-recompute",
        "Every settlement, worked out again from its bets, owes the same to the same people.",
        recompute.changed_settlements,
        "Send nothing more of this market. Somebody edited its rows by hand: restore them from a backup.",
    ),
)

#: Asked for besides, since they read every movement of every wallet.
DEEP_RULES = (
    _Rule(
        "wallets-recompute",
        "What each wallet gave to bets and got back from them is what the bets themselves say.",
        invariants.wallets_unlike_bets,
        "Take no bet and pay nothing out of this wallet until it is explained: kasoko wallet show USER",
    ),
    _Rule(
        "rows-are-as-booked",
        "The bet, the settlement or the attempt behind each entry is what it was when the entry was posted, with its"
        " phone, its receipt and its evidence.",
        invariants.rows_unlike_facts,
        _EDITED,
    ),
    _Rule(
        "people-are-as-recorded",
        "Every user was taken in by an act that is on record, and has the name and the phone that acts gave.",
        event_consistency.people_unlike_record,
        "Send nothing to these users until their numbers are known: somebody edited the database by hand.",
    ),
    _Rule(
        "markets-are-as-recorded",
        "Every market has the question, outcomes and rules that it was opened with, and was closed and resolved by"
        " acts on record.",
        event_consistency.markets_unlike_record,
        _EDITED,
    ),
    _Rule(
        "incidents-are-as-recorded",
        "Every incident that was raised stands as it was raised, and those that are closed were closed by somebody.",
        event_consistency.incidents_unlike_record,
        _EDITED,
    ),
    _Rule(
        "switches-are-as-recorded",
        "Sending is paused or let go as acts on record left it.",
        event_consistency.switches_unlike_record,
        "Turn it as it should be, with a reason: kasoko pause, kasoko resume",
    ),
    _Rule(
        "payouts-are-as-recorded",
        "No payout that was held or had failed is due again without somebody who let it go.",
        event_consistency.payouts_unlike_record,
        _SHOW_PAYOUT,
    ),
    _Rule(
        "results-are-kept",
        "The body of a result is there, unless it expired or the person it is about was erased.",
        event_consistency.bodies_unlike_record,
        _EDITED,
    ),
)

#: Asked for besides, since they work out the digest of every row that is written once.
CHAIN_RULES = (
    _Rule(
        "chain-holds",
        "Every entry, event and callback is as it was written, none is missing, and none came in beside the chain.",
        chain_check.broken_links,
        _EDITED,
    ),
    _Rule(
        "what-is-written-once-is-guarded",
        "The database itself refuses to change what is written once.",
        partial(event_consistency.triggers_gone, tables=APPEND_ONLY),
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
    head: Mapping[str, Any] | None = None,
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
    head: Mapping[str, Any] | None = None,
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
