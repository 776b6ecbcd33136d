"""`kasoko import` and `kasoko export`, as an operator meets them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Kasoko, environment

DATA = Path(__file__).parents[1] / "data"
USERS = "user_id,name,phone\nann,Ann Auma,0712345678\nben,Ben Müller,+254 722 000 111\n"
MARKETS = "market_id,slug,question,outcomes,closes_at,fee_bps\nm1,rain,Will it rain?,Yes|No,2099-12-01T15:00:00Z,500\n"
HEADER = "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at\n"
BETS = (
    HEADER + "b1,m1,ann,Yes,100,2026-11-20T09:00:00Z,\nb2,m1,ben,No,48.50,2026-11-20T09:00:00Z,2026-11-21T09:00:00Z\n"
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a database of two users and an open market, and files."""
    folder = tmp_path_factory.mktemp("town")
    (folder / "users.csv").write_text(USERS)
    (folder / "markets.csv").write_text(MARKETS)
    (folder / "bets.csv").write_text(BETS)
    for words in (["init"], ["import", "users", "users.csv"], ["import", "markets", "markets.csv"]):
        subprocess.run(
            [sys.executable, "-m", "kasoko_cli", *words], cwd=folder, env=environment(), check=True, timeout=60
        )
    return folder


@pytest.fixture
def builder(kasoko: Kasoko, tmp_path: Path, prepared: Path) -> Kasoko:
    """The program in a copy of that folder."""
    shutil.copytree(prepared, tmp_path, dirs_exist_ok=True)
    return kasoko


def test_the_operators_files_import_twice_and_say_what_is_new(kasoko: Kasoko) -> None:
    kasoko("init")
    told = [
        kasoko("import", kind, str(DATA / f"{kind}.csv")).stdout
        for _ in range(2)
        for kind in ("users", "markets", "bets")
    ]
    assert told == [
        "1,200 users: 1,200 new, 0 known\n",
        "7 markets: 7 new, 0 known\n",
        "4,030 bets: 4,030 new, 0 known; KES 3,999,231.02 staked, 43 cancelled\n",
        "1,200 users: 0 new, 1,200 known\n",
        "7 markets: 0 new, 7 known\n",
        "4,030 bets: 0 new, 4,030 known\n",
    ]
    assert kasoko("audit").returncode == 0


def test_a_copy_that_is_put_back_says_that_who_was_erased_since_is_in_it_again(builder: Kasoko) -> None:
    assert builder("db", "backup", "copy.db", "--no-audit").returncode == 0
    done = builder("db", "restore", "copy.db", "--replace", "--yes", "--reason", "the disk died")
    assert done.returncode == 0
    assert "Whoever was erased since the copy is here again. Erase them anew: kasoko user erase USER" in done.stderr


def test_json_tells_programs_the_same(builder: Kasoko, tmp_path: Path) -> None:
    done = builder("import", "bets", "bets.csv", "--json")
    answer = json.loads(done.stdout)
    assert len(answer.pop("sha256")) == 64
    assert answer == {
        "kind": "bets",
        "file": "bets.csv",
        "new": 2,
        "known": 0,
        "stake_cents": 14850,
        "cancelled": 1,
        "notes": [],
    }
    assert done.stderr == ""
    written = builder("export", "bets", "--output", "out.jsonl", "--json")
    assert json.loads(written.stdout) == {"kind": "bets", "rows": 2, "file": "out.jsonl"}
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 2


def test_a_bad_file_is_refused_with_every_bad_line(builder: Kasoko, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text(BETS + "b3,m1,ann,Maybe,0,2026-11-20T09:00:00Z,\nb4,m1,cyn,No,1,today,\n")
    refused = builder("import", "bets", "bad.csv")
    assert refused.returncode == 5
    assert refused.stdout == ""
    assert refused.stderr == (
        "Error: bad.csv was refused for 4 problems; nothing was changed.\n"
        "  line 4, outcome: 'Maybe' is not an outcome of rain. Its outcomes are: Yes, No\n"
        "  line 4, stake_kes: The stake '0' is nothing: a bet needs at least one cent. Write a stake of 0.01 or more.\n"
        "  line 5, user_id: There is no user 'cyn'. Import the users first.\n"
        "  line 5, placed_at: 'today' is not a time. Write it like 2026-11-20T15:00:00Z or 2026-11-20T18:00:00+03:00.\n"
        "Hint: Mend the file and import the whole of it again: what stands already is not taken twice.\n"
    )
    assert builder("export", "bets").stdout == HEADER


def test_json_names_every_problem_and_people_see_the_first(builder: Kasoko, tmp_path: Path) -> None:
    rows = "".join(f"b{n},m1,ann,Yes,-5,2026-11-20T09:00:00Z,\n" for n in range(30))
    (tmp_path / "bad.csv").write_text(HEADER + rows)
    refused = builder("import", "bets", "bad.csv", "--json")
    assert refused.returncode == 5
    problems = json.loads(refused.stdout)["problems"]
    assert len(problems) == 30
    assert problems[29] == {
        "line": 31,
        "column": "stake_kes",
        "what": "The stake '-5' is not an amount in shillings. It is below zero. Write it with"
        " digits, and at most two decimals after a"
        " point: 150 or 48.50",
    }
    error = json.loads(refused.stderr)["error"]
    assert (error["kind"], error["exit_code"]) == ("file_refused", 5)
    shown = builder("import", "bets", "bad.csv").stderr.splitlines()
    assert len(shown) == 23
    assert shown[-2] == "  and 10 more."
    assert shown[-1].endswith(" See every problem: --json")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "line 1: The file is empty."),
        (b"bet_id,market_id,user_id,outcome,placed_at,cancelled_at\n", "line 1, stake_kes: The column is missing."),
        (
            HEADER.encode() + b"b1,m1,ann,Yes,1\xff,2026-11-20T09:00:00Z,\n",
            "line 2: It is not UTF-8: byte 0xff at place",
        ),
        (HEADER.encode() + b"b1,m1\n", "line 2: It has 2 fields, and the header names 7."),
    ],
    ids=["empty", "a missing column", "not UTF-8", "ragged"],
)
def test_a_file_of_another_kind_is_refused(builder: Kasoko, tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "bad.csv").write_bytes(content)
    refused = builder("import", "bets", "bad.csv")
    assert refused.returncode == 5
    assert told in refused.stderr


def test_a_plan_shows_how_a_file_is_read_and_writes_nothing(builder: Kasoko, tmp_path: Path) -> None:
    rows = "Bet No;Event;User ID;Outcome;Stake (KES);Placed At;Agent\nb1;rain;ann;yes;1,500;25/11/2026 12:00;K1\n"
    (tmp_path / "theirs.csv").write_text(rows)
    words = ("import", "bets", "theirs.csv", "--map", "bet_id=Bet No", "--map", "market_id=Event")
    plan = builder(*words, "--plan")
    assert plan.returncode == 0
    assert plan.stdout == (
        "file\ttheirs.csv\nread as\tcsv, parted by semicolons, UTF-8\nbet_id\tcolumn 'Bet No'\n"
        "market_id\tcolumn 'Event'\nuser_id\tcolumn 'User ID'\noutcome\tcolumn 'Outcome'\n"
        "stake_kes\tcolumn 'Stake (KES)'\nplaced_at\tcolumn 'Placed At'\n"
        "bet_id\tmarket_id\tuser_id\toutcome\tstake_kes\tplaced_at\tcancelled_at\tfunding\n"
        "b1\tm1\tann\tYes\t1500.00\t2026-11-25 12:00 EAT\t\tcollected\n"
        "1 bet: 1 new, 0 known; KES 1,500.00 staked, 0 cancelled, 0 problems; nothing was written.\n"
    )
    assert plan.stderr == (
        "1 column not read: 'Agent'\nDates were read as day/month/year, since some can be nothing else.\n"
        "1 time without an offset: read as Africa/Nairobi time. For another: --timezone ZONE\n"
    )
    assert json.loads(builder(*words, "--plan", "--json").stdout)["understood"]["dates"] == "dmy"
    assert builder("export", "bets").stdout == HEADER
    assert builder(*words, "--plan", "--dates", "mdy").returncode == 5
    assert builder(*words, "--quiet").stderr == ""
    assert "2026-11-25T09:00:00Z" in builder("export", "bets").stdout


def test_how_files_are_read_is_remembered_in_the_settings(builder: Kasoko, tmp_path: Path) -> None:
    settings = tmp_path / "kasoko.toml"
    text = settings.read_text().replace('timezone = "Africa/Nairobi"', 'timezone = "UTC"')
    text = text.replace('dates = ""', 'dates = "dmy"').replace(
        "columns = []", 'columns = ["bet_id=Bet No", "phone=Tel"]'
    )
    settings.write_text(text)
    (tmp_path / "theirs.csv").write_text(
        "Bet No,market_id,user_id,outcome,stake_kes,placed_at\nb1,m1,ann,Yes,1,05/11/2026 12:00\n"
    )
    assert builder("import", "bets", "theirs.csv").returncode == 0
    assert "2026-11-05T12:00:00Z" in builder("export", "bets").stdout
    refused = builder("import", "bets", "theirs.csv", "--map", "bet=Bet No")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        5,
        "Error: --map 'bet=Bet No' names no column of such a file; nothing was changed.",
    )
    assert builder("import", "bets", "theirs.csv", "--timezone", "Nairobi").returncode == 5


def test_a_number_of_an_unknown_block_is_taken_where_the_hint_says_so(builder: Kasoko) -> None:
    refused = builder("user", "add", "cyn", "Cyn", "0160123456")
    assert refused.returncode == 5
    assert refused.stderr.rstrip().endswith("take it all the same: --any-block")
    assert builder("user", "add", "cyn", "Cyn", "0160123456", "--any-block").returncode == 0
    assert builder("user", "set-phone", "cyn", "0160123457", "--any-block").returncode == 0


def test_a_file_that_is_not_there_is_not_found(builder: Kasoko) -> None:
    missing = builder("import", "users", "none.csv")
    assert missing.returncode == 4
    assert missing.stderr == (
        "Error: There is no file none.csv; nothing was changed.\nHint: Check the name; `-` reads from a pipe.\n"
    )


def test_a_name_without_an_ending_needs_a_format(builder: Kasoko, tmp_path: Path) -> None:
    (tmp_path / "users.dat").write_text(USERS)
    for words in (["users.dat"], ["-"]):
        wrong = builder("import", "users", *words, stdin=USERS)
        assert wrong.returncode == 2
        assert "does not end in .csv, .tsv, .xlsx, .jsonl or .ndjson. Say what it is: --format csv." in wrong.stderr
    assert builder("import", "users", "users.dat", "--format", "csv").stdout == "2 users: 0 new, 2 known\n"
    assert builder("import", "users", "-", "--format", "csv", stdin=USERS).stdout == "2 users: 0 new, 2 known\n"


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has no file names that are not UTF-8")
def test_a_file_whose_name_is_not_utf8_is_taken_in(builder: Kasoko, tmp_path: Path) -> None:
    name = os.fsdecode(b"zo\xeb.csv")
    (tmp_path / name).write_text("user_id,name,phone\nzoe,Zoe,0733000111\n")
    assert json.loads(builder("import", "users", name, "--json").stdout)["file"] == "zo\\udceb.csv"


def test_where_there_is_no_database_no_file_is_begun(kasoko: Kasoko, tmp_path: Path) -> None:
    assert kasoko("export", "users", "--output", "users.csv").returncode == 3
    assert list(tmp_path.glob("*users*")) == []


def test_a_pipe_from_one_kasoko_to_another_changes_nothing(builder: Kasoko) -> None:
    exported = builder("export", "users", "--show-phone")
    assert exported.stdout == ("user_id,name,phone\nann,Ann Auma,254712345678\nben,Ben Müller,254722000111\n")
    assert exported.stderr == "2 users\n"
    assert (
        builder("import", "users", "-", "--format", "csv", stdin=exported.stdout).stdout == "2 users: 0 new, 2 known\n"
    )


def test_a_masked_export_is_refused_and_says_why(builder: Kasoko, tmp_path: Path) -> None:
    assert builder("export", "users", "-o", "masked.csv").stdout == "2 users written to masked.csv\n"
    assert "2547****5678" in (tmp_path / "masked.csv").read_text()
    refused = builder("import", "users", "masked.csv")
    assert refused.returncode == 5
    assert (
        "line 2, phone: The phone is masked, and a masked phone cannot be paid. Export the users with --show-phone."
        in (refused.stderr)
    )


def test_only_a_file_with_whole_phones_is_kept_from_others(builder: Kasoko, tmp_path: Path) -> None:
    mask = os.umask(0o022)
    os.umask(mask)
    builder("export", "users", "--output", "masked.csv")
    builder("export", "users", "--output", "whole.csv", "--show-phone")
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("masked.csv", "whole.csv")]
    assert modes == [0o666 & ~mask, 0o600]


def test_json_and_records_do_not_share_stdout(builder: Kasoko) -> None:
    wrong = builder("export", "users", "--json")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "Add --output, or use --format jsonl." in wrong.stderr


def test_stakes_come_from_wallets_if_they_are_told_to(builder: Kasoko) -> None:
    refused = builder("import", "bets", "bets.csv", "--funding", "wallet")
    assert refused.returncode == 5
    assert "line 2, stake_kes: The wallet of ann has KES 0.00 left, and the stake is KES 100.00." in refused.stderr
    for user in ("ann", "ben"):
        assert builder("wallet", "deposit", user, "100", "--reference", f"R{user}").returncode == 0
    assert builder("import", "bets", "bets.csv", "--funding", "wallet").returncode == 0
    assert builder("audit").returncode == 0


def test_a_terminal_is_shown_no_direction_characters(
    builder: Kasoko, kasoko_on_a_terminal: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    """No import lets one in; somebody wrote it into the database by other means."""
    with contextlib.closing(sqlite3.connect(tmp_path / "kasoko.db")) as connection, connection:
        connection.execute("UPDATE users SET name = 'Ann\u202eAuma\u001b[31m' WHERE id = 'ann'")
    code, shown = kasoko_on_a_terminal("export", "users")
    assert code == 0
    assert "ann,Ann\\u202eAuma\\x1b[31m,2547****5678" in shown
    assert "ann,Ann\u202eAuma\u001b[31m,2547****5678" in builder("export", "users").stdout


def test_whoever_stops_reading_an_export_sees_no_error(builder: Kasoko, tmp_path: Path) -> None:
    builder("import", "users", str(DATA / "users.csv"))
    shell = f"{sys.executable} -m kasoko_cli export users | head -1"
    done = subprocess.run(
        ["/bin/sh", "-c", shell],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "user_id,name,phone\n"
    assert "Error" not in done.stderr


@pytest.mark.parametrize("kind", ["users", "markets", "bets"])
def test_the_help_of_each_import_names_its_columns_an_example_and_the_exit_codes(kasoko: Kasoko, kind: str) -> None:
    text = kasoko("import", kind, "--help", COLUMNS="80").stdout
    columns = {"users": USERS, "markets": MARKETS, "bets": BETS}[kind].splitlines()[0]
    assert columns in text
    assert f"kasoko import {kind} {kind}.csv" in text
    assert "Exit codes\n  0  done\n  4  no such file\n  5  refused: every bad line is named\n" in text
