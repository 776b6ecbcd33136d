"""A proof that a pool was divided by its rules: made from the bets, checked without them.

The proof holds one leaf for each bettor: their stakes, their exact share and what they are owed, under a blinded
name. A Merkle tree over the leaves has one root, and an Ed25519 signature stands for all of it. Everybody can
divide the pool again and see that no share is missing or added. Who a leaf belongs to is known only to whoever
has its inclusion code, `{user}:{secret}`: a digest of the code is the blinded name. Nothing else in a proof
depends on who the bettors are: a digest over user ids could be reckoned again from a list of guesses, and the
deployment's id is a part of every attempt's id.

Numbers are whole cents; shares are exact fractions of a cent. JSON is canonical: sorted keys, no spaces, ASCII.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from kasoko_cli.domain import keys
from kasoko_cli.domain.keys import public_key_of
from kasoko_cli.domain.market import BetRow, Resolution, Rounding, Rules
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.withholding import Duty, On, kept_of_winners, taxed_of_winners
from kasoko_cli.errors import KasokoError

#: What a proof says it is; the second form is of a settlement of which a duty on winnings kept something back.
FORM, TAXED_FORM = "kasoko proof 1", "kasoko proof 2"
#: Bytes of chance in a code: sixteen letters and digits.
_CODE_BYTES = 10

_KEYS = {"form", "market", "rules", "resolution", "settlement", "leaves", "root", "digest", "public_key", "signature"}
_LEAF = {"name", "stakes", "turn", "share", "payout_cents", "refund_cents"}
_MARKET = {"id", "slug", "question", "outcomes", "closed_at"}
_FIGURES = (
    "gross_cents",
    "fee_cents",
    "net_cents",
    "winning_stake_cents",
    "winners",
    "payouts_cents",
    "refunds_cents",
    "breakage_cents",
    "top_up_cents",
)
_SETTLEMENT = {"number", "settled_at", *_FIGURES}
#: What a proof of the second form has besides: the rule, and what it taxed and kept back, in all and of each.
_DUTY, _TAX_FIGURES, _LEAF_TAX = "duty", ("taxed_cents", "tax_cents"), "tax_cents"
#: What can happen to a stake before the pool is divided.
VALID, LATE, CANCELLED = "valid", "late", "cancelled"


class ProofBroken(ValueError):
    """A proof that does not hold, and where."""


def canonical(data: object) -> bytes:
    """JSON in the one spelling that is digested and signed."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def code_of(seed: bytes, market_id: str, number: int, user_id: str) -> str:
    """The inclusion code of a bettor: made anew from the key whenever it is asked for, never stored."""
    text = canonical(["kasoko code 1", market_id, number, user_id])
    secret = base64.b32encode(hmac.new(seed, text, hashlib.sha256).digest()[:_CODE_BYTES]).decode()
    return f"{user_id}:{secret}"


def name_of(market_id: str, number: int, code: str) -> str:
    """The blinded name of whoever has this code."""
    return hashlib.sha256(canonical(["kasoko name 1", market_id, number, code])).hexdigest()


def leaf_hash(leaf: Mapping[str, Any]) -> bytes:
    """The hash of a leaf; no leaf can pass for a node."""
    return hashlib.sha256(b"\x00" + canonical(leaf)).digest()


def merkle_root(hashes: Sequence[bytes]) -> str:
    """The root over leaves in their order; an odd one out goes up as it is. No leaves: the hash of nothing."""
    level = list(hashes) or [hashlib.sha256(b"").digest()]
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        odd = [level[-1]] if len(level) % 2 else []
        level = [hashlib.sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return level[0].hex()


def leaves_of(
    bets: Iterable[BetRow],
    rules: Rules,
    resolution: Resolution,
    *,
    seed: bytes,
    key: tuple[str, int],
    duty: Duty | None = None,
) -> tuple[list[dict[str, Any]], Division]:
    """A leaf for each bettor, by name, and the division that they follow from; `key` is market and number.

    `duty` is the one on winnings that the settlement is under.
    """
    stakes: dict[str, dict[tuple[int, str], int]] = {}

    def read() -> Iterator[Stake]:
        for _, user_id, outcome, cents, _, late, cancelled in bets:
            fate = CANCELLED if cancelled else LATE if late else VALID
            own = stakes.setdefault(user_id, {})
            own[outcome, fate] = own.get((outcome, fate), 0) + cents
            if not cancelled:
                yield Stake(user_id, outcome, cents, late)

    division = divide(read(), rules, resolution)
    turns = (
        {user_id: turn for turn, user_id in enumerate(division.payouts)} if rules.rounding is Rounding.LARGEST else {}
    )
    kept = kept_of_winners(duty, division.payouts, division.staked)
    leaves = []
    for user_id, own in stakes.items():
        leaf = {
            "name": name_of(*key, code_of(seed, *key, user_id)),
            "stakes": [[outcome, fate, cents] for (outcome, fate), cents in sorted(own.items())],
            "turn": turns.get(user_id),
            "share": _share(own, division),
            "payout_cents": division.payouts.get(user_id, 0),
            "refund_cents": division.refunds.get(user_id, 0),
        }
        leaves.append(leaf if duty is None else {**leaf, _LEAF_TAX: kept.get(user_id, 0)})
    return sorted(leaves, key=lambda leaf: str(leaf["name"])), division


def _share(own: Mapping[tuple[int, str], int], division: Division) -> str:
    """The exact share of the net pool, before rounding, as `n/d` cents."""
    shares = (
        cents * division.dividends[outcome]
        for (outcome, fate), cents in own.items()
        if fate == VALID and outcome in division.dividends
    )
    exact = sum(shares, Fraction(0))
    return f"{exact.numerator}/{exact.denominator}"


def figures(division: Division, duty: Duty | None = None) -> dict[str, int]:
    """The figures of a division, as a proof has them, under the duty on winnings that held."""
    taxed = {
        "taxed_cents": taxed_of_winners(duty, division.payouts, division.staked),
        "tax_cents": sum(kept_of_winners(duty, division.payouts, division.staked).values()),
    }
    return {
        **(taxed if duty is not None else {}),
        "gross_cents": division.gross_cents,
        "fee_cents": division.fee_cents,
        "net_cents": division.net_cents,
        "winning_stake_cents": division.winning_stake_cents,
        "winners": len(division.payouts),
        "payouts_cents": sum(division.payouts.values()),
        "refunds_cents": sum(division.refunds.values()),
        "breakage_cents": division.breakage_cents,
        "top_up_cents": division.top_up_cents,
    }


def sign(proof: dict[str, Any], seed: bytes) -> dict[str, Any]:
    """The proof with its digest, its public key and its signature."""
    whole = {**proof, "public_key": public_key_of(seed)}
    whole["digest"] = hashlib.sha256(canonical(whole)).hexdigest()
    return {**whole, "signature": keys.sign(seed, _signed(whole["digest"]))}


def _signed(digest: str) -> bytes:
    return b"kasoko proof 1:" + digest.encode()


# --- Checking -----------------------------------------------------------------------------------------------------


def read(raw: bytes) -> dict[str, Any]:
    """A proof as its bytes say it; numbers are whole, and nothing is said twice.

    Raises:
        ProofBroken: it is not JSON of that kind.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ProofBroken("it says something twice")
        return found

    def refuse(text: str) -> Any:
        raise ProofBroken(f"it holds {text[:20]}, which is no whole number")

    try:
        proof = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_float=refuse, parse_constant=refuse)
    except ProofBroken:
        raise
    except (ValueError, RecursionError) as error:
        raise ProofBroken("it is not a whole JSON document") from error
    if not isinstance(proof, dict) or proof.get("form") not in (FORM, TAXED_FORM):
        raise ProofBroken(f"it does not say that it is a {FORM}, or a {TAXED_FORM}")
    return proof


def check(proof: Mapping[str, Any], *, public_key: str | None = None) -> None:
    """Divide the pool again, from the leaves alone, and check the tree and the signature.

    Raises:
        ProofBroken: it does not hold; the message says where.
    """
    try:
        _check_names(proof)
        _check_signature(proof, public_key)
        _check_division(proof)
    except ProofBroken:
        raise
    except (KasokoError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise ProofBroken(f"a part of it cannot be read ({type(error).__name__})") from error


def _check_names(proof: Mapping[str, Any]) -> None:
    is_taxed = proof["form"] == TAXED_FORM
    leaf_keys = _LEAF | {_LEAF_TAX} if is_taxed else _LEAF
    parts: list[tuple[str, object, set[str]]] = [
        ("proof", proof, _KEYS | {_DUTY} if is_taxed else _KEYS),
        ("market", proof["market"], _MARKET),
        ("settlement", proof["settlement"], _SETTLEMENT | {*_TAX_FIGURES} if is_taxed else _SETTLEMENT),
        *(("leaf", leaf, leaf_keys) for leaf in proof["leaves"]),
    ]
    for what, part, names in parts:
        if not isinstance(part, dict) or part.keys() != names:
            raise ProofBroken(f"a {what} has other parts than a {what} has")


def _check_signature(proof: Mapping[str, Any], public_key: str | None) -> None:
    if public_key is not None and proof["public_key"] != public_key:
        raise ProofBroken(f"it is signed with another key: {proof['public_key']}")
    plain = {name: value for name, value in proof.items() if name not in ("digest", "signature")}
    if hashlib.sha256(canonical(plain)).hexdigest() != proof["digest"]:
        raise ProofBroken("it was changed after it was made: its digest is another")
    for name in ("public_key", "signature"):
        if bytes.fromhex(proof[name]).hex() != proof[name]:
            raise ProofBroken(f"its {name} is not plain hex")
    if not keys.is_signed(proof["public_key"], proof["signature"], _signed(proof["digest"])):
        raise ProofBroken("its signature does not fit its key")


def _check_division(proof: Mapping[str, Any]) -> None:
    leaves = proof["leaves"]
    names = [leaf["name"] for leaf in leaves]
    if names != sorted(set(names)):
        raise ProofBroken("a bettor stands in it twice, or the leaves are out of order")
    if merkle_root([leaf_hash(leaf) for leaf in leaves]) != proof["root"]:
        raise ProofBroken("the leaves are not those of its root")
    rules, resolution = Rules.from_dict(proof["rules"]), Resolution.from_dict(proof["resolution"])
    # Ties go to whoever backed the winner first, and only there the order matters.
    in_turn = sorted(leaves, key=lambda leaf: (leaf["turn"] is None, leaf["turn"] or 0))
    stakes = (
        Stake(leaf["name"], outcome, cents, fate == LATE)
        for leaf in in_turn
        for outcome, fate, cents in leaf["stakes"]
        if fate != CANCELLED
    )
    division = divide(stakes, rules, resolution)
    duty = Duty.from_dict(proof[_DUTY]) if proof["form"] == TAXED_FORM else None
    if duty is not None and (duty.on is not On.WINNINGS or duty.as_dict() != proof[_DUTY]):
        raise ProofBroken("its duty is none on winnings, or is not in its plain spelling")
    said = proof["settlement"]
    for name, cents in figures(division, duty).items():
        if said[name] != cents:
            raise ProofBroken(f"{name} is {said[name]}, and the stakes give {cents}")
    kept = kept_of_winners(duty, division.payouts, division.staked)
    for leaf in leaves:
        if leaf.get(_LEAF_TAX, 0) != kept.get(leaf["name"], 0):
            raise ProofBroken(f"of the bettor {leaf['name'][:12]} something else is kept back than the duty gives")
        own = {(outcome, fate): cents for outcome, fate, cents in leaf["stakes"]}
        due = (division.payouts.get(leaf["name"], 0), division.refunds.get(leaf["name"], 0), _share(own, division))
        if (leaf["payout_cents"], leaf["refund_cents"], leaf["share"]) != due:
            raise ProofBroken(f"the bettor {leaf['name'][:12]} is owed something else than the stakes give")


def leaf_for(proof: Mapping[str, Any], code: str) -> Mapping[str, Any] | None:
    """The leaf of whoever has this code, or None."""
    name = name_of(proof["market"]["id"], proof["settlement"]["number"], code.strip())
    return next((leaf for leaf in proof["leaves"] if leaf["name"] == name), None)
