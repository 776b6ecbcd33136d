"""What is said and asked before money leaves: each refusal whole, each yes bound to what was shown."""

from __future__ import annotations

import json
import re
import shlex

import httpx
import pytest

from tests.cli.conftest import Desk
from tests.operations.account.test_balances import lock_in
from tests.operations.payout_harness import ANN, BEN
from tests.operations.settlement.test_approval import owe

# --- The float -----------------------------------------------------------------------------------


def test_a_short_float_is_refused_to_the_cent_and_nothing_is_sent(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN}, cents=20_000)
    lock_in(desk.harness, "300.50")
    found = desk.run("payout", "derby", "--yes", code=5)
    assert found.stderr == (
        "Error: The float is short by KES 109.50: the run needs KES 410.00 (KES 400.00 to phones, KES 10.00 charges)."
        " M-Pesa's utility account had KES 300.50 at 2026-11-23 12:00 EAT. Nothing was sent.\n"
        "Hint: Put KES 109.50 into the utility account, let kasoko see it: kasoko float --listen, then: kasoko payout."
        " Or send less: kasoko payout --limit N\n"
    )
    assert desk.harness.ledger() == []
    assert desk.run("payout", "derby", "--yes", "--limit", "1", code=10).stderr.startswith("Stopped: as many as")


def test_a_float_that_is_not_known_is_said_and_the_run_goes_on(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    found = desk.run("payout", "derby", "--yes")
    assert found.stderr.startswith("Warning: The float is not known: no balance of M-Pesa was ever read.\n")
    assert len(desk.harness.ledger()) == 1


def test_where_it_is_required_a_float_that_is_not_known_stops_the_run(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    desk.toml = '[payout]\nfloat_check = "require"\n'
    assert desk.run("payout", "--yes", code=5).stderr == (
        'Error: The float is not known: no balance of M-Pesa was ever read. payout.float_check = "require" wants to'
        " know it first. Nothing was sent.\n"
        "Hint: Ask M-Pesa: kasoko float --listen\n"
    )


def test_a_tariff_that_cannot_be_read_stops_the_run_before_it_begins(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN})
    desk.toml = '[payout]\ntariff_file = "ours.toml"\n'
    assert desk.run("payout", "--yes", code=3).stderr == (
        f"Error: Cannot read the tariff {desk.folder}/ours.toml: No such file or directory. Nothing was sent.\n"
        "Hint: Mend payout.tariff_file in kasoko.toml, or leave it empty for the tariff that came along.\n"
    )


def test_the_last_float_is_shown_with_its_age_and_its_place_in_the_books(desk: Desk) -> None:
    assert desk.run("float", "--last").stderr == ("The float is not known: no balance of M-Pesa was ever read.\n")
    lock_in(desk.harness, "5000.00")
    desk.harness.clock.forward(7_300)
    found = desk.run("float", "--last")
    assert found.stdout == (
        "utility account\tKES 5,000.00\n"
        "said at\t2026-11-23 12:00 EAT, 2 hours ago, by a balance query\n"
        "to count on now\tKES 5,000.00\n"
        "in flight\tKES 0.00\n"
        "working account\t-\n"
        "charges account\t-\n"
        "what\tKES\n"
        "utility, in the books\t0.00\n"
        "  not told to kasoko: top-ups, withdrawals, an opening balance, takings on another account\t5,000.00\n"
        "utility, as M-Pesa says\t5,000.00\n"
    )


def test_a_question_that_is_not_answered_in_time_says_so(desk: Desk) -> None:
    found = desk.run("float", "--listen-seconds", "0", code=7)
    assert found.stderr == (
        "The float is not known: no balance of M-Pesa was ever read.\n"
        "Warning: M-Pesa took the question and has not answered yet; it may take minutes, and needs a listener.\n"
        "Hint: Ask again, and let this command take the answer: kasoko float --listen\n"
    )
    desk.harness.deliver()
    assert json.loads(desk.run("float", "--last", "--json").stdout)["float"]["reading"]["said_by"] == "balance query"


def test_the_tariff_is_shown_with_its_date_and_source(desk: Desk) -> None:
    found = desk.run("float", "--tariff", "--json")
    assert json.loads(found.stdout)["valid_from"] == "2023-08-01"
    assert "100\t0\n1,500\t5\n" in desk.run("float", "--tariff").stdout


# --- Bounds and questions ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (
            ("--expect-total", "100"),
            5,
            ("Error: KES 200.00 is due, and not KES 100; nothing was sent.\nHint: See what is due: kasoko payout"
            " --plan\n"),
        ),
        (
            ("--max-total", "199.99"),
            5,
            ("Error: KES 200.00 is due, more than the KES 199.99 that --max-total allows; nothing was sent.\n"
            "Hint: See what is due: kasoko payout --plan. Then send it by hand, or raise the bound.\n"),
        ),
        (
            ("--plan-hash", "0123456789abcdef"),
            5,
            ("Error: What is due is not what the plan 0123456789abcdef showed: it is the plan {plan} now. Nothing was"
            " sent.\nHint: A payout, an amount or a phone changed. Look again: kasoko payout --plan\n"),
        ),
        (
            ("--plan-hash", "0123"),
            2,
            ("Error: --plan-hash takes the 16 hex digits that the plan shows, or all 64 of its --json.\n"
            "Hint: Read how it is used: kasoko payout send --help\n"),
        ),
    ],
)  # fmt: skip
def test_a_run_that_is_not_the_one_that_was_meant_is_refused(
    desk: Desk, words: tuple[str, ...], code: int, told: str
) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    plan = json.loads(desk.run("payout", "--plan", "--json").stdout)["plan_hash"][:16]
    assert desk.run("payout", "--yes", *words, code=code).stderr == told.format(plan=plan)
    assert desk.harness.ledger() == []


def test_a_run_is_bound_to_the_plan_that_was_shown(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    shown = desk.run("payout", "derby", "--plan").stdout
    plan = dict(line.split("\t", 1) for line in shown.splitlines() if line.count("\t") == 1)["plan"]
    desk.run("payout", "derby", "--yes", "--plan-hash", plan)
    assert len(desk.harness.ledger()) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("payout list --status faled", "Error: There is no state 'FALED'. Did you mean FAILED? The states are: "),
        ("approve derby --plan-hash deadbeef", "Error: --plan-hash takes the 16 hex digits"),
        ("help xyz", "Error: There is no topic and no command 'xyz'."),
        ("init --shortcode abc", "Error: daraja.shortcode = 'abc' must be a shortcode of digits only"),
    ],
)
def test_a_word_that_cannot_be_used_points_to_the_help_of_its_own_command(desk: Desk, words: str, told: str) -> None:
    command = words.split(" --")[0].removesuffix(" derby").removesuffix(" xyz")
    said = desk.run(*words.split(), code=2).stderr
    assert said.startswith(told)
    assert said.endswith(f"Hint: Read how it is used: kasoko {command} --help\n")


LARGE = '[daraja]\nproduction = true\nbase_url = "https://daraja.example.org"\n[payout]\nconfirm_slug_above_kes = 150\n'


def test_a_large_sum_of_real_money_needs_more_than_a_yes(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    desk.toml = LARGE
    for words in (("--yes",), ()):
        assert desk.run("payout", *words, "--quiet", code=5).stderr == (
            "Error: KES 200.00 is due, more than KES 150.00 (payout.confirm_slug_above_kes), and nobody is here to"
            " confirm it. Nothing was sent.\n"
            "Hint: Look: kasoko payout --plan. Then say the sum: --yes --expect-total 200.00, or a bound: --yes"
            " --max-total KES\n"
        )
    assert desk.harness.ledger() == []
    desk.run("payout", "--yes", "--max-total", "200")
    assert len(desk.harness.ledger()) == 2


def printed_payout(desk: Desk, *words: str) -> list[str]:
    """The words of the payout job, as its systemd unit has them."""
    units = json.loads(desk.run("units", "print", "--json", *words).stdout)["units"]
    [line] = re.findall(r"^ExecStart=\S+ (.*)$", units["kasoko-payout.service"], re.MULTILINE)
    return shlex.split(line)


def test_the_printed_job_sends_up_to_its_bound_and_leaves_more_to_a_person(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    desk.toml = LARGE
    job = printed_payout(desk)
    assert job[-2:] == ["--max-total", "150"], "what a person would have to confirm"
    assert desk.run(*job, code=5).stderr == (
        "Error: KES 200.00 is due, more than the KES 150 that --max-total allows; nothing was sent.\n"
        "Hint: See what is due: kasoko payout --plan. Then send it by hand, or raise the bound.\n"
    )
    assert desk.harness.ledger() == []
    desk.run(*printed_payout(desk, "--max-total", "200"))
    assert len(desk.harness.ledger()) == 2


def test_in_the_sandbox_and_up_to_the_sum_a_yes_is_enough(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    desk.toml = LARGE.replace("150", "200")
    desk.run("payout", "--yes", "--limit", "1", code=10)
    desk.toml = LARGE.replace("true", "false").replace("150", "0")
    desk.run("payout", "--yes")


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    ("market", "typed", "sent"),
    [("derby", "derby", 2), ("derby", "y", 0), (None, "all", 2), (None, "derby", 0)],
)
def test_a_large_sum_is_typed_for(desk: Desk, market: str | None, typed: str, sent: int) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    desk.toml = LARGE
    words = ["payout", *([market] if market else [])]
    found = desk.run(*words, typed=f"{typed}\n", code=0 if sent else 1)
    asked = f"Send 2 payouts, KES 200.00, real money, to phones by M-Pesa? Type {market or 'all'} to go on: "
    assert asked in found.stderr
    assert len(desk.harness.ledger()) == sent
    look = f"kasoko payout {market} --plan" if market else "kasoko payout --plan"
    again = f"That is not {market or 'all'}; nothing was sent. Run it again and type {market or 'all'}, or look first: "
    assert (f"{again}{look}\n" in found.stderr) == (not sent)


@pytest.mark.parametrize("code", [("2001",), ()])
def test_who_asks_for_a_code_in_swahili_is_told_that_it_is_in_english_only(desk: Desk, code: tuple[str, ...]) -> None:
    assert desk.run("explain", *code, "--lang", "sw").stderr == "Majedwali ya misimbo yako kwa Kiingereza tu.\n"
    assert desk.run("explain", *code).stderr == ""
    assert desk.run("explain", *code, "--lang", "sw", "--json").stderr == ""


def test_a_plan_cuts_long_lists_with_a_count(desk: Desk) -> None:
    desk.harness.owe({f"u{number:02}": f"2547120010{number:02}" for number in range(23)})
    found = desk.run("payout", "derby", "--plan")
    assert found.stdout.count("\tsend\n") == 20
    assert "... and 3 more. All of them: kasoko payout --plan --json\n" in found.stderr
    assert len(json.loads(desk.run("payout", "--plan", "--json").stdout)["items"]) == 23


# --- What becomes due while it is looked at, asked and sent ----------------------------------------

OLDER = "derby.1.1"


def owe_one_and_hold_another(desk: Desk) -> None:
    """KES 160 are due, and an older payout of KES 51,497 is held."""
    desk.harness.owe({"ann": ANN}, cents=5_149_700)
    desk.harness.owe({"ben": BEN}, market="rain", cents=16_000)
    desk.run("payout", "hold", OLDER, "--reason", "disputed")


def release_meanwhile(desk: Desk) -> None:
    """It is released when the run, after its look, asks for a token: before it claims anything."""

    def release(request: httpx.Request) -> None:
        if request.url.path.startswith("/oauth/") and desk.harness.payout("ann").status == "HELD":
            desk.run("payout", "release", OLDER, "--reason", "it stands", "--yes")

    desk.harness.interpose = release


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(
    ("words", "typed"),
    [
        ("payout --yes --max-total 1600", ""),
        ("payout --yes --expect-total 160", ""),
        ("payout --yes --plan-hash {plan}", ""),
        ("payout --yes --wait --max-total 1600", ""),
        ("payout --yes --wait --plan-hash {plan}", ""),
        ("payout", "y"),
        ("payout --wait", "y"),
        ("payout --limit 5 --yes --max-total 1600", ""),
    ],
)
def test_an_older_and_larger_payout_that_is_released_meanwhile_is_not_sent(desk: Desk, words: str, typed: str) -> None:
    owe_one_and_hold_another(desk)
    plan = json.loads(desk.run("payout", "--plan", "--json").stdout)["plan_hash"][:16]
    release_meanwhile(desk)
    found = desk.run(*words.format(plan=plan).split(), typed=f"{typed}\n", code=10)
    assert [one["amount_cents"] for one in desk.harness.ledger()] == [16_000]
    assert desk.harness.statuses() == {"ann": "PENDING", "ben": "SENT"}
    assert "1 more became due meanwhile, and were not shown: kasoko payout --plan\n" in found.stderr
    assert "Stopped: this run was bound to what was shown.\n" in found.stderr  # also where fewer than --limit were
    again = desk.run("payout", "--yes")
    assert "more became due" not in again.stderr
    assert len(desk.harness.ledger()) == 2


@pytest.mark.usefixtures("somebody")
def test_what_was_typed_for_is_what_is_sent(desk: Desk) -> None:
    owe_one_and_hold_another(desk)
    desk.toml = LARGE
    release_meanwhile(desk)
    desk.run("payout", typed="all\n", code=10)
    assert [one["amount_cents"] for one in desk.harness.ledger()] == [16_000]


def test_a_market_that_is_settled_and_paid_pays_what_it_owed_then(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN}, cents=16_000)
    desk.run("payout", "hold", OLDER, "--reason", "disputed")
    release_meanwhile(desk)
    desk.run("settle", "derby", "--pay", "--yes", code=10)
    assert desk.harness.statuses() == {"ann": "PENDING", "ben": "SENT"}


def test_a_run_that_nobody_bound_sends_what_is_due_as_ever(desk: Desk) -> None:
    owe_one_and_hold_another(desk)
    release_meanwhile(desk)
    desk.run("payout", "--yes")
    assert len(desk.harness.ledger()) == 2


def test_a_payout_whose_phone_changed_meanwhile_is_left_and_named(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})

    def change(request: httpx.Request) -> None:
        if request.url.path.startswith("/oauth/"):
            desk.harness.set_phone("ann", "254712000999")

    desk.harness.interpose = change
    found = desk.run("payout", "--yes", "--max-total", "200", "--json", code=10)
    run = json.loads(found.stdout)["run"]
    assert (run["changed"], run["more"], run["left"], run["stopped"]) == (["derby.1.1"], 0, 1, "bound")
    assert desk.harness.statuses() == {"ann": "PENDING", "ben": "SENT"}
    found = desk.run("payout", "--yes", "--max-total", "200")
    assert len(desk.harness.ledger()) == 2


def test_an_outage_is_told_with_what_to_do_about_it(desk: Desk) -> None:
    desk.harness.owe({f"u{number}": f"25471200100{number}" for number in range(6)})
    desk.harness.interpose = lambda request: (
        None if request.url.path.startswith("/oauth/") else httpx.Response(504, text="<html>Gateway Timeout</html>")
    )
    found = desk.run("payout", "--yes", code=7)
    assert "Stopped: several in a row brought no clear answer, as in an outage; what was not sent is still due." in (
        found.stderr
    )
    assert found.stderr.endswith(
        "Hint: Unknown is not failed. Once M-Pesa answers again, ask it how they ended: kasoko reconcile --now. What"
        " its statement shows it never had is decided at once: kasoko payout decide --all-unknown-between"
        " 2026-11-23T09:00:00Z 2026-11-23T09:00:01Z --not-paid\n"
    )
    unknown = desk.harness.statuses()
    why = ("--evidence", "the statement", "--reason", "an outage")
    desk.run(*found.stderr.split("at once: kasoko ")[1].split(), "--yes", *why)
    assert {desk.harness.statuses()[user] for user, status in unknown.items() if status == "UNKNOWN"} == {"FAILED"}


def test_it_is_told_which_payout_changed(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    desk.harness.interpose = lambda request: (
        desk.harness.set_phone("ann", "254712000999") if request.url.path.startswith("/oauth/") else None
    )
    assert desk.run("payout", "--yes", "--only", "derby.1.1", code=10).stderr.endswith(
        "derby.1.1 was left: its amount or phone is another one now than was shown.\n"
        "Stopped: this run was bound to what was shown.\n1 payout left: kasoko payout\n"
    )
    assert desk.harness.ledger() == []


# --- Naming the winner, and a plan of the pool -----------------------------------------------------


def one_sided(desk: Desk) -> None:
    """Nearly everybody is on Yes, and the market takes 5 %."""
    from tests.operations.data_builder import DataBuilder

    builder = DataBuilder(desk.harness.db, desk.harness.clock, desk.harness.actor)
    builder.market("derby")
    builder.bets("derby", {"ann": ("Yes", 900), "ben": ("No", 10)})
    desk.harness.clock.forward(1)
    desk.run("market", "close", "derby", "--yes")


RED = (
    "Danger: Winners get back less than they staked: nearly everybody backed the winner, and the fee is taken all the"
    " same.\n"
)


def test_off_a_terminal_a_winner_is_not_named_without_a_yes(desk: Desk) -> None:
    one_sided(desk)
    assert desk.run("resolve", "derby", "Yes", code=2).stderr == (
        "Error: Nobody is here to answer: Resolve derby as Yes? It cannot be taken back easily. Nothing was done. Add"
        " --yes to do it.\nHint: Read how it is used: kasoko resolve --help\n"
    )
    desk.run("resolve", "derby", "Yes", "--yes")
    desk.run("resolve", "derby", "Yes")  # again: nothing to ask


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(("typed", "code", "status"), [("n", 1, "CLOSED"), ("y", 0, "RESOLVED")])
def test_what_would_follow_is_shown_before_a_winner_is_named(desk: Desk, typed: str, code: int, status: str) -> None:
    one_sided(desk)
    found = desk.run("resolve", "derby", "Yes", typed=f"{typed}\n", code=code)
    assert found.stderr.startswith(
        "derby: 2 bets, KES 910.00 in the pool. With Yes 1 winner would share KES 864.50 on KES 900.00 staked; fee KES"
        " 45.50, refunds KES 0.00.\n" + RED + "Resolve derby as Yes? It cannot be taken back easily. [y/N] "
    )
    assert json.loads(desk.run("status", "derby", "--json").stdout)["market"]["status"] == status


def test_a_plan_of_a_one_sided_pool_says_so_in_red_and_writes_nothing(desk: Desk) -> None:
    one_sided(desk)
    desk.run("resolve", "derby", "Yes", "--yes")
    lock_in(desk.harness, "100.00")
    before = desk.harness.money()
    found = desk.run("settle", "derby", "--plan", "--quiet")
    assert found.stderr == RED + (
        "Danger: The float is short by KES 769.00: the run needs KES 869.00 (KES 864.00 to phones, KES 5.00 charges)."
        " M-Pesa's utility account had KES 100.00 at 2026-11-23 12:00 EAT.\n"
    )
    assert "ann\tPAYOUT\t1\t864.50\t864.00\t0.50\n" in found.stdout
    assert desk.harness.money() == before


# --- A second person -----------------------------------------------------------------------------

APPROVAL = "[payout]\napproval_above_kes = 0\n"


def test_a_settlement_says_that_a_second_person_has_to_release_it(desk: Desk) -> None:
    one_sided(desk)
    desk.toml = APPROVAL
    desk.run("resolve", "derby", "Yes", "--yes")
    found = desk.run("settle", "derby", "--pay", "--actor", "ann", "--json", code=10)
    plan = json.loads(found.stdout)["plan_hash"]
    assert json.loads(found.stdout)["awaits_approval"]
    assert found.stderr == RED + (
        "Nothing of it is sent or credited until a second person has released it: kasoko approve derby --plan-hash"
        f" {plan[:16]}\n"
    )
    nothing = desk.run("payout", "derby", "--yes")
    assert nothing.stderr == (
        "Hint: Waiting for a second person: 1 payout, KES 864.00. Release it: kasoko approve derby\nNothing is due.\n"
    )
    assert desk.run("approve", "derby", "--yes", "--actor", "joyce", code=2).stderr.startswith(
        "Error: --yes releases a plan that somebody has read: name it with --plan-hash.\n"
    )
    assert desk.run("approve", "derby", "--yes", "--plan-hash", plan, "--actor", "ann", code=5).stderr == (
        "Error: derby was settled by ann, and is released by somebody else. Nothing was released.\n"
        "Hint: Have a second person run it as their own user, or with --actor NAME and their own name.\n"
    )
    done = desk.run("approve", "derby", "--yes", "--plan-hash", plan[:16], "--actor", "joyce")
    assert (done.stdout, done.stderr) == (
        "derby is released: 1 payout due, 0 to wallets.\n",
        "Send them: kasoko payout derby\n",
    )
    again = desk.run("approve", "derby", "--actor", "mary")
    assert again.stdout == "derby was released by joyce before; nothing was changed.\n"


@pytest.mark.usefixtures("somebody")
@pytest.mark.parametrize(("typed", "code"), [("n", 1), ("y", 0)])
def test_the_second_person_sees_the_plan_and_is_asked(desk: Desk, typed: str, code: int) -> None:
    settled = owe(desk.harness)
    found = desk.run("approve", "derby", "--actor", "joyce", typed=f"{typed}\n", code=code)
    assert f"plan\t{settled.plan_hash[:16]}\n" in found.stdout
    assert "derby.1.1\tann\t2547****0111\tPAYOUT\t142.50\t142.00\tAWAITING_APPROVAL\n" in found.stdout
    assert "Release derby: 2 payouts, KES 142.00 to phones, settled by ann? [y/N] " in found.stderr
    assert desk.harness.statuses()["ann"] == ("PENDING" if typed == "y" else "AWAITING_APPROVAL")


def test_a_plan_that_waits_can_be_read_by_a_program(desk: Desk) -> None:
    settled = owe(desk.harness)
    found = json.loads(desk.run("approve", "derby", "--plan", "--json").stdout)
    assert (found["plan_hash"], found["settled_by"], found["approved_by"]) == (settled.plan_hash, "ann", None)
    assert [one["status"] for one in found["items"]] == ["AWAITING_APPROVAL"] * 2


def test_a_whole_market_is_held_and_let_go(desk: Desk) -> None:
    desk.harness.owe({"ann": ANN, "ben": BEN})
    held = desk.run("payout", "hold", "derby", "--reason", "disputed")
    assert (held.stdout, held.stderr) == ("2 payouts of derby now HELD.\n", "They carry KES 200.00 to phones.\n")
    assert desk.run("payout", "hold", "derby", "--reason", "x").stdout == "Nothing of derby was there to be moved.\n"
    found = json.loads(desk.run("payout", "release", "derby", "--reason", "it stands", "--yes", "--json").stdout)
    assert (found["moved"], found["left"]) == ({"PENDING": 2}, [])
