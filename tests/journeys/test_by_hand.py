"""README's market by hand, typed to the letter on two terminals by somebody who presses only what it says."""

from __future__ import annotations

import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import environment, well_written
from tests.journeys.deployment_harness import PATIENCE_SECONDS, free_port
from tests.journeys.pages import blocks_of
from tests.test_docs import ROOT

README = ROOT / "README.md"
#: How a question ends, with nothing after it.
ASKS = re.compile(r"(?:\[y/N\]|\[sandbox\]|:) $")
#: What a terminal obeys and nobody reads.
OBEYED = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A terminal on which one command runs."""

    def __init__(self, folder: Path, line: str, *more: str) -> None:
        self._mine, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kasoko_cli", *shlex.split(line)[1:], *more],
            cwd=folder,
            env=environment(TERM="xterm-256color", COLUMNS="80"),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.shown, self.asked = "", list[str]()

    def until(self, words: str, key: str) -> None:
        """Read on until the words come, or the command ends; press the key where something is asked."""
        read, until = 0, time.monotonic() + PATIENCE_SECONDS
        while words not in self.shown and time.monotonic() < until:
            if not select.select([self._mine], [], [], 1)[0]:
                continue
            try:
                part = os.read(self._mine, 65_536).decode(errors="replace")
            except OSError:
                break
            if not part:
                break
            self.shown += OBEYED.sub("", part)
            if ASKS.search(self.shown[read:]):
                self.asked.append(self.shown[read:].splitlines()[-1])
                read = len(self.shown)
                os.write(self._mine, key.encode())

    def end(self, key: str = "\n") -> int:
        """Its exit code, once it has ended."""
        self.until("\0", key)
        return self.process.wait(timeout=PATIENCE_SECONDS)

    def close(self) -> None:
        """End what goes on."""
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_SECONDS)
        os.close(self._mine)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Whatever was opened, closed in the end."""
    opened: list[Terminal] = []
    yield opened
    for one in reversed(opened):
        one.close()


def test_a_market_by_hand_works_for_somebody_who_presses_only_what_readme_says(
    tmp_path: Path, terminals: list[Terminal]
) -> None:
    text = README.read_text()
    part = text[text.index("## A market, by hand") :].split("\n## ")[0]
    told = " ".join(part.split())
    first, second = (block.lines for block in blocks_of(README) if "\n".join(block.lines) in part)

    setting_up = Terminal(tmp_path, first[0])
    terminals.append(setting_up)
    assert setting_up.end() == 0, setting_up.shown
    assert "`init` asks seven questions" in told
    assert "press Enter at each" in told
    assert len(setting_up.asked) == 7, setting_up.asked
    # Only the ports are other ones: those of the page may be taken on this machine.
    port = free_port()
    simulator = Terminal(tmp_path, first[1], "--port", "0")
    terminals.append(simulator)
    simulator.until("Stop it with Ctrl-C", "")
    for file in (tmp_path / "kasoko.toml", tmp_path / ".env"):
        file.write_text(re.sub(r"\b8321\b", str(port), file.read_text()))

    asking = []
    for line in second:
        typed = Terminal(tmp_path, line)
        terminals.append(typed)
        assert typed.end("y\n") == 0, (line, typed.shown)
        well_written(typed.shown)
        asking += [line] * len(typed.asked)
        assert all(question.endswith("[y/N] ") for question in typed.asked), typed.asked
    assert "`resolve` shows what would follow and asks `[y/N]`: type `y`. Nothing else here asks." in told
    assert asking == ["kasoko resolve rain Yes"]
    shown = dict(zip(second, [one.shown for one in terminals[2:]], strict=True))
    assert re.search(r"completed +1 payout, KES 237\.50", shown["kasoko status rain --payouts"])
    assert "All holds" in shown["kasoko audit"]
