"""The command lines of the pages, really run: each block of them in the world that its page takes for granted.

A line is run as it stands, by a process of the program, but for what only a person or that one day could give:
`--yes` where somebody would be asked, and the names that `Reader.here` holds for those of the page (a port, a
hash, an id). What cannot be run anywhere but at a customer's says so above its block, and why:

    <!-- not run: installs packages: it makes a folder of packages -->
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kasoko_cli.cli.commands.admin.simulate import needed_by_clients, write_env
from kasoko_cli.daraja.simulator.app import Running, Simulator
from tests.journeys.deployment_harness import DeploymentHarness, Done
from tests.test_docs import ROOT, find_command, page_id

#: Every page with commands on it.
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
#: The languages of blocks whose lines are typed, or started by cron.
TYPED = frozenset({"sh", "bash", "shell", "console", "cron"})
#: Why a block cannot be run, in one of these kinds; what follows the kind is for whoever reads the page's source.
KINDS = ("installs packages", "takes minutes", "needs root", "needs another host", "needs Safaricom")

_BLOCK = re.compile(r"^(?:<!-- not run: (?P<excuse>.*?) -->\n)?```(?P<kind>\w*)\n(?P<text>.*?)^```", re.M | re.S)
_HOURS = re.compile(r"^(?:[\d*/,-]+\s+){5}")
_SETTING = re.compile(r"(?P<name>[A-Z][A-Z_]+)=(?P<value>\S+|'[^']*')$")
_HASH = re.compile(r"\b[0-9a-f]{16}\b")

#: What goes on until it is stopped, and the words by which it says that it is there.
GOES_ON = {
    "simulator": "Simulator on",
    "worker": "Serving",
    "status --watch": "rain",
    "listen --for": "Listening on",
    "listen --count": "Listening on",
}


@dataclass(frozen=True)
class Block:
    """Lines that a page shows to be typed one after another; `number` counts those of the page from one."""

    page: Path
    number: int
    lines: tuple[str, ...]
    excuse: str | None

    def __str__(self) -> str:
        return f"{page_id(self.page)} {self.number}"


def blocks_of(page: Path) -> Iterator[Block]:
    """Every block of the page that is typed, or started by cron."""
    number = 0
    for found in _BLOCK.finditer(page.read_text()):
        if found["kind"] in TYPED:
            number += 1
            text = found["text"].replace("\\\n", "")
            lines = tuple(line for line in text.splitlines() if line and not line.startswith("#"))
            yield Block(page, number, lines, found["excuse"])


def other_blocks(page: Path) -> Iterator[tuple[str, str]]:
    """The language and the text of every other block."""
    for found in _BLOCK.finditer(page.read_text()):
        if found["kind"] not in TYPED:
            yield found["kind"], found["text"]


@dataclass
class Reader:
    """Somebody who types the lines of a page; `here` says what its examples are called here."""

    deployed: DeploymentHarness
    #: Where the deployment stands that this is a copy of, at every hour that a page may ask for.
    builder: Path
    here: dict[str, str] = field(default_factory=dict)
    #: Lines that end with another code than 0, by how they begin; 2 is where a question has nobody to answer it.
    codes: dict[str, int] = field(default_factory=dict)
    #: Words that a line needs besides, by how it begins.
    more: dict[str, tuple[str, ...]] = field(default_factory=dict)
    #: What is typed where the program asks without showing.
    stdin: str = ""
    environ: dict[str, str] = field(default_factory=dict)
    simulator: Simulator | None = None
    running: Running | None = None
    last: str = ""
    #: The hash of the plan that was shown last.
    plan: str = ""

    def hears(self, said: str) -> None:
        """Take in what a command said."""
        self.last = said
        if found := _HASH.search(said):
            self.plan = found[0]

    def reads(self, block: Block) -> None:
        """Type its lines, one after another."""
        assert block.excuse is None, f"{block} cannot be run: {block.excuse}"
        for line in block.lines:
            self.types(line)

    def types(self, line: str) -> None:
        """Run one line of a page; it has to end as the page has it."""
        code = next((code for begins, code in self.codes.items() if line.startswith(begins)), 0)
        more = [word for begins, words in self.more.items() if line.startswith(begins) for word in words]
        line = _HOURS.sub("", line).replace("cd /srv/kasoko && .venv/bin/", "")
        for theirs, ours in self.here.items():
            line = line.replace(theirs, ours)
        if self.plan:
            line = _HASH.sub(self.plan, line)
        if setting := _SETTING.match(line):
            self.environ[setting["name"]] = self.here.get(setting["name"], setting["value"].strip("'"))
            return
        program, *words = shlex.split(line)
        if program == "kasoko":
            self._types_ours([*words, *more], code)
        elif shutil.which(program):
            done = subprocess.run(
                ["sh", "-c", line], cwd=self.deployed.folder, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == code, f"{line}\n{done.stdout}{done.stderr}"

    def _types_ours(self, words: list[str], code: int) -> None:
        words, reads, writes = _redirected(words)
        begins = " ".join(words)
        for name, says in GOES_ON.items():
            if begins.startswith(name):
                running = self.deployed.start(*words, afresh=False, **self.environ)
                running.wait_for(lambda running, says=says: says in running.said)  # type: ignore[misc]
                running.stop()
                return
        if code != 2 and not {"--yes", "-y", "--plan"} & set(words) and _can_be_asked(words):
            words = [*words, "--yes"]
        stdin = (self.deployed.folder / reads).read_text() if reads else self.stdin
        done: Done = self.deployed.run(*words, code=code, stdin=stdin, **self.environ)
        self.hears(done.out + done.err)
        if writes:
            self.deployed.write(writes, done.out)


def _redirected(words: list[str]) -> tuple[list[str], str | None, str | None]:
    """The words by themselves, the file that is read, the file that is written."""
    files: dict[str, str | None] = {"<": None, ">": None}
    kept: list[str] = []
    left = iter(words)
    for word in left:
        if word in files:
            files[word] = next(left)
        else:
            kept.append(word)
    return kept, files["<"], files[">"]


def _can_be_asked(words: list[str]) -> bool:
    command, _ = find_command(list(words))
    return any("--yes" in parameter.opts for parameter in command.params)


def read_page(page: str, reader: Reader) -> None:
    """Type all that a page shows, block after block."""
    for block in blocks_of(ROOT / page):
        reader.reads(block)


def move_in(deployed: DeploymentHarness, simulator: Simulator, url: str) -> None:
    """Put what the simulator's clients need into the deployment's .env."""
    deployed.daraja_url = url
    write_env(deployed.folder / ".env", needed_by_clients(simulator, url))
