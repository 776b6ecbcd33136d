"""Check a proof of settlement with nothing but Python: python3 verify.py PROOF.json [CODE]

It divides the pool again from the stakes in the file, checks every share, the Merkle root and the digest. It does
not check the Ed25519 signature, which the standard library cannot: `kasoko verify` does. How: docs/proof.md.
"""

import hashlib
import json
import sys
from fractions import Fraction


def canonical(data):
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def sha(data):
    return hashlib.sha256(data).digest()


def need(holds, why):
    if not holds:
        raise ValueError(why)


def once(pairs):
    need(len(dict(pairs)) == len(pairs), "the file says something twice")
    return dict(pairs)


def whole(text):
    raise ValueError(f"{text} is no whole number")


def read(raw):
    return json.loads(raw.decode(), object_pairs_hook=once, parse_float=whole, parse_constant=whole)


def root_of(leaves):
    level = [sha(b"\x00" + canonical(leaf)) for leaf in leaves] or [sha(b"")]
    while len(level) > 1:
        odd = [level[-1]] if len(level) % 2 else []
        level = [sha(b"\x01" + a + b) for a, b in zip(level[::2], level[1::2], strict=False)] + odd
    return level[0].hex()


def dividends_of(rules, resolution, pools, gross):
    """The fee, the top-up, and what one cent on each winning outcome returns."""
    named = dict.fromkeys(resolution["winners"], None) | {o: Fraction(w) for o, w in resolution["weights"]}
    no_contest = resolution["void"] or (resolution["withdrawn"] and len(pools) < 2)
    winning = {} if no_contest else {o: cents for o, cents in pools.items() if o in named}
    if not winning:
        return 0, 0, {}, 0
    staked = sum(winning.values())
    fee, top_up, least = gross * rules["fee_bps"] // 10_000, 0, -(-staked * rules["min_dividend_bps"] // 10_000)
    if rules["min_dividend"] == "cap_fee":
        fee = min(fee, max(gross - least, 0))
    elif rules["min_dividend"] == "house_topup":
        top_up = max(least - (gross - fee), 0)
    net, n = gross - fee + top_up, len(winning)
    if resolution["weights"]:
        backed = sum(named[o] for o in winning)
        each = {o: named[o] / backed * net / cents for o, cents in winning.items()}
    elif rules["dead_heat"] == "pool":
        each = {o: Fraction(net, n * cents) for o, cents in winning.items()}
    elif rules["dead_heat"] == "profit" and net >= staked:
        each = {o: 1 + Fraction(net - staked, n * cents) for o, cents in winning.items()}
    else:
        each = dict.fromkeys(winning, Fraction(net, staked))
    return fee, top_up, each, staked


def taxed_of(duty, payout, staked):
    need(duty["on"] == "winnings", "the duty is on something else")
    return payout if duty["base"] == "payout" else max(payout - staked, 0)


def kept_of(duty, base):
    """What the duty keeps back, to whole units."""
    exact = Fraction(base * duty["rate_bps"], 10_000 * duty["unit_cents"])
    nudge = {"down": 0, "half_up": Fraction(1, 2), "up": Fraction(exact.denominator - 1, exact.denominator)}
    return (exact + nudge[duty["rounding"]]).__floor__() * duty["unit_cents"]


def check(proof):
    need(proof["form"] in ("kasoko proof 1", "kasoko proof 2"), "this is no proof of settlement")
    plain = {name: value for name, value in proof.items() if name not in ("digest", "signature")}
    need(sha(canonical(plain)).hex() == proof["digest"], "it was changed after it was made")
    leaves, rules, resolution = proof["leaves"], proof["rules"], proof["resolution"]
    names = [leaf["name"] for leaf in leaves]
    need(names == sorted(set(names)), "a bettor stands in it twice")
    need(root_of(leaves) == proof["root"], "the leaves are not those of its root")
    pools, withdrawn = {}, set(resolution["withdrawn"])
    for leaf in leaves:
        for outcome, fate, cents in leaf["stakes"]:
            need(cents > 0 and fate in ("valid", "late", "cancelled"), "a stake is none")
            if fate == "valid" and outcome not in withdrawn:
                pools[outcome] = pools.get(outcome, 0) + cents
    gross = sum(pools.values())
    fee, top_up, each, staked = dividends_of(rules, resolution, pools, gross)
    net, unit = (gross - fee + top_up if each else 0), rules["break_unit_cents"]
    shares = {}  # in turn: a tie goes to whoever backed the winner first
    for leaf in sorted(leaves, key=lambda leaf: (leaf["turn"] is None, leaf["turn"] or 0)):
        backed = [(o, c) for o, fate, c in leaf["stakes"] if fate == "valid" and o in each]
        share = sum((c * each[o] for o, c in backed), Fraction(0))
        need(leaf["share"] == f"{share.numerator}/{share.denominator}", "a share is another")
        if backed:
            shares[leaf["name"]] = share
    paid = {name: int(share // unit * unit) for name, share in shares.items()}
    if rules["rounding"] == "largest":
        units = (net - sum(paid.values())) // unit
        for name in sorted(shares, key=lambda name: -(shares[name] % unit))[:units]:
            paid[name] += unit
    refunds = taxed = tax = 0
    for leaf in leaves:
        back = sum(
            c for o, fate, c in leaf["stakes"] if fate == "late" or (fate == "valid" and (not each or o in withdrawn))
        )
        refunds += back
        due = (paid.get(leaf["name"], 0), back)
        need((leaf["payout_cents"], leaf["refund_cents"]) == due, "somebody is owed something else")
        if proof["form"] == "kasoko proof 2":
            won = sum(c for o, fate, c in leaf["stakes"] if fate == "valid" and o in each)
            base = taxed_of(proof["duty"], due[0], won)
            need(leaf["tax_cents"] == min(kept_of(proof["duty"], base), due[0]), "a tax is another")
            taxed, tax = taxed + base, tax + leaf["tax_cents"]
    said, total = proof["settlement"], sum(paid.values())
    gives = {
        "gross_cents": gross,
        "fee_cents": fee,
        "net_cents": net,
        "winning_stake_cents": staked,
        "winners": len(paid),
    }
    gives |= {"payouts_cents": total, "refunds_cents": refunds, "breakage_cents": net - total, "top_up_cents": top_up}
    gives |= {"taxed_cents": taxed, "tax_cents": tax} if proof["form"] == "kasoko proof 2" else {}
    need({name: said[name] for name in gives} == gives, "a figure is another")


def main(file, code=None):
    with open(file, "rb") as raw:
        proof = read(raw.read())
    check(proof)
    print(f"{proof['market']['slug']}: every share follows from the stakes and the rules. Root {proof['root']}")
    if code:
        place = [proof["market"]["id"], proof["settlement"]["number"], code]
        name = sha(canonical(["kasoko name 1", *place])).hex()
        [mine] = [leaf for leaf in proof["leaves"] if leaf["name"] == name] or [None]
        need(mine, "the code belongs to nobody in it")
        print(json.dumps(mine))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        sys.exit(f"The proof does not hold: {error}")
