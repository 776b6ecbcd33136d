"""Prove a settlement to people who have no access to the database."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlmodel import Session

from kasoko_cli.clock import iso
from kasoko_cli.domain import proof
from kasoko_cli.domain.market import BetRow, BetsDigest
from kasoko_cli.errors import CheckFailed, ConfigurationError, NotFound, Refused
from kasoko_cli.operations.approvals.key_files import make_seed, seed_in
from kasoko_cli.operations.records.markets import resolution_of, rules_of
from kasoko_cli.operations.settlement.settle import duties_of, figures_of
from kasoko_cli.store import bets, markets
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.schema.tables import Market, Settlement


def key_of(file: Path, *, make: bool) -> bytes:
    """The key that signs, 32 bytes; made once, readable by its owner alone.

    Raises:
        NotFound: there is none, and none was to be made.
        ConfigurationError: it cannot be read or made.
    """
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                make_seed(file)
        return seed_in(file)
    except FileNotFoundError:
        raise NotFound(
            f"There is no key {file} yet.", hint="The first proof makes it: kasoko report proof MARKET"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"The key {file} cannot be used ({type(error).__name__}).",
            hint="It holds 64 hex digits. Name another file with proof.key_file, or set KASOKO_PROOF_KEY.",
        ) from error


def prove(db: Database, market: str, key: bytes) -> dict[str, Any]:
    """The proof of a market's settlement: everything but who is who.

    Raises:
        NotFound: there is no such market.
        Refused: it is not settled.
        CheckFailed: its bets no longer give what was settled.
    """
    with db.reading() as session:
        row, closed_at, standing = _settled(session, market)
        rules, resolution, digest = rules_of(row), resolution_of(row), BetsDigest()
        assert resolution is not None, "a market that was settled was resolved"

        def read() -> Iterator[BetRow]:
            for bet in bets.stream_bets(session, row.id, closed_at):
                digest.add(bet)
                yield bet

        duty = duties_of(standing).winnings
        leaves, division = proof.leaves_of(
            read(), rules, resolution, seed=key, key=(row.id, standing.number), duty=duty
        )
        written = figures_of(standing)
        found = proof.figures(division, duty)
        if digest.hexdigest() != standing.bets_digest or any(getattr(written, k) != v for k, v in found.items()):
            raise CheckFailed(
                f"{row.slug} was not proven: its bets no longer give what was settled. Nothing was written.",
                hint="See what differs: kasoko audit --deep",
            )
        outcomes = [outcome.name for outcome in markets.list_outcomes(session, row.id)]
        return proof.sign(
            {
                "form": proof.FORM if duty is None else proof.TAXED_FORM,
                **({} if duty is None else {"duty": duty.as_dict()}),
                "market": {
                    "id": row.id,
                    "slug": row.slug,
                    "question": row.question,
                    "outcomes": outcomes,
                    "closed_at": iso(closed_at),
                },
                "rules": rules.as_dict(),
                "resolution": resolution.as_dict(),
                "settlement": {"number": standing.number, "settled_at": iso(standing.settled_at), **found},
                "leaves": leaves,
                "root": proof.merkle_root([proof.leaf_hash(leaf) for leaf in leaves]),
            },
            key,
        )


def _settled(session: Session, market: str) -> tuple[Market, datetime, Settlement]:
    """A market that is settled, when it was closed, and its settlement."""
    row = markets.find_market(session, market)
    standing = markets.standing_settlement(session, row.id)
    if standing is None or row.closed_at is None:
        raise Refused(f"{row.slug} is not settled; there is nothing to prove.", hint=f"kasoko settle {row.slug}")
    return row, row.closed_at, standing


@dataclass(frozen=True, slots=True)
class Code:
    """The inclusion code of one bettor; whoever has it knows which leaf is theirs."""

    user: str
    code: str


def codes(db: Database, market: str, key: bytes, *, user: str | None = None) -> list[Code]:
    """The inclusion codes of everybody who bet on a settled market, or of one.

    Raises:
        NotFound: there is no such market, or this user did not bet on it.
        Refused: it is not settled.
    """
    with db.reading() as session:
        row, closed_at, standing = _settled(session, market)
        people = {bet[1] for bet in bets.stream_bets(session, row.id, closed_at)}
    found = [
        Code(one, proof.code_of(key, row.id, standing.number, one)) for one in sorted(people) if user in (None, one)
    ]
    if user is not None and not found:
        raise NotFound(f"{user!r} has no bet on {row.slug}.", hint=f"See who has: kasoko bet list {row.slug}")
    return found


@dataclass(frozen=True, slots=True)
class Verified:
    """A proof that holds, and the leaf of whoever asked."""

    market: str
    question: str
    resolution: dict[str, Any]
    bettors: int
    gross_cents: int
    fee_cents: int
    payouts_cents: int
    refunds_cents: int
    root: str
    public_key: str
    mine: dict[str, Any] | None


def verify(file: Path, *, code: str | None = None, public_key: str | None = None) -> Verified:
    """Check a proof without any database; `code` also finds the leaf that it belongs to.

    Raises:
        CheckFailed: it does not hold, or the code belongs to no leaf of it.
        Refused: it cannot be read.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Refused(
            f"{file} cannot be read: {error.strerror}.", hint="Name a file that report proof wrote."
        ) from error
    try:
        found = proof.read(raw)
        proof.check(found, public_key=public_key)
    except proof.ProofBroken as error:
        raise CheckFailed(
            f"The proof {file.name} does not hold: {error}.",
            hint="Ask for it again. If the operator's own copy fails too, the settlement is not what it says.",
        ) from error
    mine = None
    if code is not None:
        leaf = proof.leaf_for(found, code)
        if leaf is None:
            raise CheckFailed(
                f"The proof {file.name} holds, and the code {code} belongs to nobody in it.",
                hint="Type it as you got it: your id, a colon, sixteen letters and digits. Is it of this market?",
            )
        mine = dict(leaf)
    return Verified(
        market=found["market"]["slug"],
        question=found["market"]["question"],
        resolution=found["resolution"],
        bettors=len(found["leaves"]),
        **{name: found["settlement"][name] for name in ("gross_cents", "fee_cents", "payouts_cents", "refunds_cents")},
        root=found["root"],
        public_key=found["public_key"],
        mine=mine,
    )


def canonical_file(made: dict[str, Any]) -> str:
    """The text of a proof's file."""
    return proof.canonical(made).decode() + "\n"
