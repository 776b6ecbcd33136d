"""The operator's example files, settled with a pencil's tools alone: no database, no wire."""

from __future__ import annotations

import csv
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import pytest

from kasoko_cli.domain.market import Resolution, Rules
from kasoko_cli.domain.money import parse_stake
from kasoko_cli.domain.parimutuel import Division, Stake, divide
from kasoko_cli.domain.payout import PayoutKind, WireLimits, legs
from kasoko_cli.domain.phone import normalize

DATA = Path(__file__).parent.parent / "data"


def rows(name: str) -> list[dict[str, str]]:
    with (DATA / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


MARKETS = {row["market_id"]: row for row in rows("markets.csv")}
TOTALS = {row["market_id"]: row for row in rows("expected-totals.csv")}


def divided(market_id: str) -> Division:
    market, totals = MARKETS[market_id], TOTALS[market_id]
    outcomes = market["outcomes"].split("|")
    closes_at = datetime.fromisoformat(market["closes_at"])
    stakes = [
        Stake(
            user_id=bet["user_id"],
            outcome=outcomes.index(bet["outcome"]),
            cents=parse_stake(bet["stake_kes"]),
            late=datetime.fromisoformat(bet["placed_at"]) >= closes_at,
            cancelled=bool(bet["cancelled_at"]),
        )
        for bet in rows("bets.csv")
        if bet["market_id"] == market_id
    ]
    winners = tuple(outcomes.index(outcome) for outcome in totals["winning_outcomes"].split("|"))
    return divide(stakes, Rules(int(market["fee_bps"])), Resolution(winners=winners))


@pytest.mark.parametrize("market_id", MARKETS)
def test_a_market_settles_to_the_expected_totals(market_id: str) -> None:
    division, totals = divided(market_id), TOTALS[market_id]

    assert {
        "gross_cents": division.gross_cents,
        "fee_cents": division.fee_cents,
        "net_cents": division.net_cents,
        "winning_stake_cents": division.winning_stake_cents,
        "payouts_cents": sum(division.payouts.values()),
        "refunds_cents": sum(division.refunds.values()),
        "breakage_cents": division.breakage_cents,
    } == {name: int(amount) for name, amount in totals.items() if name.endswith("_cents")}


@pytest.mark.parametrize("market_id", MARKETS)
def test_every_payout_refund_and_leg_is_as_expected_to_the_cent(market_id: str) -> None:
    expected: dict[tuple[str, str], tuple[int, str]] = {
        (row["user_id"], row["kind"]): (int(row["amount_cents"]), row["wire_cents"])
        for row in rows("expected.csv")
        if row["market_id"] == market_id
    }

    division = divided(market_id)
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for kind, amounts in ((PayoutKind.PAYOUT, division.payouts), (PayoutKind.REFUND, division.refunds)):
        for user, amount in amounts.items():
            wires = "+".join(str(leg.wire_cents) for leg in legs(amount, WireLimits()))
            found[user, kind.value] = amount, wires
    assert found == expected


def test_every_phone_is_a_kenyan_mobile_and_nobody_shares_one() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for user in rows("users.csv"):
        owners[normalize(user["phone"])].append(user["user_id"])

    assert len(owners) == 1_200
    assert all(len(phone) == 12 and phone.startswith(("2547", "2541")) for phone in owners)
