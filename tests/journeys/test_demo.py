"""`kasoko demo`: the first thing that anybody runs, on a machine that has nothing prepared for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.proof.processes import PROGRAM

#: What the README promises of the first command, with much to spare, in seconds.
PROMISED_SECONDS = 60


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run it with nothing in its environment but where programs are: no HOME, no settings, no terminal."""
    kept = folder / "temporary"
    kept.mkdir(exist_ok=True)
    here = folder / "here"
    here.mkdir(exist_ok=True)
    started = time.monotonic()
    done = subprocess.run(
        [*PROGRAM, "demo", *words],
        cwd=here,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "TMPDIR": str(kept)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=2 * PROMISED_SECONDS,
        check=False,
    )
    assert time.monotonic() - started < PROMISED_SECONDS
    assert list(kept.iterdir()) == [], "what it made for itself is gone"
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.mark.exhaustive
def test_the_demo_proves_itself_twice_in_a_row_in_an_empty_folder_without_a_home(tmp_path: Path) -> None:
    for _ in range(2):
        done = demo(tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        shown = [line.split("\t") for line in done.stdout.splitlines()]
        # The operator's own example.
        assert ["rain", "450.00", "22.50", "427.50", "427.50", "0.00"] in shown
        winners = {line[0]: line[1:3] + line[4:] for line in shown if len(line) == 6}
        assert winners["wanjiku"] == ["142.50", "142.00", "0.50", "142.50"]
        assert winners["otieno"] == ["285.00", "285.00", "0.00", "285.00"]
        assert "Every result was posted a second time: nothing changed." in done.stdout
        # Every kind of trouble, and the end of it.
        assert winners.keys() >= {"achieng", "barasa", "chebet", "dalmas", "eunice", "fatuma", "githinji"}
        assert "Each winner was paid exactly once." in done.stdout
        assert ["9", "9", "0", "2,083.00", "2,083.00"] in shown
        readme = (Path(__file__).parents[2] / "README.md").read_text()
        [quoted] = re.findall(r"<!-- demo -->\n```text\n(.*?)```", readme, re.DOTALL)
        assert all(re.split(r" {2,}", line) in shown for line in quoted.splitlines())
        assert list((tmp_path / "here").iterdir()) == [], "nothing is left in the operator's folder"


def test_the_demo_answers_programs_with_its_proof(tmp_path: Path) -> None:
    done = demo(tmp_path, "--json")
    report = json.loads(done.stdout)
    seconds = report.pop("seconds")
    checks = report.pop("checks")

    assert done.returncode == 0
    assert report == {
        "markets": 2,
        "payouts": 9,
        "paid_once": 9,
        "paid_twice": 0,
        "wire_cents": 208_300,
        "simulator_cents": 208_300,
        "violations": 0,
        "proven": True,
    }
    assert 0 <= seconds < PROMISED_SECONDS
    assert checks > 10


@pytest.mark.exhaustive
@pytest.mark.parametrize("text", ["payout = 5\n", "[payout\n"], ids=["wrong", "unreadable"])
def test_the_demo_needs_no_settings_and_so_minds_no_broken_ones(tmp_path: Path, text: str) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "kasoko.toml").write_text(text)
    assert demo(tmp_path, "--quiet").returncode == 0
