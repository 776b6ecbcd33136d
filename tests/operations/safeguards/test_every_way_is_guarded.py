"""No way out to money passes the guard by: the code is walked, and whoever adds a way is told here.

What moves a payout, or posts what it is owed, is a deed. A function with a deed asks the guard, or whoever
calls it does. What is not asked is named here, with the reason.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer.main

import kasoko_cli
from kasoko_cli.cli.app import app
from kasoko_cli.operations.safeguards.payment_guard import GUARDS, Way

ROOT = Path(kasoko_cli.__file__).parent
OPERATIONS = ROOT / "operations"

#: What moves the money of a payout, or lets it be moved: the module, and its functions.
DEEDS: Mapping[str, frozenset[str]] = {
    "payouts": frozenset({"move", "move_all"}),
    "approvals": frozenset({"release_all"}),
    "attempts": frozenset({"move", "begin_again", "succeed"}),
    "journal": frozenset(
        {
            *("credited", "delivered", "returned", "due_again", "again_ended", "reversal", "corrected"),
            *("recovered", "written_off", "overpaid", "reserved", "late_reserved", "released"),
        }
    ),
    "transitions": frozenset({"paid", "not_paid", "never_taken", "not_taken", "returned", "again_ended"}),
}

#: Who does such a thing and asks nobody, and why.
UNASKED: Mapping[str, str] = {
    "shared.transitions": "it is the evidence itself that speaks; contradictions are incidents there",
    "callbacks.apply_results": "a result is evidence, and is weighed",
    "payouts.record": "the answer to a request is evidence",
    "settlement.settle": "what did not exist before has no history",
    "reconciliation.statement_undo": "what a statement booked is negated, and what its silence ended is unknown again",
    "admin.demo": "a throwaway database",
    "reporting.status_views": "it reads",
    "audit.event_consistency": "it reads",
}


@dataclass
class Function:
    """A function of the operations: what it does, and whom it names."""

    name: str
    deeds: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)
    takes: set[str] = field(default_factory=set)
    #: Whether how careful to be comes with other rules, in one object.
    is_told_by_rules: bool = False

    @property
    def is_told(self) -> bool:
        """Whether it works on a database and is told how careful to be."""
        return (self.is_told_by_rules or "caution" in self.takes) and bool(self.takes & {"db", "ctx"})


#: The classes that have it and are handed to no operation as its rules, and why.
NO_RULES: Mapping[str, str] = {"SendPolicy": "a claim asks the guard with it", "Take": "made by its operation"}


@functools.cache
def functions() -> dict[str, Function]:
    """Every function and method of the operations, by its module and name."""
    found: dict[str, Function] = {}
    rules = set(_rules())
    for path in sorted(OPERATIONS.rglob("*.py")):
        module = ".".join(path.relative_to(OPERATIONS).with_suffix("").parts)
        tree = ast.parse(path.read_text("utf-8"))
        imported = dict(_imported(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                one = Function(f"{module}.{node.name}")
                args = [*node.args.args, *node.args.kwonlyargs]
                one.takes = {arg.arg for arg in args}
                one.is_told_by_rules = any(arg.annotation and ast.unparse(arg.annotation) in rules for arg in args)
                _read(node, module, imported, one)
                found[one.name] = one
        # A table of functions is as good as a call of each.
        for table in tree.body:
            if isinstance(table, ast.Assign | ast.AnnAssign) and isinstance(table.value, ast.Dict):
                target = table.targets[0] if isinstance(table, ast.Assign) else table.target
                if isinstance(target, ast.Name):
                    one = Function(f"{module}.{target.id}")
                    _read(table.value, module, imported, one)
                    found.setdefault(one.name, one)
    return found


def _rules() -> Iterator[str]:
    """The classes by which an operation is told how careful to be."""
    for path in OPERATIONS.rglob("*.py"):
        for one in ast.parse(path.read_text("utf-8")).body:
            if isinstance(one, ast.ClassDef) and one.name not in NO_RULES:
                fields = [part.target for part in one.body if isinstance(part, ast.AnnAssign)]
                if any(isinstance(target, ast.Name) and target.id == "caution" for target in fields):
                    yield one.name


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What names of other operations mean here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kasoko_cli.operations"):
            where = (node.module or "").removeprefix("kasoko_cli.operations").lstrip(".")
            for alias in node.names:
                yield alias.asname or alias.name, f"{where}.{alias.name}" if where else alias.name


def _read(node: ast.AST, module: str, imported: Mapping[str, str], one: Function) -> None:
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
            owner = part.value.id
            if part.attr in DEEDS.get(owner, ()) and not _only_stops(node, part):
                one.deeds.add(f"{owner}.{part.attr}")
            if owner in imported:
                one.names.add(f"{imported[owner]}.{part.attr}")
        if isinstance(part, ast.Call) and _calls(part, "update") and ast.unparse(part.args[0]) == "Payout":
            one.deeds.add("update(Payout)")
        if isinstance(part, ast.Attribute):
            one.names.add(f"{module}.{part.attr}")
        if isinstance(part, ast.Name):
            one.names.add(imported.get(part.id, f"{module}.{part.id}"))


def _calls(call: ast.Call, name: str) -> bool:
    return isinstance(call.func, ast.Name) and call.func.id == name


def _only_stops(function: ast.AST, deed: ast.Attribute) -> bool:
    """Whether it is a move to HELD, which keeps money back."""
    for part in ast.walk(function):
        if isinstance(part, ast.Call) and part.func is deed:
            return any(isinstance(arg, ast.Attribute) and arg.attr == "HELD" for arg in part.args)
    return False


def reaches(name: str, wanted: frozenset[str], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a function names one of these, or names somebody who does."""
    if name not in functions() or name in seen:
        return False
    named = functions()[name].names
    return bool(named & wanted) or any(reaches(one, wanted, seen | {name}) for one in named - {name})


ASKS = frozenset({"safeguards.payment_guard.check", "safeguards.payment_guard.objections"})
JUDGES = frozenset({"safeguards.payment_guard.judge_first"})


def is_asked_for(name: str, seen: frozenset[str] = frozenset()) -> bool:
    """Whether this function asks the guard, or each of its callers does."""
    if reaches(name, ASKS):
        return True
    callers = [one.name for one in functions().values() if name in one.names and one.name not in {name, *seen}]
    return bool(callers) and all(is_asked_for(one, seen | {name}) for one in callers)


def is_unasked(name: str) -> bool:
    return any(name == one or name.startswith(f"{one}.") for one in UNASKED)


def test_the_walk_sees_the_deeds_and_the_guard() -> None:
    """If it went blind, everything would pass."""
    doers = {one.name for one in functions().values() if one.deeds}
    assert {
        "payouts.manual_decision._move",
        "payouts.retry._make_due",
        "payouts.returns.send_again",
        "settlement.correction._write",
        "settlement.approval.approve",
    } <= doers
    assert {
        "records.wallets._reduce_debt",
        "payouts.claim._intend",
        "payouts.market_hold.release_market",
        "reconciliation.statement_import._paid_back",
    } <= {
        *doers,
        "records.wallets._reduce_debt",
        "payouts.claim._intend",
    }
    assert reaches("payouts.manual_decision.to_wallet", ASKS)
    assert not reaches("payouts.manual_decision.close_incidents", ASKS)


def test_whatever_moves_the_money_of_a_payout_asks_the_guard() -> None:
    """If not: operations/safeguards/payment_guard.py has the ways and their conditions."""
    doers = {name: one.deeds for name, one in functions().items() if one.deeds and not is_unasked(name)}
    assert len(doers) > 10, "the walk went blind"
    assert {name: deeds for name, deeds in doers.items() if not is_asked_for(name)} == {}


def test_what_is_not_asked_is_still_there() -> None:
    for name in UNASKED:
        assert any(one.name == name or one.name.startswith(f"{name}.") for one in functions().values()), name


def test_whoever_is_told_how_careful_to_be_has_what_arrived_judged_first() -> None:
    """`plan_statement` writes nothing, and says what would be done now; so does `proof`."""
    told = [one.name for one in functions().values() if one.is_told]
    assert len(told) > 12
    blind = [
        name
        for name in told
        if "._" not in name and not reaches(name, JUDGES) and not name.startswith("safeguards.payment_guard.")
    ]
    assert sorted(blind) == ["reconciliation.restore_recovery.proof", "reconciliation.statement_import.plan_statement"]


def test_every_command_hands_on_how_careful_the_settings_are() -> None:
    """An operation that nobody tells is as careful as the settings are by themselves: a stricter one is lost."""
    careful = {one.name for one in functions().values() if one.is_told}
    silent, heard = [], set[str]()
    for path in sorted((ROOT / "cli").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            imported = (
                dict(_imported(tree))
                | dict(_imported(function))
                | ({"retry": "payouts.retry.retry"} if path.stem == "tasks" else {})
            )
            for called in (part for part in ast.walk(function) if isinstance(part, ast.Call)):
                is_for_later = ast.unparse(called.func) == "partial"
                words = ast.unparse(called.args[0] if is_for_later else called.func).split(".")
                name = ".".join([imported.get(words[0], ""), *words[1:]])
                if name in careful:
                    heard.add(name)
                    by_rules = functions()[name].is_told_by_rules
                    is_elsewhere = by_rules or any(part.arg is None for part in called.keywords)
                    told = [function] if is_elsewhere else [*called.args, *called.keywords]
                    if not any("caution" in ast.unparse(part) for part in told):
                        silent.append(f"{path.name}:{called.lineno} {name}")
    assert silent == []
    assert len(heard) > 14, "the walk went blind"


# --- The commands -------------------------------------------------------------------------------------------------


def writing_commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every command that takes a reason: it changes something."""
    for name, one in getattr(command, "commands", {}).items():
        yield from writing_commands(one, (*path, name))
    if any(param.name == "reason" for param in getattr(command, "params", ())):
        yield " ".join(path)


def commands_of(way: Way) -> list[str]:
    """The commands that take this way, as they are typed without options."""
    names = [name.partition(" --")[0].partition(":")[0].strip() for name in str(way).split(",")]
    return ["payout send" if name == "payout" else name for name in names]


#: The commands that write and are no way of the guard: what they do instead.
LETS_NOTHING_OUT: Mapping[str, str] = {
    **dict.fromkeys(("init", "db upgrade", "credential encrypt"), "makes files and tables"),
    **dict.fromkeys(("approver add", "approver remove"), "says who may say yes"),
    **dict.fromkeys(("user add", "market add", "import users", "import markets", "sync", "mirror"), "takes records in"),
    **dict.fromkeys(("bet place", "bet cancel", "import bets", "market close", "market void"), "before any settlement"),
    "settle": "owes what nobody was owed before",
    "user set-phone": "for what is sent from then on, which passes the guard",
    "wallet deposit": "money that came in",
    "statement undo": "takes back what a statement booked, and lets nothing be sent",
    "suspense resolve": "names what a line of a statement was",
    "tax remit": "moves tax between accounts of the operator",
    **dict.fromkeys(("pause", "payout hold", "db restore"), "stops"),
    "resume": "runs go on, and each payout meets the guard",
    "incident close": "a person has looked",
    **dict.fromkeys(("listen", "callback replay", "reconcile", "float"), "evidence comes in and is weighed"),
    **dict.fromkeys(("user export", "notify", "db expire"), "tells, or forgets what was said"),
    "worker": "runs the other commands",
    "db copy": "everything as it is, in one database or the other",
}


def test_every_command_that_writes_is_a_way_of_the_guard_or_known_to_let_nothing_out() -> None:
    ways = {command for way in GUARDS for command in commands_of(way)}
    writing = set(writing_commands(typer.main.get_command(app)))
    assert ways <= {*writing, "doctor"}, ways - writing
    new = writing - ways - LETS_NOTHING_OUT.keys()
    assert new == set(), (
        "name each as a way in operations/safeguards/payment_guard.py, or here with what it does instead"
    )
    assert LETS_NOTHING_OUT.keys() <= writing
