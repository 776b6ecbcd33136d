"""The real program as a process, in a folder and an environment of its own; and its commands in this process."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from kasoko_cli.cli.app import app
from kasoko_cli.cli.container import Container
from kasoko_cli.cli.output import render
from kasoko_cli.config import load_config
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import open_database
from tests.conftest import CountedIds, FixedClock
from tests.operations.payout_harness import PayoutHarness
from tests.proof.processes import Forker, Order

Finished = subprocess.CompletedProcess[str]
Kasoko = Callable[..., Finished]


def environment(**more: str) -> dict[str, str]:
    """What a process of ours inherits: nothing that is a setting, and no colour by force."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": str(Path(__file__).parents[2]), **more}


#: Words that end in s and are no plural.
SINGULAR = "s|ms|is|was|has|needs|waits|does|less|this|others|business|status|address|process|access|always|whose"
#: What no sentence of ours has: one of a thing in the plural, a mark twice, a blank before one.
MISSPELT = re.compile(
    rf"(?<![\w.,:/-])1 (?!(?:{SINGULAR})\b)[a-z]+s\b|[a-z)]\.\.(?![./])|[.;:,] ?[,;](?= |$)|[a-z] [.,;](?= |$)"
)


def well_written(text: str) -> str:
    """The text that the program printed, once its plurals and marks were looked at."""
    assert not (found := MISSPELT.search(text)), text[max(0, found.start() - 60) : found.end() + 20]
    return text


@pytest.fixture
def kasoko_afresh(tmp_path: Path) -> Kasoko:
    """Run `python -m kasoko_cli WORDS...` with pipes on both ends, as an operator's shell or cron does.

    Settings are given by their name in the environment.
    """

    def run(*words: str, stdin: str = "", **environ: str) -> Finished:
        return subprocess.run(
            [sys.executable, "-m", "kasoko_cli", *words],
            cwd=tmp_path,
            env=environment(**environ),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def kasoko(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, forker: Forker) -> Kasoko:
    """The same, forked from a process that has imported everything already: ten of them in the time of one."""
    aside = tmp_path_factory.mktemp("aside")
    reads, said, talk = (aside / name for name in ("stdin", "stdout", "stderr"))

    def run(*words: str, stdin: str = "", **environ: str) -> Finished:
        reads.write_text(stdin)
        order = Order(
            words=words,
            folder=str(tmp_path),
            environ=environment(**environ),
            said=str(said),
            talk=str(talk),
            reads=str(reads),
            offset_seconds=None,
        )
        done = forker.run([order])[0]
        assert not done.hung, f"kasoko {' '.join(words)} hung: {done.said}{done.talk}"
        return Finished(words, done.code, well_written(done.said), well_written(done.talk))

    return run


@pytest.fixture
def kasoko_on_a_terminal(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Run `kasoko WORDS...`, or a program, on a terminal; returns its exit code and all that was shown.

    `typed` is typed once `prompt` is shown, as a person would: a question for a password throws away
    what was typed before it. `answers` are several such pairs, one after the other.
    """

    def run(
        *words: str,
        program: str | None = None,
        prompt: str = "",
        typed: str = "",
        answers: Sequence[tuple[str, str]] = (),
        **environ: str,
    ) -> tuple[int, str]:
        left = [(prompt, typed)] if typed else [(question, f"{answer}\n") for question, answer in answers]
        mine, theirs = pty.openpty()
        started = [sys.executable, "-c", program] if program else [sys.executable, "-m", "kasoko_cli"]
        with subprocess.Popen(
            [*started, *words],
            cwd=tmp_path,
            env=environment(**{"COLUMNS": "100", "TERM": "xterm-256color", **environ}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        ) as process:
            os.close(theirs)
            shown, seen = "", 0
            while select.select([mine], [], [], 30)[0]:
                try:
                    part = os.read(mine, 65_536).decode()
                except OSError:  # Linux says so when the other side is closed; macOS reads nothing
                    break
                shown += part
                if not part:
                    break
                if left and left[0][0] in shown[seen:]:
                    seen = len(shown)
                    os.write(mine, left.pop(0)[1].encode())
            else:
                process.kill()
            os.close(mine)
            return process.wait(timeout=30), shown

    return run


SECRETS = {
    "MPESA_CONSUMER_KEY": "key",
    "MPESA_CONSUMER_SECRET": "secret",
    "MPESA_SECURITY_CREDENTIAL_ENCRYPTED": "sealed",
    "MPESA_PAYBILL": "600000",
    "MPESA_INITIATOR_NAME": "opsapi",
    "MPESA_BASE_URL": "https://daraja.example.org",
    "MPESA_CALLBACK_URL": "https://pay.example.org",
    "KASOKO_CALLBACK_KEY": "ab" * 32,
}


class Desk:
    """The commands, on a database and a simulator in this process."""

    def __init__(self, harness: PayoutHarness, folder: Path) -> None:
        self.harness, self.folder = harness, folder
        self.toml = ""

    def run(self, *words: str, code: int = 0, typed: str = "") -> Any:
        """Run `kasoko WORDS...`, and hold its exit code."""
        (self.folder / "kasoko.toml").write_text(self.toml)
        config = load_config(environ=SECRETS, folder=self.folder)
        container = Container(config, clock=self.harness.clock, new_id=self.harness.new_id)
        container.__dict__.update(db=self.harness.db, daraja=self.harness.daraja, links=self.harness.links)
        found = CliRunner().invoke(app, list(words), obj=container, input=typed, prog_name="kasoko")
        assert found.exit_code == code, found.output
        return found


@pytest.fixture
def desk(sqlite_template: Path, tmp_path: Path, clock: FixedClock, new_id: CountedIds, actor: Actor) -> Iterator[Desk]:
    file = tmp_path / "kasoko.db"
    file.write_bytes(sqlite_template.read_bytes())
    db = open_database(f"sqlite:///{file}")
    harness = PayoutHarness(db, clock, new_id, actor)
    yield Desk(harness, tmp_path)
    harness.assert_books()
    db.close()


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a terminal to ask on."""
    monkeypatch.setattr(render, "is_somebody_here", lambda: True)
