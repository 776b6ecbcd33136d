"""What is told of an answer that could not be written, and of names that the terminal cannot show."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Kasoko, environment


def test_what_could_not_be_told_is_told_where_that_can_be_done(kasoko: Kasoko, tmp_path: Path) -> None:
    """A table on a full disk is no reason to do the act again; a file of records that is not whole is."""
    assert kasoko("init").returncode == 0
    with Path("/dev/full").open("wb") as full:

        def to_a_full_disk(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "kasoko_cli", *words],
                cwd=tmp_path,
                env=environment(),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=60,
                check=False,
            )

        added = to_a_full_disk("user", "add", "ann", "Ann", "0712345678")
        exported = to_a_full_disk("export", "users")
    assert (added.returncode, added.stderr) == (
        0,
        "Warning: What was done is done, and could not all be told: No space left on device.\n",
    )
    assert (exported.returncode, exported.stderr.removeprefix("1 user\n")) == (
        3,
        (
            "Error: The answer is not whole, since it could not be written: No space left on device."
            " Nothing was changed.\nHint: Make room where it goes, then do the same again.\n"
        ),
    )
    assert "ann," in kasoko("export", "users").stdout


#: Commands that only answer, of each way to do so: their exit code is 0 where the reader had enough.
ANSWERS = (
    *("payout --help", "help recovery", "version", "user list --json", "config show --origin", "export users"),
    *("report daily", "audit", "doctor --offline --json"),
)


@pytest.mark.parametrize("words", ANSWERS)
def test_a_reader_that_has_enough_is_no_error(words: str, kasoko: Kasoko, tmp_path: Path) -> None:
    """As behind `| head -1`: nothing is said of it, and the exit code is that of the same command read whole."""
    kasoko("init")
    whole = kasoko(*words.split())
    reading, gone = os.pipe()
    os.close(reading)
    try:
        cut = subprocess.run(
            [sys.executable, "-m", "kasoko_cli", *words.split()],
            cwd=tmp_path,
            env=environment(),
            stdout=gone,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(gone)
    told = re.sub(r"\d\d:\d\d:\d\d", "", whole.stderr)
    assert (cut.returncode, re.sub(r"\d\d:\d\d:\d\d", "", cut.stderr)) == (whole.returncode, told)


def test_a_locale_that_cannot_show_a_name_spells_it_out(
    kasoko_afresh: Kasoko, kasoko_on_a_terminal: Callable[..., tuple[int, str]]
) -> None:
    kasoko_afresh("init")
    assert kasoko_afresh("user", "add", "ann", "Wanjikũ", "0712345678").returncode == 0
    for encoding in ("ascii", "latin-1"):
        told = kasoko_afresh("user", "list", PYTHONIOENCODING=encoding)
        assert (told.returncode, told.stderr) == (0, "")
        assert "Wanjik\\u0169" in told.stdout
        code, shown = kasoko_on_a_terminal("user", "list", PYTHONIOENCODING=encoding)
        assert (code, "Wanjik\\u0169" in shown) == (0, True)
