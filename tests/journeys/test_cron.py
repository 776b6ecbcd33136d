"""Under cron: silence when all went as it should, and otherwise a few lines that somebody can act on.

Real processes with pipes on both ends, as cron starts them; the crontab is the one that `kasoko help cron` shows.
"""

from __future__ import annotations

import re
import shlex

import pytest

from kasoko_cli.cli.help.topics import CRON
from tests.journeys.deployment_harness import PAY_FAST, DeploymentHarness, Done
from tests.test_docs import CALLED, ROOT

#: Of the simulator's table: M-Pesa refuses the number at once, and a connection that closes with the request taken.
REFUSED, TAKEN_UNSAID = "0799100001", "0799200016"
#: M-Pesa says each time that it is asked too often, and takes nothing.
BUSY_THERE = "0799100003"
FINE = "0712000111"


def crontab() -> list[list[str]]:
    """The words of each job."""
    jobs = [CALLED.findall(line) for line in CRON.splitlines() if "* * *" in line]
    return [shlex.split(job) for [job] in jobs]


def mail(done: Done) -> str:
    """What cron would send of it; empty for no mail."""
    return done.out + done.err


@pytest.fixture
def office(bare: DeploymentHarness) -> DeploymentHarness:
    """A deployment with a simulator and nothing to do, in which results are kept for a year."""
    bare.furnish(f"{PAY_FAST}\n[privacy]\nkeep_days = 365")
    bare.start_simulator()
    return bare


def test_a_day_on_which_all_goes_well_sends_no_mail(office: DeploymentHarness) -> None:
    office.start_listener()
    assert [mail(office.run(*job)) for job in crontab()] == [""] * 6
    office.open_market("rain", "Yes", "No", stakes=[("ann", FINE, "Yes", "100"), ("ben", "0712000222", "No", "50")])
    office.settle("rain", "Yes")
    assert mail(office.run("payout", "-y", "-q", "--max-seconds", "240")) == ""
    office.until_final("rain")
    assert office.items("rain")["ann"]["status"] == "COMPLETED"
    assert [mail(office.run(*job)) for job in crontab()] == [""] * 6


def test_a_run_that_needs_somebody_says_who_how_much_and_what_to_type(office: DeploymentHarness) -> None:
    office.open_market(
        "rain",
        "Yes",
        "No",
        stakes=[
            ("ann", FINE, "Yes", "100"),
            ("ben", REFUSED, "Yes", "100"),
            ("cyn", TAKEN_UNSAID, "Yes", "100"),
            ("dan", "0712000222", "No", "60"),
        ],
    )
    office.settle("rain", "Yes")
    done = office.run("payout", "-y", "-q", "--max-seconds", "240", code=None)
    assert done.code == 7
    assert done.out.startswith("kasoko: of 3 payouts in this run, 2 need a look.\n")
    assert re.search(r"FAILED, KES 114\.00, which did not move:\n  rain\.1\.\d  KES 114\.00  \S", done.out)
    assert re.search(r"UNKNOWN, KES 114\.00, which may have moved:\n  rain\.1\.\d  KES 114\.00  \S", done.out)
    # One next command: once what is unknown is known, reconcile itself names what the failures need.
    assert [line for line in done.err.splitlines() if line.startswith("Hint:")] == [
        "Hint: Unknown is not failed. Ask M-Pesa how they ended: kasoko reconcile --now"
    ]
    assert len(mail(done).splitlines()) < 10, "a mail is short"

    told = office.run("status", "--check", "-q", code=8)
    assert told.out.startswith("KASOKO CRITICAL - 1 payout failed in the last 60 min; How 1 payout ended is unknown")
    assert re.search(r"\| success=\S+ failed=1 unknown=1 ", told.out)

    # It was asked about once; the next round of the ladder is not yet due, so there is nothing new to say.
    asked = office.run("reconcile", "-q", "--no-listen", "--now", code=7)
    assert "how 1 payout ended is unknown; KES 114.00 may have moved" in asked.out
    assert mail(office.run("reconcile", "-q", "--no-listen", code=7)) == ""


def test_a_pause_and_a_lock_are_nobodys_to_act_on(office: DeploymentHarness) -> None:
    office.run("pause", "--reason", "lunch", "--yes")
    office.open_market("rain", "Yes", "No", stakes=[("ann", FINE, "Yes", "100"), ("ben", "0712000222", "No", "50")])
    office.settle("rain", "Yes")
    assert mail(office.run("payout", "-y", "-q", code=5)) == ""
    assert "Sending is paused" in office.run("payout", "-y", code=5).err, "without --quiet it is said"
    assert "Sending is paused" in office.run("status", "--check", "-q", code=8).out


def test_time_that_is_over_is_no_mail_and_the_next_run_goes_on(office: DeploymentHarness) -> None:
    settings = (office.folder / "kasoko.toml").read_text()
    slowly = settings.replace("rate_per_second = 1000", "rate_per_second = 1").replace(
        "concurrency = 8", "concurrency = 1"
    )
    office.write("kasoko.toml", slowly)
    stakes = [(f"w{n}", f"07120001{n:02d}", "Yes", "100") for n in range(5)]
    office.open_market("rain", "Yes", "No", stakes=[*stakes, ("loser", "0712000999", "No", "50")])
    office.settle("rain", "Yes")
    assert mail(office.run("payout", "-y", "-q", "--max-seconds", "1", code=10)) == ""


def test_what_was_not_taken_and_goes_again_by_itself_is_no_mail(office: DeploymentHarness) -> None:
    office.open_market("rain", "Yes", "No", stakes=[("ann", BUSY_THERE, "Yes", "100"), ("ben", FINE, "No", "50")])
    office.settle("rain", "Yes")
    assert mail(office.run("payout", "-y", "-q", code=6)) == ""
    assert office.items("rain")["ann"]["status"] == "PENDING"


def test_that_mpesa_cannot_be_reached_is_a_mail(office: DeploymentHarness) -> None:
    office.open_market("rain", "Yes", "No", stakes=[("ann", FINE, "Yes", "100"), ("ben", "0712000222", "No", "50")])
    office.settle("rain", "Yes")
    away = re.sub("MPESA_BASE_URL=.*", "MPESA_BASE_URL=http://127.0.0.1:9", (office.folder / ".env").read_text())
    office.write(".env", away)
    assert "gives no access token" in mail(office.run("payout", "-y", "-q", "--max-seconds", "9", code=6))


def test_the_page_and_the_topic_tell_the_same_codes_that_send_no_mail() -> None:
    page = (ROOT / "docs" / "running.md").read_text().split("No mail, although the exit code is not 0:")[1]
    on_the_page = re.findall(r"^- (\d+)", page.split("`kasoko help cron`")[0], re.MULTILINE)
    in_the_topic = re.findall(r"^  (\d+) ", CRON.split("No mail, although")[1].split("In production")[0], re.MULTILINE)
    assert sorted(on_the_page) == sorted(in_the_topic) == ["10", "5", "6", "7", "9"]


def test_a_setting_that_is_missing_is_a_mail(bare: DeploymentHarness) -> None:
    bare.furnish()
    done = bare.run("payout", "-y", "-q", code=3)
    assert "Paying by M-Pesa needs" in done.err


def test_the_audit_is_silent_while_all_holds_and_short_when_not(office: DeploymentHarness) -> None:
    office.open_market("rain", "Yes", "No", stakes=[("ann", FINE, "Yes", "100"), ("ben", "0712000222", "No", "50")])
    office.settle("rain", "Yes")
    assert mail(office.run("audit", "--quiet")) == ""
    import sqlite3

    with sqlite3.connect(office.folder / "kasoko.db") as database:
        database.execute("UPDATE payouts SET amount_cents = amount_cents + 100 WHERE user_id = 'ann'")
    database.close()
    done = office.run("audit", "--quiet", code=8)
    assert done.out.startswith("kasoko: the audit found ")
    assert "kasoko pause --reason" in done.out
    assert re.search(r"^  ann: ", done.out, re.MULTILINE), done.out
    assert "ok" not in done.out.split(), "what holds is not told"
