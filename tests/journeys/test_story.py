"""Somebody who has only README, `--help` and what was printed last brings a market from its files to paid phones."""

from __future__ import annotations

import re
import shlex

from tests.journeys.story import act_out
from tests.journeys.street import Street
from tests.test_docs import ACTED, ROOT, parts


def test_four_troubles_end_by_what_the_program_itself_printed_and_the_handbook_shows_it_as_it_was(bare: Street) -> None:
    """A wrong password, an empty float, an unknown payout, a dead phone: `follows` types only what was named."""
    shown = {name: text for _, name, text in parts() if name in ACTED}
    acted = {name: text + "\n" for name, text in act_out(bare).items()}
    assert acted == shown, "write it anew: python -m tests.test_docs"


def test_the_market_by_hand_of_the_readme_runs_line_by_line_as_it_stands_there(bare: Street) -> None:
    """But for `--yes` where a person would be asked, and the simulator, which goes on in a terminal of its own."""
    section = (ROOT / "README.md").read_text().partition("## A market, by hand")[2].partition("\n## ")[0]
    begins, lines = re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    assert begins == "kasoko init\nkasoko simulator --write-env .env\n"
    bare.furnish()
    bare.start_simulator()
    for line in lines.splitlines():
        program, *words = shlex.split(line)
        assert program == "kasoko"
        asked = words[0] not in {"audit", "status"} and not {"--plan", "--yes"} & set(words)
        bare.run(*words, *(["--yes"] if asked else []))
    assert len(bare.payments()) == 1
