"""What is not done without a reason: its help says so, who is there is asked for one, and else it is wrong usage."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Desk
from tests.cli.test_every_command import COMMANDS
from tests.operations.payout_harness import ANN

#: Each command that needs one, as it is called; what comes of a payout that is due.
NEEDS = {
    "approver remove": "approver remove otieno",
    "incident close": "incident close 1",
    "pause": "pause",
    "payout again": "payout again derby.1.1",
    "payout decide": "payout decide derby.1.1 --not-paid --evidence seen",
    "payout hold": "payout hold derby.1.1",
    "payout release": "payout release derby.1.1",
    "payout returned": "payout returned derby.1.1 --receipt UKN7A1B2C3",
    "payout to-wallet": "payout to-wallet derby.1.1",
    "statement undo": "statement undo 1",
    "suspense resolve": "suspense resolve UKN7A1B2C3 --as bank",
    "tax remit": "tax remit 1 --on winnings --reference R1",
    "user erase": "user erase ann",
    "wallet recover": "wallet recover ann 1 --reference R1",
    "wallet write-off": "wallet write-off ann 1 --reference R1",
}
#: The same of what needs one in one case only, which its help says.
SOMETIMES = {"resolve": "resolve derby No --override"}


@pytest.mark.parametrize("words", [*NEEDS.values(), *SOMETIMES.values()])
def test_where_nobody_can_be_asked_it_is_wrong_usage_and_the_hint_is_the_whole_command(desk: Desk, words: str) -> None:
    desk.harness.owe({"ann": ANN})
    for yes in ("", " --yes"):
        found = desk.run(*f"{words}{yes}".split(), code=2)
        assert found.stderr.endswith(
            "Error: This needs a reason, for whoever reads the record. Nothing was done.\n"
            f"Hint: Say why: kasoko {words}{yes} --reason TEXT\n"
        )


def test_the_help_of_each_marks_it_and_of_no_other() -> None:
    marked = {
        name
        for name, command in COMMANDS.items()
        for one in command.params
        if "--reason" in one.opts and "[required]" in (one.help or "")
    }
    assert marked == set(NEEDS)
    [override] = [one for one in COMMANDS["resolve"].params if "--override" in one.opts]
    assert "--reason is required" in str(override.help)


@pytest.mark.usefixtures("somebody")
def test_who_is_there_is_asked_for_it_before_anything_else(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    found = desk.run("payout", "to-wallet", "derby.1.1", typed="the line is dead\ny\n")
    assert found.stderr.startswith("Why? For whoever reads the record: ")
    assert desk.harness.statuses() == {"ann": "WALLET"}
    assert "the line is dead" in desk.run("events", "derby.1.1").stdout


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    "words", ["payout hold derby.1.1", "payout hold derby.1.1 --yes"], ids=["nothing", "not asked"]
)
def test_no_answer_is_no_reason(desk: Desk, words: str) -> None:
    desk.harness.owe({"ann": ANN})
    desk.run(*words.split(), typed="\n", code=2)
    assert desk.harness.statuses() == {"ann": "PENDING"}


@pytest.mark.usefixtures("somebody")
def test_another_outcome_is_shown_before_the_reason_is_asked_for(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    found = desk.run("resolve", "derby", "No", "--override", typed="the gauge was read wrongly\nn\n", code=1)
    assert found.stdout.startswith("outcome\tNo, and not Yes\n")
    assert found.stderr.startswith("Why? For whoever reads the record: Give derby the outcome No instead of Yes? [y/N]")
