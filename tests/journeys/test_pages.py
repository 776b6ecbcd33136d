"""Every command line that README and the pages show is run, as it stands there.

A new block is run in a deployment with a settled market `rain` without anybody saying so; what it needs besides is a
function of `PREPARED`, under its page and its number on it. A line that cannot be run says why above its block.
"""

from __future__ import annotations

import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from openpyxl import Workbook

from tests.journeys.pages import KINDS, PAGES, Block, Reader, blocks_of, move_in, other_blocks
from tests.test_docs import ACTED, PART, ROOT, page_id

#: Pages with a world of their own: a Redis, a platform on PostgreSQL.
ELSEWHERE = {"docs/celery.md": "test_celery.py", "docs/django.md": "test_platform.py"}

Prepare = Callable[[Reader], None]


# --- What a block takes for granted --------------------------------------------------------------


def empty(reader: Reader) -> None:
    """An empty folder; the port of the page may be taken on this machine."""
    for file in reader.deployed.folder.iterdir():
        file.unlink()
    reader.more = {"kasoko simulator": ("--port", "0")}


def by_hand(reader: Reader) -> None:
    """The other terminal: the first one has just made the settings, and runs the simulator."""
    empty(reader)
    reader.deployed.furnish()
    assert reader.simulator is not None
    move_in(reader.deployed, reader.simulator, reader.deployed.daraja_url)


def paid(reader: Reader) -> None:
    """Every winner has the money."""
    reader.deployed.run("payout", "rain", "--yes", "--listen")


def resolved(reader: Reader) -> None:
    """The pool is not divided yet."""
    for file in reader.deployed.folder.glob("kasoko.db*"):
        file.unlink()
    shutil.copy(reader.builder / "resolved" / "kasoko.db", reader.deployed.folder)


def to_be_approved(reader: Reader) -> None:
    """Ann divided the pool, and somebody else has to look at it."""
    resolved(reader)
    set_in(reader, "payout", "approval_above_kes = 0")
    reader.hears(reader.deployed.run("settle", "rain", "--yes", "--actor", "ann").out)
    # The first line asks whoever has read the plan, and here nobody is there to answer.
    reader.codes |= {"kasoko approve rain --yes": 0, "kasoko approve rain": 2}


def restored(reader: Reader) -> None:
    """Three were paid since the copy was taken; M-Pesa is asked once more soon."""
    settings = reader.deployed.folder / "kasoko.toml"
    settings.write_text(f"{settings.read_text()}\n[reconcile]\nconfirm_negative_seconds = 1\n")
    reader.deployed.run("db", "backup", "kasoko-2026-11-23.db")
    reader.deployed.run("payout", "rain", "--limit", "3", "--yes", "--listen", code=10)


def keeping_a_year(reader: Reader) -> None:
    """A setting says how long results are kept."""
    settings = reader.deployed.folder / "kasoko.toml"
    settings.write_text(f"{settings.read_text()}\n[privacy]\nkeep_days = 365\n")


def to_be_corrected(reader: Reader) -> None:
    """Money has left, and ann has said that the outcome is another."""
    paid(reader)
    words = ("resolve", "rain", "No", "--override", "--reason", "the gauge was read wrongly")
    reader.hears(reader.deployed.run(*words, "--yes", "--actor", "ann", code=10).out)


def owed_back(reader: Reader) -> None:
    """A second person has agreed, and kamau has money of his own in the wallet."""
    to_be_corrected(reader)
    reader.types("kasoko resolve rain No --override --confirm 3f0c9a1d5b7e2244 --actor ben --reason 'checked it'")
    reader.deployed.run("wallet", "deposit", "kamau", "200", "--reference", "D1", "--yes")


def files_of_each_kind(reader: Reader) -> None:
    reader.deployed.run("export", "bets", "--output", "bets.ndjson")
    book = Workbook()
    for row in (["User ID", "Full Name", "Mobile No"], ["lena", "Lena Akinyi", 722000777]):
        book.worksheets[0].append(row)
    book.save(reader.deployed.folder / "members.xlsx")
    reader.codes["kasoko import users members.xlsx --plan"] = 5


def with_password(reader: Reader) -> None:
    """What Safaricom's operator types unseen."""
    reader.stdin = "Simulator999#\n"


def paused(reader: Reader) -> None:
    """The initiator's password is being renewed."""
    reader.deployed.run("pause", "--reason", "the password is renewed")


def of_the_staff(reader: Reader) -> None:
    """The market of the page is another one here; one payout is sent of several."""
    reader.here["staff"] = "rain"
    reader.codes["kasoko payout staff --limit 1"] = 10


def posted(reader: Reader) -> None:
    """Results were taken in; the page looks at the last of them."""
    paid(reader)
    reader.here[" 17"] = " 8"


def with_codes(reader: Reader) -> None:
    """Wanjiku has her code: it follows from the key, so it is the same in every proof of the settlement."""
    reader.deployed.run("report", "proof", "rain", "--output", "first.json", "--codes", "first.csv")
    [code] = re.findall(r"\bwanjiku:[A-Z2-7]{16}\b", (reader.deployed.folder / "first.csv").read_text())
    reader.here["wanjiku:ABCDEFGHIJKLMNOP"] = code


def to_be_forgotten(reader: Reader) -> None:
    """Who is owed nothing any more can be forgotten: zoe, who lost."""
    reader.here["wanjiku"] = "zoe"


def sent(reader: Reader) -> None:
    """Everything was sent, and nobody was there to hear how it ended."""
    reader.deployed.run("payout", "rain", "--yes")


def swallowed(reader: Reader) -> None:
    """The network swallowed a request; the times of the page are around now."""
    reader.deployed.run("user", "set-phone", "wanjiku", "254799100015", "--yes")
    reader.deployed.run("payout", "rain", "--yes", code=7)
    reader.here |= {
        "2026-11-23T09:00:00+03:00": "2020-01-01T00:00:00+03:00",
        "2026-11-23T09:10:00+03:00": "2099-01-01T00:00:00+03:00",
    }


def with_statement(reader: Reader) -> None:
    """M-Pesa's statement has a top-up and a payment that nothing here explains."""
    settings = (reader.deployed.folder / ".env").read_text()
    [shortcode] = re.findall(r"^MPESA_PAYBILL=(\d+)", settings, re.MULTILINE)
    reader.deployed.write(
        "utility-2026-11-23.csv",
        f"Short Code:,{shortcode}\n"
        "Receipt No.,Completion Time,Initiation Time,Details,Transaction Status,Paid In,Withdrawn,Balance,"
        "Balance Confirmed,Reason Type,Other Party Info,Linked Transaction ID,A/C No.\n"
        "UKN1A2B3C4,2026-11-23 10:00:00,2026-11-23 10:00:00,Business Payment to 2547****0106,Completed,,100.00,"
        "4900.00,true,Business Payment to Customer,2547****0106 - KAMAU,,\n"
        "UKT1A2B3C4,2026-11-23 09:00:00,2026-11-23 09:00:00,Funds transfer,Completed,5000.00,,"
        "5000.00,true,Organization Settlement,,,\n",
    )
    reader.codes["kasoko reconcile --statement"] = 8


def in_suspense(reader: Reader) -> None:
    with_statement(reader)
    reader.deployed.run("reconcile", "--statement", "utility-2026-11-23.csv", "--yes", code=8)


def taxed(reader: Reader) -> None:
    """The settlement kept back a tenth of each winner's profit, by the made-up rules of the example."""
    resolved(reader)
    shutil.copy(ROOT / "kasoko_cli" / "duties.example.toml", reader.deployed.folder / "duties.toml")
    set_in(reader, "payout", 'duties_file = "duties.toml"')
    reader.deployed.run("settle", "rain", "--yes")


def of_this_machine(reader: Reader) -> None:
    """The units call a program and a user that this machine has, or systemd would miss them."""
    reader.more["kasoko units print"] = ("--program", sys.executable, "--user", "root")


def set_in(reader: Reader, table: str, line: str) -> None:
    """One more setting."""
    settings = reader.deployed.folder / "kasoko.toml"
    settings.write_text(settings.read_text().replace(f"[{table}]\n", f"[{table}]\n{line}\n"))


def alert_address(reader: Reader) -> None:
    """An address that takes what is posted to it, in place of mail and chat."""

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Takes)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    theirs = "mailtos://user:password@mail.example.org?to=ops@example.org tgram://token/chat"
    reader.here[theirs] = f"json://127.0.0.1:{server.server_port}"


PREPARED: dict[tuple[str, int], Prepare] = {
    ("README.md", 4): empty,
    ("README.md", 5): by_hand,
    ("docs/alerts.md", 1): alert_address,
    ("docs/backup.md", 2): restored,
    ("docs/before-a-run.md", 2): resolved,
    ("docs/before-a-run.md", 3): to_be_approved,
    ("docs/corrections.md", 2): to_be_corrected,
    ("docs/corrections.md", 3): owed_back,
    ("docs/corrections.md", 4): paid,
    ("docs/files.md", 1): files_of_each_kind,
    ("docs/go-live.md", 1): with_password,
    ("docs/go-live.md", 2): of_the_staff,
    ("docs/listener.md", 1): posted,
    ("docs/operate/password-renewal.md", 2): with_password,
    ("docs/operate/password-renewal.md", 3): paused,
    ("docs/operate/password-renewal.md", 4): paused,
    ("docs/proof.md", 2): with_codes,
    ("docs/proof.md", 3): to_be_forgotten,
    ("docs/results.md", 1): sent,
    ("docs/results.md", 2): swallowed,
    ("docs/running.md", 3): keeping_a_year,
    ("docs/running.md", 4): of_this_machine,
    ("docs/statement.md", 1): with_statement,
    ("docs/statement.md", 2): in_suspense,
    ("docs/statement.md", 3): in_suspense,
    ("docs/taxes.md", 1): taxed,
    ("docs/simulator.md", 1): empty,
}


def wanjiku_alone_was_paid(reader: Reader) -> None:
    [payment] = reader.deployed.payments()
    assert payment["phone"] == "254712345678"


def everybody_was_paid_once(reader: Reader) -> None:
    assert len({payment["phone"] for payment in reader.deployed.payments()}) == len(reader.deployed.payments()) == 8


#: What has to be so once the lines were typed.
AFTERWARDS: dict[tuple[str, int], Callable[[Reader], None]] = {
    ("README.md", 5): wanjiku_alone_was_paid,
    ("docs/backup.md", 2): everybody_was_paid_once,
    ("docs/listener.md", 2): everybody_was_paid_once,
}

#: Blocks whose lines are one or the other, each in a deployment of its own.
APART = {("docs/results.md", 1)}


def cases() -> Iterator[Block]:
    """Each block whose lines are run one after another, but for those that are run elsewhere."""
    for page in PAGES:
        for block in blocks_of(page):
            if (page_id(page), block.number) in APART:
                yield from (replace(block, lines=(line,)) for line in block.lines)
            elif page_id(page) not in ELSEWHERE:
                yield block


@pytest.mark.parametrize("block", [pytest.param(block, id=str(block)) for block in cases()])
def test_the_lines_of_a_page_run_one_after_another(block: Block, reader: Reader) -> None:
    if block.excuse is not None:
        kind, _, why = block.excuse.partition(": ")
        assert kind in KINDS
        assert len(why.split()) > 3, "the reason is for whoever reads the page's source"
        return
    place = (page_id(block.page), block.number)
    if place in PREPARED:
        PREPARED[place](reader)
    reader.reads(block)
    if place in AFTERWARDS:
        AFTERWARDS[place](reader)


def test_what_is_prepared_for_a_block_belongs_to_one() -> None:
    there = {(page_id(page), block.number) for page in PAGES for block in blocks_of(page)}
    assert {*PREPARED, *AFTERWARDS, *APART} <= there


def test_a_page_whose_lines_are_run_elsewhere_is_read_there() -> None:
    for page, module in ELSEWHERE.items():
        assert f'read_page("{page}"' in (Path(__file__).parent / module).read_text()


def test_no_block_of_another_language_shows_something_to_type() -> None:
    """But for the scenes of the handbook, which a story acts out, and what systemd starts."""
    for page in PAGES:
        acted = [text for _, name, text, _ in PART.findall(page.read_text()) if name in ACTED]
        for language, text in other_blocks(page):
            if language == "ini" or any(text in scene for scene in acted):
                continue
            typed = [line for line in text.splitlines() if re.match(r"(\$ |[\w./-]*/)?kasoko |\$ ", line)]
            assert typed == [], f"{page_id(page)} has a command in a block of {language or 'no language'}"
