"""What an operator gets wrong, through the real program: the exit code, the whole message, and nothing changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import pytest
import sqlalchemy as sa

from kasoko_cli.clock import eat
from kasoko_cli.store.engine.database import head_version, parse_url
from tests.journeys.deployment_harness import DeploymentHarness, free_port
from tests.proof.processes import Forker

BET_COLUMNS = "bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at"
EXPONENT = "It has an exponent: in a spreadsheet format the column as a number."
TWO_WAYS = "Its comma or point may stand before cents or between thousands."
NO_AMOUNT = "Write it with digits, and at most two decimals after a point: 150 or 48.50"
MEND = "Mend the file and import the whole of it again: what stands already is not taken twice."
USUAL_PHONES = "Write it as 0712 345 678 or +254 712 345 678."


@pytest.fixture(scope="module")
def builder(
    module_database_url: str, tmp_path_factory: pytest.TempPathFactory, forker: Forker
) -> Iterator[DeploymentHarness]:
    """One deployment for all: whatever is wrong here changes nothing, so the next finds it as it was.

    The market `rain` is settled and owes Ann a payout, `derby` has no result, `sun` takes bets for years.
    """
    deployed = DeploymentHarness(tmp_path_factory.mktemp("town"), module_database_url, forker)
    try:
        deployed.furnish()
        deployed.start_simulator()
        stakes = [("ann", "0712000001", "Yes", "100"), ("ben", "0712000002", "No", "50")]
        deployed.open_market("rain", "Yes", "No", "Perhaps", stakes=stakes)
        deployed.settle("rain", "Yes")
        stakes = [("cyn", "0712000003", "Draw", "100")]
        deployed.open_market("derby", "Gor Mahia", "AFC Leopards", "Draw", stakes=stakes)
        deployed.run("market", "close", "derby", "--yes")
        sun = ("market", "add", "sun", "--question", "Q?", "--outcome", "Yes", "--outcome", "No", "--yes")
        deployed.run(*sun, "--closes-at", "2036-12-01T15:00:00Z")
        deployed.run("wallet", "deposit", "ann", "99.99", "--reference", "UKN0000001", "--yes")
        yield deployed
    finally:
        deployed.close()
    deployed.assert_discreet()


@dataclass(frozen=True)
class Case:
    """One wrong command and what it is told. `{resolved_at}` stands for what only the deployment knows."""

    words: tuple[str, ...]
    code: int
    kind: str
    message: str
    hint: str
    #: A file that it reads, by name.
    files: dict[str, str] = field(default_factory=dict)


def refused(words: str, message: str, hint: str, **files: str) -> Case:
    return Case(tuple(words.split()), 5, "refused", message, hint, files)


def unknown(words: str, message: str, hint: str) -> Case:
    return Case(tuple(words.split()), 4, "not_found", message, hint)


def bad_file(kind: str, text: str, *problems: str, hint: str = MEND) -> Case:
    """An import of a file with these problems."""
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    message = "\n  ".join([f"bad.csv was refused for {count}; nothing was changed.", *problems])
    return Case(("import", kind, "bad.csv", "--yes"), 5, "file_refused", message, hint, {"bad.csv": text})


NO_MARKET = ("There is no market 'rian'.", "Did you mean rain? List them: kasoko market list")
DERBYS = "Its outcomes are: Gor Mahia, AFC Leopards, Draw"

CASES = {
    "resolving an unknown market": unknown("resolve rian Yes --yes", *NO_MARKET),
    "settling an unknown market": unknown("settle rian --yes", *NO_MARKET),
    "paying an unknown market": unknown("payout rian --yes", *NO_MARKET),
    "the status of an unknown market": unknown("status rian", *NO_MARKET),
    "an outcome that is none of the market's": unknown(
        "resolve derby GorMaiha --yes",
        "'GorMaiha' is not an outcome of derby; nothing was changed.",
        f"Did you mean 'Gor Mahia'? {DERBYS}",
    ),
    "an outcome that is like none of the market's": unknown(
        "resolve derby Arsenal --yes", "'Arsenal' is not an outcome of derby; nothing was changed.", DERBYS
    ),
    "a bet on an outcome that is none of the market's": unknown(
        "bet place sun ann Yess 10 --funding wallet",
        "'Yess' is not an outcome of sun; nothing was changed.",
        "Did you mean 'Yes'? Its outcomes are: Yes, No",
    ),
    "settling an open market": refused(
        "settle sun --yes",
        "sun is open (its closing time is 2036-12-01 18:00 EAT); it was not settled.",
        "Name the winning outcome first: kasoko resolve sun OUTCOME",
    ),
    "settling an unresolved market": refused(
        "settle derby --yes",
        "derby has no result yet; it was not settled.",
        "Name the winning outcome first: kasoko resolve derby OUTCOME",
    ),
    "resolving an open market": refused(
        "resolve sun Yes --yes",
        "sun still takes bets, until 2036-12-01 18:00 EAT; it was not resolved.",
        "Close it first: kasoko market close sun",
    ),
    "resolving twice with another outcome": refused(
        "resolve rain No --yes",
        "rain was resolved as 'Yes' at {resolved_at}; it was not changed to 'No'.",
        "See what another outcome would change: kasoko resolve rain OUTCOME --override --plan",
    ),
    "a bet above the available balance": refused(
        "bet place sun ann Yes 100 --funding wallet",
        "ann has KES 99.99 available, and the stake is KES 100.00. Nothing was changed.",
        "Take in a deposit first: kasoko wallet deposit ann AMOUNT --reference RECEIPT",
    ),
    "a stake of 0": refused(
        "bet place sun ann Yes 0 --funding wallet",
        "The stake '0' is nothing: a bet needs at least one cent.",
        "Nothing was changed. Write a stake of 0.01 or more.",
    ),
    "a stake of -5": refused(
        "bet place --funding wallet -- sun ann Yes -5",
        "The stake '-5' is not an amount in shillings. It is below zero.",
        f"Nothing was changed. {NO_AMOUNT}",
    ),
    "a stake of -5 that looks like an option": Case(
        ("bet", "place", "sun", "ann", "Yes", "-5", "--funding", "wallet"),
        2,
        "usage",
        "No such option: -5",
        "Read how it is used: kasoko bet place --help",
    ),
    "a stake of 1e9999": refused(
        "bet place sun ann Yes 1e9999 --funding wallet",
        f"The stake '1e9999' is not an amount in shillings. {EXPONENT}",
        f"Nothing was changed. {NO_AMOUNT}",
    ),
    "a stake of NaN": refused(
        "bet place sun ann Yes NaN --funding wallet",
        "The stake 'NaN' is not an amount in shillings.",
        f"Nothing was changed. {NO_AMOUNT}",
    ),
    "a stake of 10.001": refused(
        "bet place sun ann Yes 10.001 --funding wallet",
        f"The stake '10.001' is not an amount in shillings. {TWO_WAYS}",
        f"Nothing was changed. {NO_AMOUNT}",
    ),
    "a phone that is no Kenyan mobile": refused(
        "user add zed Zed +255712345678 --yes",
        "The phone '+255****78' (12 digits) is not a Kenyan mobile number.",
        f"Nothing was changed. {USUAL_PHONES}",
    ),
    "a file with stakes that are no amounts, between good lines": bad_file(
        "bets",
        f"{BET_COLUMNS}\n"
        + "".join(
            f"x{number},sun,ann,Yes,{stake},2026-11-20T14:00:00Z,\n"
            for number, stake in enumerate(["10", "0", "-5", "1e9999", "NaN", "10.001", "20"])
        ),
        "line 3, stake_kes: The stake '0' is nothing: a bet needs at least one cent. Write a stake of 0.01 or more.",
        *(
            f"line {line}, stake_kes: The stake '{stake}' is not an amount in shillings. {why}{NO_AMOUNT}"
            for line, (stake, why) in enumerate(
                [("-5", "It is below zero. "), ("1e9999", f"{EXPONENT} "), ("NaN", ""), ("10.001", f"{TWO_WAYS} ")],
                start=4,
            )
        ),
    ),
    "a file with a missing column": bad_file(
        "bets",
        "bet_id,market_id,user_id,outcome,placed_at,cancelled_at\nx1,sun,ann,Yes,2026-11-20T14:00:00Z,\n",
        "line 1, stake_kes: The column is missing.",
        hint="Its columns are 'bet_id', 'market_id', 'user_id', 'outcome', 'placed_at', 'cancelled_at'. Say under which"
        f" one each stands: --map stake_kes=HEADER. The usual columns are {BET_COLUMNS} (and, if you like, funding), in"
        " any order.",
    ),
    "a duplicate bet id with other content": bad_file(
        "bets",
        f"{BET_COLUMNS}\nx1,sun,ann,Yes,10,2026-11-20T14:00:00Z,\nrain-ann,rain,ann,Yes,200,2026-11-20T14:00:00Z,\n",
        "line 3, stake_kes: The bet 'rain-ann' is known with '100.00', and here with '200.00'."
        " A bet is not changed; another one needs another id.",
    ),
    "a duplicate user id with other content": bad_file(
        "users",
        "user_id,name,phone\nzed,Zed,0722000998\nann,Ann,0722000999\n",
        "line 3, phone: The user 'ann' is known with 2547****0001, and here with 2547****0999."
        " For a new number: kasoko user set-phone ann PHONE",
    ),
    "a duplicate market id with other content": bad_file(
        "markets",
        "market_id,slug,question,outcomes,closes_at,fee_bps\n"
        "rain,rain,What of rain?,Yes|No|Perhaps,2026-11-20T15:00:00Z,250\n",
        "line 2, fee_bps: The market 'rain' is known with '500', and here with '250'."
        " A market is not changed; another one needs another id.",
    ),
    "a file with phones that are no Kenyan mobiles": bad_file(
        "users",
        "user_id,name,phone\nzed,Zed,+255712345678\nyan,Yan,0202345678\nxen,Xen,0712345679\n",
        f"line 2, phone: The phone '+255****78' (12 digits) is not a Kenyan mobile number. {USUAL_PHONES}",
        f"line 3, phone: The phone '0202****78' (10 digits) is not a Kenyan mobile number. {USUAL_PHONES}",
    ),
}


@pytest.mark.parametrize("what", CASES)
def test_a_wrong_command_says_what_to_do_and_changes_nothing(builder: DeploymentHarness, what: str) -> None:
    """The whole message, for people and for programs."""
    case = CASES[what]
    for name, text in case.files.items():
        builder.write(name, text)
    resolved_at = builder.ask("status", "rain")["market"]["resolved_at"] if "{" in case.message else ""
    message = case.message.replace("{resolved_at}", eat(datetime.fromisoformat(resolved_at)) if resolved_at else "")
    before = builder.everything()

    if builder.database_url.startswith("sqlite"):  # how it is written does not depend on the database
        plain = builder.run(*case.words, code=case.code)
        assert (plain.out, plain.err) == ("", f"Error: {message}\nHint: {case.hint}\n")
    told = builder.run(*case.words[:2], "--json", *case.words[2:], code=case.code).error
    assert told == {"kind": case.kind, "message": message, "hint": case.hint, "exit_code": case.code}
    assert builder.everything() == before


#: What is said of the float before the first balance was read.
NOT_KNOWN = "Warning: The float is not known: no balance of M-Pesa was ever read.\n"


def test_a_wrong_consumer_key_stops_the_run_and_nothing_is_sent(builder: DeploymentHarness) -> None:
    case = Case(
        ("payout", "rain", "--yes"),
        3,
        "configuration_error",
        f"M-Pesa at {builder.daraja_url} gives no access token: the consumer key or secret is refused (400.008.01)."
        ' It said: "Invalid Authentication passed".',
        "Nothing was sent. Check MPESA_CONSUMER_KEY and MPESA_CONSUMER_SECRET, and that they belong to this"
        " environment: kasoko config show --origin. Then run it again: kasoko payout rain --yes",
    )
    before = builder.everything()
    wrong = {"MPESA_CONSUMER_KEY": "wrong-key-4711"}
    plain = builder.run(*case.words, code=case.code, **wrong)
    assert plain.err == f"{NOT_KNOWN}Error: {case.message}\nHint: {case.hint}\n"
    told = builder.run(*case.words, "--json", code=case.code, **wrong)
    hint = f"{case.hint} --json"
    assert told.error == {"kind": case.kind, "message": case.message, "hint": hint, "exit_code": case.code}
    assert "wrong-key-4711" not in plain.err + told.err
    assert builder.everything() == before
    assert builder.payments() == []


def test_when_daraja_is_unreachable_nothing_is_sent_and_the_payout_stays_due(builder: DeploymentHarness) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    message = f"M-Pesa at {url} gives no access token: cannot connect (Connection refused). Nothing was sent."
    hint = (
        "No money moved. Check the network, daraja.proxy and MPESA_BASE_URL, then run it again:"
        " kasoko payout rain --yes"
    )
    before = builder.everything()

    plain = builder.run("payout", "rain", "--yes", code=6, MPESA_BASE_URL=url)
    assert (plain.out, plain.err) == ("", f"{NOT_KNOWN}Error: {message}\nHint: {hint}\n")
    told = builder.run("payout", "rain", "--yes", "--json", code=6, MPESA_BASE_URL=url).error
    assert told == {"kind": "not_sent", "message": message, "hint": f"{hint} --json", "exit_code": 6}
    assert builder.everything() == before
    assert builder.items("rain")["ann"]["status"] == "PENDING"
    assert builder.payments() == []


# --- The database itself -------------------------------------------------------------------------


def _refuses_the_database(
    deployed: DeploymentHarness, url: str, message: str, hint: str, kind: str = "database_unavailable"
) -> None:
    for words in (("payout", "--yes"), ("status",)):
        done = deployed.run(*words, code=3, KASOKO_DATABASE_URL=url)
        assert (done.out, done.err) == ("", f"Error: {message}\nHint: {hint}\n")
    told = deployed.run("settle", "rain", "--yes", "--json", code=3, KASOKO_DATABASE_URL=url).error
    assert told == {"kind": kind, "message": message, "hint": hint, "exit_code": 3}


WHERE_IS_IT = (
    "Is it in another folder, or on another name (--database URL)? Is there a backup (kasoko db restore FILE)? A new"
    " database does not know who was paid, and would pay them again. Only for a first one: kasoko init"
)
CHECK_ADDRESS = "Check the address (kasoko config show --origin) and that the server runs or the file may be written."
STANDS = "What was committed before stands, and nothing else was changed."


def test_a_missing_database_is_named_and_not_made(bare: DeploymentHarness) -> None:
    file = bare.folder / "none.db"
    hint = WHERE_IS_IT
    _refuses_the_database(bare, f"sqlite:///{file}", f"There is no database at {file}.", hint)
    assert not file.exists()


def test_a_file_that_is_no_database_is_left_alone(bare: DeploymentHarness) -> None:
    file = bare.write("accounts.db", "Not a database, and long enough that somebody looks at its head. " * 20)
    before = file.read_bytes()
    message = f"The database sqlite:///{file} cannot be used: file is not a database. {STANDS}"
    _refuses_the_database(bare, f"sqlite:///{file}", message, CHECK_ADDRESS)
    assert file.read_bytes() == before


def test_a_server_that_is_down_is_named_without_its_password(bare: DeploymentHarness) -> None:
    port = free_port()
    shown = f"postgresql://kasoko:***@127.0.0.1:{port}/kasoko"
    reason = f'connection failed: connection to server at "127.0.0.1", port {port} failed: Connection refused'
    message = f"The database {shown} cannot be used: {reason}. {STANDS}"
    url = f"postgresql://kasoko:Sekret-4711@127.0.0.1:{port}/kasoko"
    done = bare.run("payout", "--yes", code=3, KASOKO_DATABASE_URL=url)
    waited = f"{message} It is waited for, 10 seconds at most."
    assert done.err == f"{waited}\nError: {message}\nHint: {CHECK_ADDRESS}\n"
    assert not any("Sekret-4711" in text for text in bare.said)


def test_a_database_that_the_server_does_not_have_is_named(bare: DeploymentHarness, postgres_server: str) -> None:
    url = sa.make_url(postgres_server).set(database="nowhere").render_as_string(hide_password=False)
    done = bare.run("status", "--json", code=3, KASOKO_DATABASE_URL=url).error
    assert done["kind"] == "database_unavailable"
    assert done["message"].startswith("The database postgresql://")
    assert done["message"].endswith(f'FATAL:  database "nowhere" does not exist. {STANDS}')
    assert done["hint"] == CHECK_ADDRESS


@pytest.mark.parametrize(
    ("version", "hint"),
    [
        pytest.param("0000", "Take a backup (kasoko db backup FILE), then: kasoko db upgrade", id="older"),
        pytest.param("9999", "This kasoko is older than the database: install the newer one.", id="newer"),
    ],
)
def test_a_schema_that_is_not_at_head_is_refused_by_every_command(
    deployed: DeploymentHarness, version: str, hint: str
) -> None:
    engine = sa.create_engine(parse_url(deployed.database_url))
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE alembic_version SET version_num = '{version}'"))
    engine.dispose()
    shown = sa.make_url(deployed.database_url).render_as_string(hide_password=True)
    before = deployed.everything()

    message = (
        f"The database {shown} has tables of version {version}; this program needs {head_version()}."
        " Nothing was changed."
    )
    _refuses_the_database(deployed, deployed.database_url, message, hint, kind="schema_out_of_date")
    assert deployed.everything() == before
    if deployed.database_url.startswith("sqlite") and version == "0000":
        # What the hint says can be done.
        deployed.run("db", "backup", "copy.db")
        assert (deployed.folder / "copy.db").stat().st_size > 100_000


def test_a_database_without_tables_is_made_by_init_alone(bare: DeploymentHarness) -> None:
    file = bare.write("empty.db", "")
    message = f"The database sqlite:///{file} has no kasoko tables."
    hint = WHERE_IS_IT
    _refuses_the_database(bare, f"sqlite:///{file}", message, hint, kind="schema_out_of_date")
    bare.run("db", "upgrade", "--yes", code=3, KASOKO_DATABASE_URL=f"sqlite:///{file}")
    bare.run("init", "--yes", KASOKO_DATABASE_URL=f"sqlite:///{file}")
    bare.run("status", KASOKO_DATABASE_URL=f"sqlite:///{file}")
