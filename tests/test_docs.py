"""The pages say what the program does: links lead somewhere, commands exist, tables equal the code.

Parts of the pages are made from the code. They stand between `<!-- made: NAME -->` and `<!-- end -->`, and
a test holds them equal to it. `python -m tests.test_docs` writes them anew.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import textwrap
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from types import NoneType, UnionType
from typing import Any, Final

import pytest
import typer.main
from sqlmodel import SQLModel

from kasoko_cli import errors
from kasoko_cli.cli.app import app
from kasoko_cli.cli.help.command_index import WORDS
from kasoko_cli.cli.help.layout import panels_of
from kasoko_cli.cli.help.topics import CRON, EXIT_CODES
from kasoko_cli.daraja import messages
from kasoko_cli.daraja.codes import RESULT_RULES, Fate, Moved, ResultRule, every_meaning
from kasoko_cli.daraja.simulator.people import PEOPLE
from kasoko_cli.daraja.simulator.script import STAGE_OF, Fault, FaultStage
from kasoko_cli.domain.payout import ATTEMPT_NEXT, GROUPS, PAYOUT_NEXT, PayoutStatus, WireLimits, legs
from kasoko_cli.ledger import journal
from kasoko_cli.ledger.chart import OWNED, Account
from kasoko_cli.operations.admin.systemd_units import Place, make_units
from kasoko_cli.operations.audit import run
from kasoko_cli.operations.exchange import export, import_bets, import_records
from kasoko_cli.operations.monitoring.alert_rules import alert_rules
from kasoko_cli.operations.monitoring.health import HealthLimits
from kasoko_cli.operations.reconciliation import statement_import
from kasoko_cli.operations.safeguards.payment_guard import GUARDS, Condition
from kasoko_cli.operations.shared.record_files import FileRefused
from kasoko_cli.store.schema import tables

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").rglob("*.md"))
ALL_PAGES = [ROOT / "README.md", *PAGES]
WIDTH = 100


def page_id(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# --- Parts that are made from the code -----------------------------------------------------------


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(items: list[str]) -> str:
    return "\n".join(textwrap.fill(f"- {item}", WIDTH, subsequent_indent="  ") for item in items)


def movements(moves: Mapping[Any, Mapping[Any, str]]) -> str:
    """Which state may follow which, and why."""
    found = [f"`{old}` → `{new}`: {why}." for old, following in moves.items() for new, why in following.items()]
    ends = [f"`{state}`" for state, following in moves.items() if not following]
    return listed([*found, f"Nothing follows {' or '.join(ends)}."])


def groups() -> str:
    return table(
        ("group", "states"),
        [(f"*{name}*", ", ".join(f"`{state}`" for state in PAYOUT_NEXT if state in of)) for name, of in GROUPS.items()],
    )


def people() -> str:
    return table(
        ("number", "what happens", "result", "money"),
        [
            (f"`{phone}`", one.title, f"`{one.code}`", "arrives" if one.paid else "stays")
            for phone, one in PEOPLE.items()
        ],
    )


def faults() -> str:
    stages = {
        FaultStage.BEFORE: "Before the money, the request is not taken",
        FaultStage.AFTER: "After the money, the request is taken and its answer is spoilt",
        FaultStage.RESULT: "The result of a payment",
        FaultStage.STATUS: "The result of a status query",
        FaultStage.BALANCE: "The result of a balance query",
    }
    return listed(
        [
            f"{says}: {', '.join(f'`{fault}`' for fault in Fault if STAGE_OF[fault] is stage)}."
            for stage, says in stages.items()
        ]
    )


def again(rule: ResultRule) -> str:
    """What `retry` does with a payout that carries this code."""
    if rule.fate is not Fate.FAILED:
        return "-"
    if rule.needs_other_phone:
        return "to another number"
    return "yes" if rule.may_succeed_again else "no"


def result_codes() -> str:
    became = {Fate.PAID: "COMPLETED", Fate.FAILED: "FAILED", Fate.UNKNOWN: "UNKNOWN"}
    return table(
        ("code", "what it means", "becomes", "stops all", "retry"),
        [
            (f"`{code}`", rule.meaning, became[rule.fate], "yes" if rule.account_level else "", again(rule))
            for code, rule in RESULT_RULES.items()
        ],
    )


def looked_up(where: str) -> str:
    """Each code that is said in one place: what it means, whether money moved, what to do, how that is known."""
    moved = {Moved.YES: "The money moved", Moved.NO: "No money moved", Moved.MAYBE: "Money may have moved"}
    lines = []
    for one in every_meaning():
        if one.where == where:
            stops = "; everything else stops too" if one.stops_all else ""
            do = f" Do: {one.advice.rstrip('.')}." if one.advice else ""
            known = f" Source: {one.source} ({str(one.sure).replace('_', ' ')})."
            text = (
                f"- `{one.code}`: {one.meaning}. {moved[one.money_moved]}; the payout becomes {one.becomes}{stops}."
                f" {one.more}{do}{known}"
            )
            lines.append(textwrap.fill(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False))
    return "\n".join(lines)


def exit_codes() -> str:
    """The table of `kasoko help exit-codes`."""
    rows = re.findall(r"^  (\d+) +(.*(?:\n {7}.*)*)$", EXIT_CODES, re.MULTILINE)
    return table(("exit", "meaning"), [(code, " ".join(says.split())) for code, says in rows])


def commands() -> str:
    """Every command by the panels of the front page."""

    def under(command: Any, name: str) -> Iterator[tuple[str, str]]:
        if hasattr(command, "commands"):
            for verb, one in command.commands.items():
                yield from under(one, f"{name} {verb}")
        else:
            yield name, (command.help or "").strip().splitlines()[0]

    root: Any = typer.main.get_command(app)
    panels = [
        f"## {panel}\n\n"
        + listed(
            [
                f"`{name}`: {says}"
                for word in WORDS
                if word.panel == panel
                for name, says in under(root.commands[word.name], word.name)
            ]
        )
        for panel in dict.fromkeys(word.panel for word in WORDS)
    ]
    return "\n\n".join(panels)


def payout_states() -> str:
    """Each state with the comment above it."""
    found = re.findall(r"#: (.*)\.\n    (\w+) = ", inspect.getsource(PayoutStatus))
    assert [state for _, state in found] == list(PayoutStatus)
    return table(("state", "meaning"), [(f"`{state}`", says[0].lower() + says[1:]) for says, state in found])


def data_model() -> str:
    """Each table: what a row of it is, its key, and which tables it refers to."""
    lines = []
    for one in vars(tables).values():
        if not (inspect.isclass(one) and issubclass(one, SQLModel) and hasattr(one, "__table__")):
            continue
        of = one.__table__
        says = inspect.cleandoc(one.__doc__ or "").split("\n\n")[0]
        key = ", ".join(f"`{column.name}`" for column in of.primary_key.columns)
        others = dict.fromkeys(f"`{key.column.table.name}`" for key in sorted(of.foreign_keys, key=str))
        refers = f" Refers to {', '.join(others)}." if others else ""
        once = " *Written once.*" if of.name in tables.APPEND_ONLY else ""
        lines.append(f"`{of.name}` (key {key}). {' '.join(says.split())}{refers}{once}")
    assert len(lines) == len(SQLModel.metadata.tables)
    return listed(lines)


def chart() -> str:
    owners = {Account.POOL: "market, outcome", Account.TAX_REMITTED: "what it fell on"}
    comments = re.findall(r"^    (\w+) = .*#: (.*)$", inspect.getsource(Account), re.MULTILINE)
    return table(
        ("account", "owner", "what it holds"),
        [
            (
                f"`{account}`",
                owners.get(account, "user") if account in OWNED else "",
                re.sub(r"^by [\w ]+: ", "", says),
            )
            for account, (_, says) in zip(Account, comments, strict=True)
        ],
    )


def every_entry() -> list[journal.Entry]:
    """Each entry that the journal can build, with placeholders for names."""
    user, market, attempt, payout = "{user}", "{market}", "{attempt}", "{payout}"
    resolved = dict.fromkeys(statement_import.RESOLUTIONS.values())
    return [
        journal.deposited("{reference}", user, 1),
        journal.bet_from_wallet("{bet}", user, market, 0, 1),
        journal.bet_collected("{bet}", market, 0, 1),
        journal.bet_cancelled("{bet}", user, market, 0, 1),
        journal.settled(market, 1, pools={0: 9}, owed=[(user, 5)], earned=journal.Earnings(4, 3, 3)),
        journal.credited(payout, user, 1),
        journal.reserved(attempt, 1, 1),
        journal.released(attempt, 1, 1),
        journal.late_reserved(attempt, 1),
        journal.delivered(payout, attempt, user, 1),
        journal.overpaid("{receipt}", user, 1),
        journal.returned(payout, "{receipt}", user, 1),
        journal.due_again(payout, 1, user, 1),
        journal.again_ended(payout, 1, user, 1),
        journal.charged(attempt, 1),
        journal.charge_paid(attempt, 2, 3),
        journal.suspended("{line}", 1),
        *(journal.suspense_resolved("{line}", 1, account, user if account in OWNED else "") for account in resolved),
        *(
            journal.recovered("{reference}", user, 1, source)
            for source in (Account.WALLET, Account.UTILITY, Account.BANK)
        ),
        journal.written_off("{reference}", user, 1),
        *(journal.remitted("{reference}", "{on}", 1, source) for source in (Account.BANK, Account.UTILITY)),
        journal.reversal("{entry}", journal.credited(payout, user, 1).postings),
        journal.corrected(
            market,
            1,
            [journal.UserCorrection(user, -3, 3), journal.UserCorrection(user, 2, 0)],
            earned=journal.Earnings(3, 0, 2),
        ),
    ]


def entries() -> str:
    def side(entry: journal.Entry, sign: int) -> str:
        return ", ".join(f"`{posting.account}`" for posting in entry.postings if posting.cents * sign > 0)

    rows = []
    for entry in every_entry():
        key = re.sub(r"^(settle|correction):\{market\}:1$", r"\1:{market}:{no}", entry.key)
        key = key.replace("again:1", "again:{no}")
        rows.append((f"`{entry.kind}`", side(entry, 1), side(entry, -1), f"`{key}`"))
    return table(("kind", "debit", "credit", "key"), rows)


def checks() -> str:
    return listed([f"`{rule.name}`: {rule.says}" for rule in run.RULES])


def deep_checks() -> str:
    return listed([f"`{rule.name}`: {rule.says}" for rule in (*run.DEEP_RULES, *run.CHAIN_RULES)])


def error_kinds() -> str:
    classes = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.KasokoError)]
    rows = [(one("").kind, one.exit_code, (one.__doc__ or "").split("\n")[0]) for one in classes]
    refused = FileRefused("", [])
    rows.append((refused.kind, refused.exit_code, "A file was not taken in; nothing was changed."))
    return table(("kind", "exit", "says"), [(f"`{kind}`", str(code), says) for kind, code, says in rows])


def guard_conditions() -> str:
    return "\n".join(f"{number}. {condition};" for number, condition in enumerate(Condition, start=1))


def guard_table() -> str:
    """Which condition is asked on which way out to money."""
    head = ("command", *(str(number) for number, _ in enumerate(Condition, start=1)))
    rows = [(f"`{way}`", *("●" if one in asked else "" for one in Condition)) for way, asked in GUARDS.items()]
    return table(head, rows)


MADE: Mapping[str, Callable[[], str]] = {
    "payout movements": lambda: movements(PAYOUT_NEXT),
    "attempt movements": lambda: movements(ATTEMPT_NEXT),
    "groups": groups,
    "people": people,
    "faults": faults,
    "result codes": result_codes,
    "codes of results": lambda: looked_up("result"),
    "codes of answers": lambda: looked_up("answer"),
    "codes of status queries": lambda: looked_up("status query"),
    "codes of our own": lambda: looked_up("kasoko"),
    "exit codes": exit_codes,
    "commands": commands,
    "payout states": payout_states,
    "data model": data_model,
    "chart": chart,
    "entries": entries,
    "checks": checks,
    "deep_checks": deep_checks,
    "error kinds": error_kinds,
    "guard conditions": guard_conditions,
    "guard": guard_table,
}

#: Parts that processes have to act out: written with the others, and tested where the acting is.
ACTED: Final = tuple(f"story {scene}" for scene in ("market", "password", "float", "unknown", "phone", "end"))

PART = re.compile(r"(<!-- made: ([\w ]+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def parts() -> Iterator[tuple[Path, str, str]]:
    for page in ALL_PAGES:
        for _, name, text, _ in PART.findall(page.read_text()):
            yield page, name, text


@pytest.mark.parametrize(
    ("name", "text"), [pytest.param(name, text, id=name) for _, name, text in parts() if name in MADE]
)
def test_a_part_that_is_made_from_the_code_equals_it(name: str, text: str) -> None:
    assert text == MADE[name]() + "\n", "write it anew: python -m tests.test_docs"


def test_every_part_that_can_be_made_stands_on_a_page() -> None:
    assert sorted({name for _, name, _ in parts()}) == sorted([*MADE, *ACTED])


def test_every_account_has_an_entry() -> None:
    taxed = journal.delivered("{payout}", "{attempt}", "{user}", 1, 1)
    assert {posting.account for entry in (*every_entry(), taxed) for posting in entry.postings} == set(Account)


# --- Links and lines -----------------------------------------------------------------------------


@pytest.mark.parametrize("page", ALL_PAGES, ids=page_id)
def test_every_relative_link_leads_to_a_file_and_to_a_heading_in_it(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", without_blocks(page.read_text()))
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        name, _, heading = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), f"{page_id(page)} links to {link}"
        if heading:
            assert heading in headings(target), f"{page_id(page)} links to {link}"


def without_blocks(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def headings(page: Path) -> set[str]:
    """The names under which a page's headings can be linked to."""
    found = re.findall(r"^#+ (.+)$", without_blocks(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in found}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_a_page_keeps_to_100_columns_and_ends_with_a_line_end(page: Path) -> None:
    text = page.read_text()
    assert [line for line in text.splitlines() if len(line) > WIDTH] == []
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+)", without_blocks(page.read_text()))
        left += [(page.parent / link).resolve() for link in links if not re.match(r"[a-z]+:", link)]
    assert [page_id(page) for page in PAGES if page not in reached] == []


def test_the_runbook_has_a_section_for_each_alert_and_names_it_as_prometheus_does() -> None:
    page = ROOT / "docs" / "runbook.md"
    rules = alert_rules(HealthLimits())
    leads = re.findall(r"docs/runbook\.md#(\w+)", rules)
    assert sorted(leads) == sorted(headings(page) - {"the-runbook"})
    told = re.split(r"^## ", page.read_text(), flags=re.MULTILINE)[1:]
    named = [found for section in told for found in re.findall(r"^\*(Kasoko\w+), (\w+)", section, re.MULTILINE)]
    assert sorted(named) == sorted(re.findall(r"alert: (\w+)\n(?:.*\n)*?.*severity: (\w+)", rules))


def test_the_messages_that_troubleshooting_quotes_are_messages_of_the_program() -> None:
    sources = "\n".join(file.read_text() for kind in ("*.py", "*.toml") for file in (ROOT / "kasoko_cli").rglob(kind))
    whole = re.sub(r'"\s*\n\s*f?"', "", sources)  # texts that stand on more than one line
    quoted = re.findall(r'\*"([^"]+)"\*', (ROOT / "docs" / "operate" / "troubleshooting.md").read_text())
    assert len(quoted) > 30
    assert [words for words in (" ".join(found.split()) for found in quoted) if words not in whole] == []


def test_every_kind_of_incident_is_explained() -> None:
    raised = set()
    for file in (ROOT / "kasoko_cli").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "raise_incident":
                [kind] = [one.value for one in node.keywords if one.arg == "kind"]
                if isinstance(kind, ast.Name):
                    module = importlib.import_module(".".join(file.relative_to(ROOT).with_suffix("").parts))
                    raised.add(getattr(module, kind.id))
                else:
                    raised.add(ast.literal_eval(kind))
    assert len(raised) > 10
    page = (ROOT / "docs" / "results.md").read_text()
    rows = page[page.index("| kind | what happened") :]
    assert set(re.findall(r"^\| `(\w+)` \|", rows, re.MULTILINE)) == raised


def test_the_crontab_of_the_help_is_that_of_the_page() -> None:
    page = (ROOT / "docs" / "running.md").read_text()
    of_the_page = "".join(re.findall(r"```cron\n(.*?)```", page, re.DOTALL)).splitlines()
    assert [line.strip() for line in CRON.splitlines() if "* * *" in line] == of_the_page


def test_the_checks_and_constraints_that_auditors_are_told_of_are_there() -> None:
    page = (ROOT / "docs" / "explain" / "controls-for-auditors.md").read_text()
    rules = {rule.name for rule in (*run.RULES, *run.DEEP_RULES, *run.CHAIN_RULES)}
    told = set(re.findall(r"`([a-z]+(?:-[a-z]+)+)`", page))
    assert len(told) > 10
    assert told <= rules
    constraints = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", page)) - {"approver_removed"}
    assert constraints <= set(re.findall(r'"(\w+)"', inspect.getsource(tables)))


def test_every_extra_and_every_python_that_is_supported_is_named() -> None:
    page = (ROOT / "docs" / "start" / "install.md").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = page[page.index("<!-- extras -->") : page.index("## Check the installation")]
    assert sorted(re.findall(r"^\| `(\w+)` \|", extras, re.MULTILINE)) == sorted(project["optional-dependencies"])
    pythons = [line[-4:] for line in project["classifiers"] if re.search(r"Python :: 3\.\d+$", line)]
    assert f"| Python | {', '.join(pythons)} |" in page


def test_no_message_points_to_a_page_that_is_not_installed() -> None:
    """But for the runbook that the alert rules name: they are read next to a clone."""
    left = {"docs/runbook.md#{page}", "docs/codes.md"}
    sources = [*(ROOT / "kasoko_cli").rglob("*.py"), *(ROOT / "kasoko_cli").glob("*.example*")]
    named = [
        node.value
        for file in sources
        if file.suffix == ".py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and "docs/" in node.value
    ] + [line for file in sources if file.suffix != ".py" for line in file.read_text().splitlines() if "docs/" in line]
    assert [text for text in named if not any(one.split("{")[0] in text for one in left)] == []


def test_a_package_that_a_message_says_to_install_is_that_of_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split("[>=<]", one)[0] for some in project["optional-dependencies"].values() for one in some}
    sources = "\n".join(file.read_text() for file in (ROOT / "kasoko_cli").rglob("*.py"))
    named = re.findall(r"pip install '?([\w\[\]-]+)", sources)
    assert len(named) == 3
    assert set(named) <= wanted


def test_the_readme_counts_the_checks_of_the_audit() -> None:
    assert f"Audit: {len(run.RULES)} things must always hold" in (ROOT / "README.md").read_text()


def test_every_timer_that_is_printed_is_named() -> None:
    place = Place(
        folder=PurePosixPath("/srv/kasoko"),
        program=PurePosixPath("/srv/kasoko/.venv/bin/kasoko"),
        user="kasoko",
        credentials=None,
        metrics=PurePosixPath("/var/lib/metrics"),
        is_sqlite=True,
        database_is_secret=False,
        has_alerts=True,
        has_mirror=True,
        has_expiry=True,
        most_kes="1000",
    )
    jobs = {name[7:-6] for name in make_units(place) if name.endswith(".timer")}
    page = " ".join((ROOT / "docs" / "running.md").read_text().split())
    told = page[page.index("a timer with its service for each of") : page.index("a copy of the database a day")]
    assert jobs - set(re.findall(r"`([\w-]+)`", told)) == {"backup"}


@pytest.mark.parametrize("page", ["kasoko.toml.example", "docs/running.md", "docs/go-live.md", "docs/listener.md"])
def test_the_words_that_an_address_had_best_not_have_are_all_named(page: str) -> None:
    lines = (ROOT / page).read_text().replace("\n# ", " ")
    assert any(
        all(re.search(rf"\b{word}\b", told) for word in messages.SUSPECT_URL_WORDS)
        for told in re.split(r"\n\n|\n- ", lines)
    )


# --- Commands ------------------------------------------------------------------------------------

#: `kasoko` as a word that is called: by itself, or by its path.
CALLED = re.compile(r"(?:^|[\s=;&])(?:[\w./-]*/)?kasoko ((?:[^`#;|&<>\n']|'[^']*')+)")


def shown_commands(page: Path) -> Iterator[str]:
    """The words after `kasoko` in every command line of the page's code blocks."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL):
        if language in {"sh", "console", "cron", "ini"}:
            for line in block.replace("\\\n", "").splitlines():
                if line.startswith("Description="):
                    continue
                yield from (found.strip() for found in CALLED.findall(line))


def named_commands(page: Path) -> Iterator[str]:
    """The words after `kasoko` where a sentence names a command."""
    yield from re.findall(r"`kasoko ([^`]+)`", without_blocks(page.read_text()))


def find_command(words: list[str]) -> tuple[Any, list[str]]:
    """The command that these words call, and the words that are its own."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands"):
        if words and words[0] in found.commands:
            found, words = found.commands[words[0]], words[1:]
        elif getattr(found, "default", ""):
            found = found.commands[found.default]
        else:
            assert not words or words == ["--help"], f"there is no command {words[0]}"
            return found, words
    return found, words


SHOWN = [pytest.param(line, id=f"{page_id(page)}: {line}") for page in ALL_PAGES for line in shown_commands(page)]
NAMED = [pytest.param(line, id=f"{page_id(page)}: {line}") for page in ALL_PAGES for line in named_commands(page)]


def test_no_help_text_shows_a_type_of_python() -> None:
    def help_of(command: Any, name: str) -> Iterator[str]:
        if hasattr(command, "commands"):
            for verb, one in command.commands.items():
                yield from help_of(one, f"{name} {verb}")
        else:
            yield from (name for rows in panels_of(typer.Context(command), command).values() for name, _ in rows)

    assert [
        name for name in help_of(typer.main.get_command(app), "kasoko") if re.search(r"<(list|path|str|int)\b", name)
    ] == []


@pytest.mark.parametrize("line", SHOWN)
def test_a_command_line_that_is_shown_can_be_called(line: str) -> None:
    command, words = find_command(shlex.split(line))
    if words not in (["--help"], ["--version"]):
        command.make_context("kasoko", words)


@pytest.mark.parametrize("line", NAMED)
def test_a_command_that_a_sentence_names_exists_with_its_options(line: str) -> None:
    words = line.split()
    if words[0].isupper() or words[0].startswith("-"):
        return
    command, words = find_command(words)
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("-")} <= options


def test_the_pages_show_command_lines_at_all() -> None:
    assert len(SHOWN) > 20
    assert len(NAMED) > 20


# --- Tables written by hand ----------------------------------------------------------------------

#: `<!-- keys: kasoko_cli.operations.reporting.status_views.Item -->` before a table of a JSON object's keys.
KEYS = re.compile(r"<!-- keys: ([\w.]+) -->\n\n?((?:\|.*\n)+)")


def json_type(hint: Any) -> str:
    """What a value is in JSON, in the words of the page."""
    if isinstance(hint, UnionType) or typing.get_origin(hint) is typing.Union:
        one, *_ = [json_type(part) for part in typing.get_args(hint) if part is not NoneType]
        return f"{one} or null"
    origin = typing.get_origin(hint) or hint
    simple = {int: "number", str: "text", bool: "true or false", datetime: "time", date: "day", list: "list"}
    if origin in simple:
        return simple[origin]
    if is_dataclass(origin) or issubclass(origin, Mapping):
        return "object"
    assert issubclass(origin, str), f"{hint} has no word"
    return "text"


def key_tables() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    for name, lines in KEYS.findall((ROOT / "docs" / "json.md").read_text()):
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines.splitlines()[2:]]
        yield name, [(row[0].strip("`"), row[1]) for row in rows]


@pytest.mark.parametrize(("name", "rows"), [pytest.param(*found, id=found[0]) for found in key_tables()])
def test_the_keys_of_a_json_object_are_those_that_the_command_prints(name: str, rows: list[tuple[str, str]]) -> None:
    module, _, kind = name.rpartition(".")
    printed = getattr(importlib.import_module(module), kind)
    hints = typing.get_type_hints(printed)
    assert rows == [(field.name, json_type(hints[field.name])) for field in fields(printed)]


def test_the_legs_of_the_page_are_those_that_are_sent() -> None:
    page = (ROOT / "docs" / "settling.md").read_text()
    rows = re.findall(r"^\| P\d \| ([\d ]+) \| ([\d +-]+) \| ([\d ]+) \|$", page, re.MULTILINE)
    assert len(rows) == 9
    for owed, wires, stays in (tuple(cell.replace(" ", "") for cell in row) for row in rows):
        cut = legs(int(owed), WireLimits())
        assert [leg.wire_cents for leg in cut if leg.wire_cents] == [
            int(wire) for wire in wires.split("+") if wire != "-"
        ]
        assert sum(leg.amount_cents - leg.wire_cents for leg in cut) == int(stays)


def test_the_columns_of_files_are_those_that_are_read_and_written() -> None:
    page = (ROOT / "docs" / "files.md").read_text()
    for columns in (
        import_records.USER_COLUMNS,
        import_records.MARKET_COLUMNS,
        import_bets.BET_COLUMNS,
        export.PAYOUT_COLUMNS,
        export.ENTRY_COLUMNS,
    ):
        assert f"```text\n{textwrap.fill(','.join(columns.header).replace(',', ', '), 90)}\n```" in page
        for name in columns.optional:
            assert f"| `{name}` |" in page


if __name__ == "__main__":
    from tests.journeys.story import act_out_by_itself

    acted = act_out_by_itself()
    texts = {name: make() for name, make in MADE.items()} | acted
    for page in ALL_PAGES:
        page.write_text(PART.sub(lambda found: found[1] + texts[found[2]] + "\n" + found[4], page.read_text()))
