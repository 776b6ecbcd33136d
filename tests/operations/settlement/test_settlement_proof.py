"""A proof holds for what was settled, and for nothing else; a bettor finds their own share and nobody else's."""

from __future__ import annotations

import importlib.util
import json
import random
import stat
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from kasoko_cli.domain import proof
from kasoko_cli.domain.keys import public_key_of
from kasoko_cli.domain.market import DeadHeat, MinDividend, Rounding, Rules
from kasoko_cli.errors import CheckFailed, ConfigurationError, NotFound, Refused
from kasoko_cli.operations.records import bets, markets
from kasoko_cli.operations.reporting import event_log
from kasoko_cli.operations.settlement import settlement_proof
from kasoko_cli.operations.settlement.settle import settle_market
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine import hash_chain
from kasoko_cli.store.engine.database import open_database, upgrade
from kasoko_cli.store.markets import standing_settlement
from tests.conftest import FixedClock
from tests.operations.data_builder import LIMITS, DataBuilder, refusal

KEY = bytes(range(32))
VERIFIER = Path(__file__).parents[3] / "docs" / "verify.py"


@pytest.fixture(scope="module")
def alone() -> ModuleType:
    """The verifier of docs/, as it is."""
    spec = importlib.util.spec_from_file_location("verify_alone", VERIFIER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, sqlite_template: Path, tmp_path: Path) -> str:
    """One kind of database is enough here: a proof is made of what `stream_bets` gives on both."""
    (tmp_path / "kasoko.db").write_bytes(sqlite_template.read_bytes())
    return f"sqlite:///{tmp_path / 'kasoko.db'}"


def settled(
    builder: DataBuilder, name: str = "derby", winners: tuple[str, ...] = ("Yes",), rules: Rules | None = None
) -> None:
    """A market with a late bet, a cancelled one, two bets of one user, and a winner for each outcome."""
    builder.market(name, ("Yes", "No", "Maybe"), rules=rules)
    for user, outcome, kes in (("ann", "Yes", 100), ("ben", "No", 250), ("cat", "Yes", 35), ("dan", "Maybe", 11)):
        builder.user(f"{user}-{name}", deposit_kes=1_000)
        builder.bet(name, f"{user}-{name}", outcome, kes=kes)
    builder.bet(name, f"ann-{name}", "No", kes=7)
    bets.cancel_bet(builder.context, bet_id=builder.bet(name, f"ben-{name}", "Yes", kes=9))
    builder.settle(name, *winners)


def proven(builder: DataBuilder, name: str = "derby") -> dict[str, Any]:
    return settlement_proof.prove(builder.db, name, KEY)


@pytest.mark.parametrize(
    ("rules", "winners"),
    [
        pytest.param(Rules(fee_bps=500), ("Yes",), id="one winner"),
        pytest.param(Rules(fee_bps=0, rounding=Rounding.LARGEST), ("Yes",), id="cents handed out by largest fraction"),
        pytest.param(Rules(fee_bps=700, break_unit_cents=100), ("Yes",), id="whole shillings"),
        pytest.param(Rules(fee_bps=500, dead_heat=DeadHeat.STAKE), ("Yes", "Maybe"), id="a dead heat by stake"),
        pytest.param(Rules(fee_bps=500, dead_heat=DeadHeat.PROFIT), ("Yes", "Maybe"), id="a dead heat by profit"),
        pytest.param(Rules(fee_bps=500, dead_heat=DeadHeat.POOL), ("Yes", "Maybe"), id="a dead heat by pool"),
        pytest.param(
            Rules(fee_bps=9_000, min_dividend=MinDividend.CAP_FEE), ("No",), id="a fee that shrinks for the winners"
        ),
        pytest.param(Rules(fee_bps=9_000, min_dividend=MinDividend.HOUSE_TOPUP), ("No",), id="a top-up of the house"),
        pytest.param(Rules(fee_bps=500), (), id="void"),
    ],
)
def test_a_true_proof_is_accepted_by_both_verifiers(
    builder: DataBuilder, alone: ModuleType, rules: Rules, winners: tuple[str, ...]
) -> None:
    settled(builder, winners=winners, rules=rules)
    made = proven(builder)
    proof.check(proof.read(settlement_proof.canonical_file(made).encode()))
    alone.check(made)


def test_a_market_that_nobody_bet_on_is_proven_too(builder: DataBuilder, alone: ModuleType) -> None:
    builder.market("empty")
    builder.settle("empty", "Yes")
    proof.check(made := proven(builder, "empty"))
    alone.check(made)


def test_withdrawn_and_weighted_outcomes_are_proven_too(builder: DataBuilder, alone: ModuleType) -> None:
    settled_by = {"weights": [("Yes", Fraction(7, 10)), ("No", Fraction(3, 10))], "withdrawn": ["Maybe"]}
    builder.market("parts", ("Yes", "No", "Maybe"))
    for user, outcome in (("eve", "Yes"), ("fay", "No"), ("gil", "Maybe")):
        builder.user(user, deposit_kes=100)
        builder.bet("parts", user, outcome, kes=33)
    builder.clock.forward(1)
    markets.close_market(builder.context, market="parts")
    markets.resolve_market(builder.context, market="parts", **settled_by)  # type: ignore[arg-type]
    settle_market(builder.context, LIMITS, market="parts")
    proof.check(made := proven(builder, "parts"))
    alone.check(made)


def _meaning(raw: bytes) -> object:
    """What the bytes say, or nothing where they say nothing."""
    try:
        return json.loads(raw.decode())
    except ValueError:
        return None


def _accepts(check: Callable[[], object]) -> bool:
    try:
        check()
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError):
        return False
    return True


def test_each_of_1000_changed_bytes_is_rejected(builder: DataBuilder, alone: ModuleType) -> None:
    """Every change of one byte that changes what the file says; seeded, so that each can be told again.

    The verifier that stands alone does not look at the signature itself.
    """
    settled(builder)
    raw = settlement_proof.canonical_file(proven(builder)).encode()
    said, chance, tried = _meaning(raw), random.Random(20261124), 0
    accepted: list[tuple[int, int]] = []
    alone_accepted: list[tuple[int, int]] = []
    start = raw.index(b'"signature":"')
    signature = range(start, raw.index(b'"', start + len(b'"signature":"')) + 1)
    while tried < 1_000:
        place, byte = chance.randrange(len(raw)), chance.randrange(256)
        changed = raw[:place] + bytes([byte]) + raw[place + 1 :]
        if changed == raw or _meaning(changed) == said:
            continue
        tried += 1
        if _accepts(lambda changed=changed: proof.check(proof.read(changed))):  # type: ignore[misc]
            accepted.append((place, byte))
        ok = _accepts(lambda changed=changed: alone.check(alone.read(changed)))  # type: ignore[misc]
        if ok and place not in signature:
            alone_accepted.append((place, byte))
    assert accepted == []
    assert alone_accepted == []


def _forged(made: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The proof with other parts, signed anew by whoever has the key."""
    plain = {name: value for name, value in made.items() if name not in ("digest", "signature", "public_key")}
    plain |= changes
    plain["root"] = proof.merkle_root([proof.leaf_hash(leaf) for leaf in plain["leaves"]])
    return proof.sign(plain, KEY)


def test_the_operator_cannot_sign_a_false_division(builder: DataBuilder, alone: ModuleType) -> None:
    """Even with the key: the shares have to follow from the stakes."""
    settled(builder)
    made = proven(builder)
    richer = [dict(leaf) for leaf in made["leaves"]]
    winner = next(leaf for leaf in richer if leaf["payout_cents"])
    winner["payout_cents"] += 100
    lies: list[dict[str, Any]] = [
        _forged(made, leaves=richer),
        _forged(made, leaves=made["leaves"][1:]),
        _forged(made, leaves=[*made["leaves"], made["leaves"][-1]]),
        _forged(made, rules={**made["rules"], "fee_bps": 400}),
        _forged(made, resolution={**made["resolution"], "winners": [1]}),
        _forged(made, settlement={**made["settlement"], "fee_cents": made["settlement"]["fee_cents"] + 1}),
    ]
    for lie in lies:
        with pytest.raises(proof.ProofBroken):
            proof.check(lie)
        with pytest.raises(ValueError, match=r"."):
            alone.check(lie)


def test_a_code_finds_its_own_leaf_and_tells_nothing_of_the_others(builder: DataBuilder) -> None:
    settled(builder)
    made = proven(builder)
    codes = {one.user: one.code for one in settlement_proof.codes(builder.db, "derby", KEY)}
    assert codes.keys() == {"ann-derby", "ben-derby", "cat-derby", "dan-derby"}
    ann = proof.leaf_for(made, codes["ann-derby"])
    assert ann is not None
    assert ann["stakes"] == [[0, "valid", 10_000], [1, "valid", 700]]
    assert len({json.dumps(proof.leaf_for(made, code)) for code in codes.values()}) == 4
    assert proof.leaf_for(made, codes["ann-derby"].replace("ann", "ben")) is None
    text = settlement_proof.canonical_file(made)
    assert not [user for user in codes if user in text or user.split("-")[0] in text]
    assert settlement_proof.codes(builder.db, "derby", KEY, user="ann-derby")[0].code == codes["ann-derby"]
    with pytest.raises(NotFound, match="has no bet on derby"):
        settlement_proof.codes(builder.db, "derby", KEY, user="nobody")


def _without_names(made: dict[str, Any]) -> dict[str, Any]:
    """The proof without the blinded names, and without what is reckoned from them."""
    bare = sorted(str({**leaf, "name": ""}) for leaf in made["leaves"])
    return {name: made[name] for name in made.keys() - {"root", "digest", "signature"}} | {"leaves": bare}


def test_a_stranger_with_the_file_alone_cannot_tell_who_won(builder: DataBuilder, tmp_path: Path) -> None:
    """Even one who knows every user id: but for names made with the key, other people give the same file."""
    upgrade(url := f"sqlite:///{tmp_path / 'other.db'}")
    other = DataBuilder(open_database(url), FixedClock(builder.clock()), builder.actor)
    people = {"ann": "zoe", "ben": "ann", "cat": "ben", "dan": "cat"}
    for place, called in ((builder, dict(zip(people, people, strict=True))), (other, people)):
        place.market("derby", ("Yes", "No", "Maybe"), rules=Rules(fee_bps=500, rounding=Rounding.LARGEST))
        for user, outcome, kes in (("ann", "Yes", 100), ("ben", "No", 250), ("cat", "Yes", 35), ("dan", "Maybe", 11)):
            place.user(called[user], deposit_kes=1_000)
            place.bet("derby", called[user], outcome, kes=kes)
        place.settle("derby", "Yes")
    made, theirs = proven(builder), proven(other)
    assert _without_names(made) == _without_names(theirs)
    text = settlement_proof.canonical_file(made)
    with builder.db.reading() as session:
        settlement = standing_settlement(session, "derby")
        assert settlement is not None
        hidden = (hash_chain.deployment_of(session), settlement.plan_hash, settlement.bets_digest)
    assert not [one for one in hidden if one in text]
    other.db.close()


def test_what_is_not_settled_is_not_proven(builder: DataBuilder) -> None:
    builder.market("open")
    message, hint = refusal(lambda: proven(builder, "open"), Refused)
    assert (message, hint) == ("open is not settled; there is nothing to prove.", "kasoko settle open")


def test_verify_reads_a_file_and_says_what_is_wrong(builder: DataBuilder, tmp_path: Path) -> None:
    settled(builder)
    made, file = proven(builder), tmp_path / "derby.json"
    file.write_text(settlement_proof.canonical_file(made))
    code = settlement_proof.codes(builder.db, "derby", KEY, user="ann-derby")[0].code
    found = settlement_proof.verify(file, code=code, public_key=public_key_of(KEY))
    assert found.mine is not None
    assert (found.market, found.bettors, found.mine["stakes"][0]) == ("derby", 4, [0, "valid", 10_000])
    with pytest.raises(CheckFailed, match="belongs to nobody in it"):
        settlement_proof.verify(file, code="ann-derby:WRONG")
    with pytest.raises(CheckFailed, match="it is signed with another key"):
        settlement_proof.verify(file, public_key="00" * 32)
    file.write_text("{}")
    with pytest.raises(CheckFailed, match="does not say that it is a kasoko proof 1"):
        settlement_proof.verify(file)
    with pytest.raises(Refused, match="cannot be read"):
        settlement_proof.verify(tmp_path / "other.json")


def test_the_key_is_made_once_and_read_by_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "proof.key"
    with pytest.raises(NotFound):
        settlement_proof.key_of(file, make=False)
    made = settlement_proof.key_of(file, make=True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert settlement_proof.key_of(file, make=True) == settlement_proof.key_of(file, make=False) == made
    for content in ("not hex", "00"):
        file.write_text(content)
        with pytest.raises(ConfigurationError, match=r"proof\.key"):
            settlement_proof.key_of(file, make=False)


def test_acts_are_listed_by_subject_actor_and_time(builder: DataBuilder) -> None:
    builder.user("ann")
    builder.clock.forward(hours=1)
    later = DataBuilder(builder.db, builder.clock, Actor("somebody", "because"))
    later.market("rain")
    assert [(one.action, one.subject) for one in event_log.list_events(builder.db)] == [
        ("user.add", "ann"),
        ("market.add", "rain"),
    ]
    assert [one.subject for one in event_log.list_events(builder.db, actor="somebody")] == ["rain"]
    assert [one.subject for one in event_log.list_events(builder.db, since=builder.clock())] == ["rain"]
    assert [one.subject for one in event_log.list_events(builder.db, subject="ann")] == ["ann"]
    assert [one.subject for one in event_log.list_events(builder.db, limit=1)] == ["rain"]
    assert [one.subject for one in event_log.list_events(builder.db, after=1)] == ["rain"]
