"""The story of the handbook, acted out: what somebody types who has README, `--help` and what was printed last.

What is typed next is never known to the script: it names the first words of a command, and types the one that
the program's last answer holds. An answer that does not lead on ends the story, and the test. What was typed and
said is written down, with that made equal which differs from run to run, and stands on the page.
"""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.journeys.deployment_harness import DeploymentHarness, Done
from tests.proof.processes import forking

#: The columns of a page.
WIDTH = 98
#: A command that an answer names: words parted by single blanks, up to a comma, a point or a bracket.
_NAMED = re.compile(r"kasoko ([\w-]+(?: (?:[\w-]|\.(?=\w))+)*)")

USERS = """\
user_id,name,phone
ann,Ann Wanjiku,0712000001
ben,Ben Kamau,0712000002
cyn,Cyn Atieno,0799002040
dan,Dan Mutua,0799200016
"""
MARKETS = """\
market_id,slug,question,outcomes,closes_at,fee_bps
rain,rain,Will it rain in Nairobi on Friday?,Yes|No,2026-11-20T15:00:00Z,500
"""
BETS = """\
bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at
b1,rain,ann,Yes,300,2026-11-19T08:00:00Z,
b2,rain,cyn,Yes,200,2026-11-19T09:00:00Z,
b3,rain,dan,Yes,100,2026-11-19T10:00:00Z,
b4,rain,ben,No,400,2026-11-19T11:00:00Z,
"""
#: What the simulator's operator has as password, and one that was never it.
PASSWORD, OLD_PASSWORD = "Simulator999#", "Simulator998#"
#: Patience for results that the simulator posts within a second, on a machine that is busy.
PATIENCE = ("--listen-seconds", "120")


@dataclass
class Operator:
    """Types, reads, and writes down both."""

    deployed: DeploymentHarness
    last: str = ""
    scenes: dict[str, list[str]] = field(default_factory=dict)
    _now: list[str] = field(default_factory=list)

    def scene(self, name: str) -> None:
        """What comes now stands under this name on the page."""
        self._now = self.scenes[name] = []

    def types(self, *words: str, code: int = 0, silently: tuple[str, ...] = (), stdin: str = "") -> Done:
        """Type a command, which has to end with this code. `silently` are options that the page need not show."""
        done = self.deployed.see(*words, *silently, code=code, stdin=stdin)
        self.last = done.out
        typed = " ".join(f"'{word}'" if re.search(r"[\s?;]", word) else word for word in words)
        self._now += [f"$ kasoko {typed}", *self._equal(done.out), *([f"(exit {code})"] if code else []), ""]
        return done

    def follows(
        self,
        begins: str,
        *more: str,
        code: int = 0,
        silently: tuple[str, ...] = (),
        stdin: str = "",
        **named: str,
    ) -> Done:
        """Type the command that the last answer names and that begins so; `named` stands for its capitals."""
        for found in _NAMED.findall(self.last):
            if f"{found} ".startswith(f"{begins} "):
                words = [named.get(word, word) for word in found.split()]
                return self.types(*words, *more, code=code, silently=silently, stdin=stdin)
        raise AssertionError(f"no `kasoko {begins}` is named by what was printed last:\n{self.last}")

    def keeps(self, last: str) -> None:
        """Turn back to an answer that named more than one command."""
        self.last = last

    def _equal(self, said: str) -> list[str]:
        for pattern, always in (
            (re.escape(self.deployed.callback_url), "http://127.0.0.1:8321"),
            (r"\d{4}-\d\d-\d\d \d\d:\d\d EAT", "2026-11-24 18:05 EAT"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "2026-11-24T15:05:00Z"),
            (r"\b\d+ stored results applied", "0 stored results applied"),
            (r"\b\d+ (seconds?|minutes?) ago", "2 seconds ago"),
            (r"\b[0-9a-f]{16}\b", "d147a08ebedb2757"),
            (r"[A-Za-z0-9+/]{300,}={0,2}", "LJoZEhoucA4x... (344 characters)"),
            (r"\bU[A-Z0-9]{9}\b", "UKO1A2B3C4"),
        ):
            said = re.sub(pattern, always, said)
        return list(_drawn(said.splitlines()))


def _drawn(lines: list[str]) -> Iterator[str]:
    """Rows of tabs as columns, and long lines folded."""
    rows: list[list[str]] = []
    for line in [*lines, ""]:
        cells = line.split("\t")
        if rows and len(cells) != len(rows[0]):
            widths = [min(26, max(map(len, column))) for column in zip(*rows, strict=True)]
            for row in rows:
                drawn = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
                yield from _folded(drawn)
            rows = []
        if len(cells) > 1:
            rows.append(cells)
        elif line:
            yield from _folded(line)


def _folded(line: str) -> list[str]:
    return textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def act_out(deployed: DeploymentHarness) -> dict[str, str]:
    """Bring a market from its files to paid phones, through four troubles; each scene as it stands on the page."""
    deployed.furnish("[payout]\nrate_per_second = 1000\nconcurrency = 1\n")
    deployed.start_simulator("--float", "400")
    certificate = deployed.write(
        "simulator.pem", httpx.get(f"{deployed.daraja_url}/_certificate", trust_env=False).text
    )
    encrypt = ("--certificate", certificate.name)
    for name, text in (("users.csv", USERS), ("markets.csv", MARKETS), ("bets.csv", BETS)):
        deployed.write(name, text)
    _set_credential(deployed, deployed.run("credential", "encrypt", *encrypt, stdin=f"{OLD_PASSWORD}\n").out)

    one = Operator(deployed)
    one.scene("story market")
    for kind in ("users", "markets", "bets"):
        one.types("import", kind, f"{kind}.csv", "--yes")
    one.types("resolve", "rain", "Yes", "--yes")
    one.follows("settle rain", "--yes")

    one.scene("story password")
    one.follows("payout rain", "--limit", "1", "--yes", "--listen", code=6, silently=PATIENCE)
    stopped = one.last
    made = one.follows("credential encrypt", *encrypt, stdin=PASSWORD)
    _set_credential(deployed, made.out.splitlines()[0])
    one.keeps(stopped)
    one.follows("resume")
    one.keeps(stopped)

    one.scene("story float")
    one.follows("retry-failed", "--yes", "--listen", code=6, silently=PATIENCE)
    stopped = one.last
    top_up(deployed, 200)
    one.keeps(stopped)
    one.follows("resume")
    one.keeps(stopped)
    one.follows("retry-failed", "--yes", "--listen", silently=PATIENCE)
    one.keeps(stopped)
    one.follows("payout", "--yes", "--listen", code=5, silently=PATIENCE)
    short = one.last
    top_up(deployed, 500)
    one.follows("float", silently=PATIENCE)
    one.keeps(short)

    one.scene("story unknown")
    one.follows("payout", "--yes", "--listen", code=7, silently=PATIENCE)
    one.follows("reconcile", silently=PATIENCE)

    one.scene("story phone")
    one.follows("retry-failed", "--yes")
    left = one.last
    one.follows("user set-phone", "--yes", PHONE="0733000003")
    one.keeps(left)
    one.follows("payout retry", "--yes", "--listen", silently=PATIENCE)

    one.scene("story end")
    one.types("status", "rain", "--payouts")
    assert deployed.ask("audit")["ok"]
    _assert_each_was_paid_once(deployed)
    return {name: "\n".join(["```text", *lines[:-1], "```"]) for name, lines in one.scenes.items()}


def _set_credential(deployed: DeploymentHarness, credential: str) -> None:
    """Put it into .env, as the command says; the one answer that has to hold it is not held against the program."""
    deployed.said = [said for said in deployed.said if credential.strip() not in said]
    env = deployed.folder / ".env"
    name = "MPESA_SECURITY_CREDENTIAL_ENCRYPTED"
    env.write_text(re.sub(rf"(?m)^{name}=.*$", f"{name}={credential.strip()}", env.read_text()))


def top_up(deployed: DeploymentHarness, kes: int) -> None:
    """Money into the utility account, as the operator does on M-Pesa's portal."""
    url = f"{deployed.daraja_url}/_top_up"
    httpx.post(url, json={"amount_cents": kes * 100}, trust_env=False).raise_for_status()


def _assert_each_was_paid_once(deployed: DeploymentHarness) -> None:
    """The simulator's own ledger: what really moved."""
    assert sorted((one["phone"], one["amount_cents"]) for one in deployed.payments()) == [
        ("254712000001", 47_500),
        ("254733000003", 31_600),
        ("254799200016", 15_800),
    ]
    assert {item["status"] for item in deployed.items("rain").values()} == {"COMPLETED"}


def act_out_by_itself() -> dict[str, str]:
    """The same in a folder of its own, for whoever writes the page anew."""
    with tempfile.TemporaryDirectory() as folder, forking() as forker:
        deployed = DeploymentHarness(Path(folder), f"sqlite:///{folder}/kasoko.db", forker)
        try:
            return act_out(deployed)
        finally:
            deployed.close()
