"""An empty utility account: what is said at each place, typed as it stands there, ends with everybody paid once."""

from __future__ import annotations

import re
import time

from tests.journeys.deployment_harness import DeploymentHarness, Done
from tests.journeys.story import top_up

STAKES = [(name, f"071200000{n}", "Yes", "100") for n, name in enumerate(("ann", "ben"), 1)]
#: Where the recipe stands: a command, and the line of its answer that has it.
PLACES = [
    (("explain", "1"), "do"),
    (("status", "--check"), "Mend that first"),
    (("payout", "show", "{failed}"), "do"),
    (("payout", "--yes"), "Hint:"),
]


def test_the_recipe_for_an_empty_float_works_to_the_letter(bare: DeploymentHarness) -> None:
    deployed = bare
    deployed.furnish()
    deployed.start_simulator("--float", "250")
    deployed.open_market("rain", "Yes", "No", stakes=[*STAKES, ("cyn", "0712000003", "No", "200")])
    deployed.settle("rain", "Yes")
    run = deployed.run("payout", "rain", "--yes", "--listen", code=6)
    assert sorted(item["status"] for item in deployed.items("rain").values()) == ["COMPLETED", "FAILED"]

    [failed] = [item["id"] for item in deployed.items("rain").values() if item["status"] == "FAILED"]
    recipes = [_recipe(run, "Hint:")]
    for words, where in PLACES:
        recipes.append(_recipe(deployed.run(*(word.format(failed=failed) for word in words), code=None), where))
    assert {tuple(recipe[:2]) for recipe in recipes} == {("resume", "retry-failed")}
    top_up(deployed, 500)
    time.sleep(2.1)  # M-Pesa counts in seconds
    for command in max(recipes, key=len):
        deployed.run(command, "--yes", *(("--listen",) if command != "resume" else ()))
    assert {item["status"] for item in deployed.items("rain").values()} == {"COMPLETED"}
    assert sorted(one["amount_cents"] for one in deployed.payments()) == [19_000, 19_000]


def _recipe(told: Done, where: str) -> list[str]:
    """The commands that a line names."""
    line = [line for line in (told.out + told.err).splitlines() if where in line][-1]
    return re.findall(r"kasoko ([a-z-]+)", line)


def test_a_run_asks_for_the_float_before_an_old_word_stops_it(bare: DeploymentHarness) -> None:
    deployed = bare
    deployed.furnish()
    deployed.start_simulator("--float", "250")
    deployed.open_market("rain", "Yes", "No", stakes=[*STAKES, ("cyn", "0712000003", "No", "200")])
    deployed.settle("rain", "Yes")
    deployed.run("float", "--listen")
    time.sleep(2.1)
    short = deployed.run("payout", "rain", "--yes", "--listen", code=5)
    assert "The float is short by KES 140.00" in short.err
    assert deployed.payments() == []
    top_up(deployed, 500)
    time.sleep(2.1)  # what M-Pesa said just now is not asked for again
    deployed.run("payout", "rain", "--yes", "--listen")
    assert {item["status"] for item in deployed.items("rain").values()} == {"COMPLETED"}
    assert deployed.rows("SELECT count(*) FROM queries WHERE kind = 'BALANCE'") == [(3,)]
