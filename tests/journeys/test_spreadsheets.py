"""Somebody with only README and `--help` brings workbooks as people keep them to paid phones, without an editor.

Nothing is known here of the files but what the program says: each refusal is answered with what its hint names.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from tests.journeys.deployment_harness import DeploymentHarness
from tests.operations.workbooks import Shown, workbook

#: What a hint can tell somebody to add to an import.
_TOLD = re.compile(r"--(?:map|sheet|dates) (?:[a-z_]+=)?(?:'[^']*'|[^\s.,]+)")

#: Where a hint offers one of several, what the operator knows and the program cannot.
CHOSEN = ("--sheet December", "--dates dmy")


def keep(deployed: DeploymentHarness, name: str, sheets: Mapping[str, Sequence[Sequence[object]]]) -> None:
    """Write a workbook as Excel would."""
    (deployed.folder / name).write_bytes(workbook(sheets))


def follow(deployed: DeploymentHarness, kind: str, name: str) -> list[str]:
    """Import it with `--plan` first, and do what each hint says until the plan is good; returns what was added."""
    added: list[str] = []
    for _ in range(5):
        done = deployed.run("import", kind, name, *shlex.split(" ".join(added)), "--plan", "--json", code=None)
        if done.code == 0:
            deployed.run("import", kind, name, *shlex.split(" ".join(added)), "--yes")
            return added
        assert done.code == 5, done
        told = _TOLD.findall(f"{done.error['message']} {done.error['hint']}")
        chosen = [one for one in told if one in CHOSEN] or [one for one in told if one.startswith("--map")]
        new = [one for one in dict.fromkeys(chosen) if one not in added]
        assert new, f"the hint leads nowhere: {done.error}"
        added += new
    raise AssertionError(f"the hints go on and on: {added}")


def test_from_the_worst_workbooks_to_paid_phones_by_the_hints_alone(bare: DeploymentHarness) -> None:
    bare.furnish()
    bare.start_simulator()
    keep(
        bare,
        "members.xlsx",
        {
            "Read me": [["Kept by Wanjiku"]],
            "January": [["User ID", "Full Name", "Mobile No"], ["old", "Old Member", 722000009]],
            "December": [
                ["Members of December", None, None, None],
                [],
                ["User ID", "Full Name", "Mobile No", "Joined"],
                ["ann", "Ann Auma", 712000001, None],
                ["ben", "Ben Müller", 254712000002.0, None],
                ["cyn", " Cyn Wanja ", "0712 000 003\u200b", "3rd"],
                [None, None, None, None],
            ],
        },
    )
    keep(
        bare,
        "markets.xlsx",
        {
            "Sheet1": [
                ["Market ID", "Slug", "Question", "Outcomes", "Closes At", "Fee %"],
                ["m1", "rain", "Will it rain?", "Yes|No", "05/06/2025 17:00", Shown(0.05, "0%")],
            ]
        },
    )
    keep(
        bare,
        "bets.xlsx",
        {
            "Bets": [
                ["Bet ID", "Market", "Member No", "Pick", "Amount", "Placed", "Agent"],
                ["b1", "rain", "ann", "yes", "KES 1,500.00", "04/06/2025 09:30", "K1"],
                ["b2", "rain", "ben", "YES", 500, "04/06/2025 10:30"],
                ["b3", "m1", "cyn", "No", "2,000/=", "04/06/2025 5:30 PM"],
                [],
            ]
        },
    )
    assert follow(bare, "users", "members.xlsx") == [
        "--sheet December",
        "--map name='Full Name'",
        "--map phone='Mobile No'",
    ]
    assert follow(bare, "markets", "markets.xlsx") == ["--dates dmy"]
    assert follow(bare, "bets", "bets.xlsx")[-1] == "--dates dmy"

    shown = bare.ask("market", "show", "rain")
    assert shown["rules"]["fee_bps"] == 500
    assert [(one["stake_cents"], one["returns_cents"]) for one in shown["outcomes"]] == [(200_000, 190), (200_000, 190)]
    bare.settle("rain", "Yes")
    bare.run("payout", "rain", "--yes", "--listen")
    paid = {payment["phone"]: payment["amount_cents"] for payment in bare.payments()}
    assert paid == {"254712000001": 285_000, "254712000002": 95_000}
    assert bare.run("audit").code == 0
