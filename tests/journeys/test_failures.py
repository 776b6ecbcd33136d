"""Each failure of the handbook: what is read stands there, and what is typed then leads where the page says.

The commands are taken from the page, one after another as they stand in its line. Five of its lines are acted
out by the story of the same page, and two are what a busy database says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.journeys.pages import Reader
from tests.test_docs import ROOT, without_blocks

#: Lines of the page that are acted out elsewhere, and where.
ELSEWHERE = {
    "the initiator's name, password or certificate is wrong": "journeys/story.py",
    "the utility account has too little money": "journeys/story.py",
    "The float is short by KES": "journeys/story.py",
    "Unknown is not failed.": "journeys/story.py",
    "it cannot succeed to the same number": "journeys/story.py",
    "Another process has kept the database": "store/test_database.py",
    "Another process changed the same rows of": "store/test_database.py",
    "Another session has kept locked what this needs of": "store/test_server.py",
}
#: Lines that no test brings about by their words; `tests/test_docs.py` finds the words in the program.
ONLY_COMPARED = {
    "A message did not arrive at",
    "and nobody is here to confirm it.",
    "is a replica, or one that takes no writes now",
    "our shortcode may not make B2C payments",
    "the initiator may not start B2C payments",
}
TESTS = Path(__file__).parents[1]
#: The one payout that each failure is about, whose it is, and numbers that the simulator has something for.
KAMAU = "rain.1.7"
FINE, LOCKED, NEVER_TAKEN = "0712000106", "0799008006", "0799100013"
NO_RESULT, OTHER_AMOUNT = "0799300001", "0799300008"
PAY = ("payout", "--only", KAMAU, "--yes")


def failures() -> dict[str, list[str]]:
    """The commands of each line of the page, by the words that are read."""
    page = without_blocks((ROOT / "docs" / "operate" / "troubleshooting.md").read_text())
    found = {}
    for line in re.findall(r'^- (\*"(?:.|\n)*?)(?=^- |^$)', page, re.MULTILINE):
        text = " ".join(line.split())
        [words] = re.findall(r'^\*"([^"]+)"\*', text)
        found[words] = re.findall(r"`(kasoko [^`]+)`", text)
    return found


@dataclass(frozen=True)
class Scene:
    """One failure: what causes it, what is done outside of kasoko before a command of the page, and how it ends."""

    #: What is typed, and its exit code.
    types: tuple[str, ...]
    code: int
    ends: str
    before: Callable[[Reader], None] = lambda reader: None
    #: What mends it, before the page's first command.
    mend: Callable[[Reader], None] = lambda reader: None
    #: Words that a command of the page needs besides, and codes other than 0, by how it begins.
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    codes: Mapping[str, int] = field(default_factory=dict)
    #: What is typed at the end, where the page says "the same command again".
    then: str = ""


def number(phone: str) -> Callable[[Reader], None]:
    """Kamau has this number."""

    def set_phone(reader: Reader) -> None:
        reader.deployed.run("user", "set-phone", "kamau", phone, "--yes")

    return set_phone


def wrong_key(reader: Reader) -> None:
    reader.environ["MPESA_CONSUMER_KEY"] = "not-the-one"


def right_key(reader: Reader) -> None:
    del reader.environ["MPESA_CONSUMER_KEY"]


def asked_often(reader: Reader) -> None:
    """The connection broke, and M-Pesa has said three times that it knows of nothing."""
    number(NEVER_TAKEN)(reader)
    reader.deployed.run(*PAY, code=7)
    for _ in range(2):
        reader.deployed.run("reconcile", "--now", code=7)


def nobody_there(reader: Reader) -> None:
    """There is an access token, and then nobody answers any more."""
    reader.deployed.run("float", "--listen")
    assert reader.running is not None
    reader.running.stop()


def there_again(reader: Reader) -> None:
    assert reader.simulator is not None
    reader.running = reader.simulator.start(port=int(reader.deployed.daraja_url.rpartition(":")[2]))


def paused(reader: Reader) -> None:
    reader.deployed.run("pause", "--reason", "the float is being moved", "--yes")


def stopped(reader: Reader) -> None:
    number(LOCKED)(reader)
    reader.deployed.run(*PAY, "--listen", code=6)


def no_database(reader: Reader) -> None:
    file = reader.deployed.folder / "kasoko.db"
    file.rename(file.with_name("away.db"))
    file.write_text("this is no database, and longer than a header of one " * 20)


def database_again(reader: Reader) -> None:
    folder = reader.deployed.folder
    (folder / "away.db").replace(folder / "kasoko.db")


def contradicted(reader: Reader) -> None:
    """The result came with another amount than was sent."""
    number(OTHER_AMOUNT)(reader)
    reader.deployed.run(*PAY, "--listen", "--listen-seconds", "5", code=None)


LISTENING = {"kasoko retry-failed": ("--listen",), "kasoko payout --only": ("--listen",)}
SCENES = {
    "the initiator's password is locked": Scene((*PAY, "--listen"), 6, "FAILED", before=number(LOCKED)),
    "gives no access token": Scene(PAY, 3, "COMPLETED", wrong_key, right_key, then=f"kasoko payout --only {KAMAU}"),
    "does not say how": Scene(
        ("reconcile", "--now"),
        7,
        "FAILED",
        before=asked_often,
        more={"kasoko payout decide": ("--not-paid", "--evidence", "the portal", "--reason", "it is not there")},
    ),
    "cannot connect": Scene(PAY, 6, "PENDING", nobody_there, there_again),
    "M-Pesa posts their results to kasoko listen.": Scene(PAY, 0, "SENT", number(NO_RESULT)),
    "Sending is paused by": Scene(PAY, 5, "COMPLETED", paused, then=f"kasoko payout --only {KAMAU}"),
    "Sending stopped at": Scene(PAY, 6, "FAILED", stopped, number(FINE)),
    "What is known of a payout contradicts itself": Scene(("reconcile", "--no-listen"), 7, "SENT", contradicted),
    "cannot be used": Scene(PAY, 3, "COMPLETED", no_database, database_again, then=f"kasoko payout --only {KAMAU}"),
}


def test_every_failure_of_the_page_is_acted_out_here_or_brought_about_by_a_test() -> None:
    assert {*SCENES, *ELSEWHERE, *ONLY_COMPARED} <= set(failures())
    for words, file in ELSEWHERE.items():
        assert (TESTS / file).exists(), words
    tests = [" ".join(file.read_text().split()) for file in TESTS.rglob("test_*.py") if file != Path(__file__)]
    left = set(failures()) - {*SCENES, *ELSEWHERE, *ONLY_COMPARED}
    assert sorted(words for words in left if not any(words.strip(".") in test for test in tests)) == []


@pytest.mark.parametrize("words", [pytest.param(words, id=words) for words in SCENES])
def test_what_the_page_says_to_type_leads_on(words: str, reader: Reader) -> None:
    scene = SCENES[words]
    reader.more, reader.codes = {**LISTENING, **scene.more}, dict(scene.codes)
    scene.before(reader)
    done = reader.deployed.run(*scene.types, code=scene.code, **reader.environ)
    assert words in " ".join(f"{done.out} {done.err}".split())
    scene.mend(reader)
    for command in failures()[words]:
        reader.types(command.replace("PAYOUT", KAMAU))
    if scene.then:
        reader.types(scene.then)
    status = reader.deployed.ask("payout", "show", KAMAU)["payout"]["status"]
    assert status == scene.ends
