"""Every pattern of the program takes time in proportion to the text: one body of 30 KB once stopped the listener.

The patterns are found by reading the source, so a new one is held to this without anybody saying so. Each is fed 64 KiB
of its worst: for every repeat in it, what leads to the repeat, then what it repeats over and over, then what ends no
match; and what begins a match, over and over. The worst of many is found at a twentieth of the length.
"""

from __future__ import annotations

import ast
import importlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import pytest

import kasoko_cli
from kasoko_cli.daraja import codes

ROOT = Path(kasoko_cli.__file__).parent
FULL, SHORT = 65_536, 3_072
#: So long may a text of 64 KiB take, in seconds of this thread; most quadratic patterns take ten and more.
MOST_SECONDS = 0.25
#: What takes so long is looked at closer: four times the text may take so many times the time.
NOTABLE_SECONDS, MOST_TIMES = 0.02, 9
USES = {"match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}


class Used(NamedTuple):
    """A pattern and how it is applied."""

    where: str
    pattern: re.Pattern[Any]
    how: str


def _patterns() -> Iterator[Used]:
    """Each pattern in the package: by a name that it is compiled to, or written where it is used."""
    for file in sorted(ROOT.rglob("*.py")):
        text = file.read_text()
        if "import re\n" not in text or "migrations" in file.parts:
            continue
        module = importlib.import_module(".".join((ROOT.name, *file.relative_to(ROOT).with_suffix("").parts)))
        named = {name: one for name, one in vars(module).items() if isinstance(one, re.Pattern)}
        for node in ast.walk(ast.parse(text)):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in USES):
                continue
            holder, how = node.func.value, node.func.attr
            if isinstance(holder, ast.Name) and holder.id in named:
                yield Used(f"{module.__name__}.{holder.id}", named[holder.id], how)
            elif isinstance(holder, ast.Name) and holder.id == "re":
                written = ast.unparse(node.args[0])
                if (pattern := _evaluated(written, vars(module))) is not None:
                    yield Used(f"{module.__name__}:{node.lineno}", pattern, how)
    for rule in (*codes.ANSWER_RULES, *codes.RESPONSE_RULES):
        if rule.text:
            yield Used(f"codes.toml: {rule.text}", re.compile(rule.text, re.IGNORECASE), "search")
        if rule.code:
            yield Used(f"codes.toml: {rule.code}", re.compile(rule.code), "fullmatch")


def _evaluated(written: str, names: dict[str, Any]) -> re.Pattern[Any] | None:
    try:
        return re.compile(eval(written, dict(names)))  # noqa: S307 - our own source
    except (NameError, AttributeError):
        return None  # made of what only the function knows


# --- The worst of texts --------------------------------------------------------------------------


def _attacks(pattern: re.Pattern[Any]) -> set[str]:
    """What to repeat, as (before, again and again, at the end) in one text of `SHORT` characters."""
    raw = pattern.pattern.decode("latin-1") if isinstance(pattern.pattern, bytes) else pattern.pattern
    parsed = _parser.parse(raw, pattern.flags)
    heads: set[tuple[str, str]] = set()
    _walk(parsed, "", heads)
    whole = _sample(parsed)
    pumps = {(head, pump) for head, pump in heads if pump}
    pumps |= {("", head + pump) for head, pump in heads if pump} | {("", head) for head, _ in heads if head}
    pumps |= {("", whole)} if whole else set()
    found = {head + pump * (SHORT // len(pump)) + end for head, pump in pumps for end in ("", "\x01", "\x01 ")}
    return {text[-SHORT:] if len(text) > 2 * SHORT else text for text in found}


def _walk(parsed: Any, head: str, heads: set[tuple[str, str]]) -> None:
    """Note what leads to each repeat, and what it repeats."""
    for op, value in parsed:
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            _, most, body = value
            if int(most) > 1:
                heads |= {(head, pump) for pump in _samples(body)}
            _walk(body, head, heads)
        elif name == "SUBPATTERN":
            _walk(value[-1], head, heads)
        elif name == "BRANCH":
            for branch in value[1]:
                _walk(branch, head, heads)
        elif name in ("ASSERT", "ASSERT_NOT"):
            _walk(value[1], head, heads)
        elif name == "ATOMIC_GROUP":
            _walk(value, head, heads)
        head += _sample([(op, value)])
    heads.add((head, ""))


def _samples(parsed: Any) -> set[str]:
    """Some texts that these parts match: with each kind of character that a lone class has."""
    if len(parsed) == 1 and str(parsed[0][0]) == "IN":
        parts = parsed[0][1]
        one_by_one = [] if str(parts[0][0]) == "NEGATE" else [[part] for part in parts]
        return {_of_class(part) for part in (parts, *one_by_one)} - {""}
    if len(parsed) == 1 and str(parsed[0][0]) == "BRANCH":
        return {_sample(branch) for branch in parsed[0][1][1]}
    if len(parsed) == 1 and str(parsed[0][0]) == "SUBPATTERN":
        return _samples(parsed[0][1][-1])
    return {_sample(parsed)}


def _sample(parsed: Any) -> str:
    """A short text that these parts match, as far as can be said without looking around."""
    text = ""
    for op, value in parsed:
        name = str(op)
        if name == "LITERAL":
            text += chr(value)
        elif name in ("NOT_LITERAL", "ANY"):
            text += "a" if value != ord("a") else "b"
        elif name == "IN":
            text += _of_class(value)
        elif name in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
            least, _, body = value
            text += _sample(body) * int(least)
        elif name == "SUBPATTERN":
            text += _sample(value[-1])
        elif name == "BRANCH":
            text += _sample(value[1][0])
        elif name == "ATOMIC_GROUP":
            text += _sample(value)
    return text


#: Looked through for a character that a class has.
_PLENTY = [*"a1 -.,0AkZ_/:;\"'<>[{(=+\t\n\\@\u2013\u00e9"]


def _of_class(parts: Any) -> str:
    """A character of a class."""
    fits = re.compile(f"[{_spelt(parts)}]")
    return next((one for one in (*_PLENTY, *map(chr, range(32, 0x2100))) if fits.match(one)), "")


_SPELT = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _spelt(parts: Any) -> str:
    text = ""
    for op, value in parts:
        name = str(op)
        if name == "NEGATE":
            text += "^"
        elif name == "LITERAL":
            text += re.escape(chr(value))
        elif name == "RANGE":
            text += f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
        elif name == "CATEGORY":
            text += _SPELT[str(value)]
    return text


def _seconds(used: Used, text: str) -> float:
    subject: Any = text.encode("latin-1", "replace") if isinstance(used.pattern.pattern, bytes) else text
    apply = getattr(used.pattern, used.how)
    began = time.thread_time()
    if used.how in ("sub", "subn"):
        apply("", subject) if isinstance(subject, str) else apply(b"", subject)
    elif used.how == "finditer":
        for _ in apply(subject):
            pass
    else:
        apply(subject)
    return time.thread_time() - began


def _longer(text: str, length: int) -> str:
    """The same text at this length: its middle over and over."""
    half = len(text) // 2
    middle = text[half - half // 2 : half + half // 2]
    return text[:half] + middle * ((length - len(text)) // max(1, len(middle))) + text[half:]


ALL = sorted({(one.pattern, one.how): one for one in _patterns()}.values(), key=lambda one: (one.where, one.how))


def test_the_patterns_are_found() -> None:
    """Those of the wire, of statements and of files, by name and in place."""
    found = {one.where for one in ALL}
    assert len(found) > 90
    assert {
        "kasoko_cli.domain.phone._PHONE_IN_TEXT",
        "kasoko_cli.operations.reconciliation.statement_party._WITHIN",
    } <= found


@pytest.mark.parametrize("used", ALL, ids=lambda used: f"{used.where} {used.how}")
def test_a_pattern_takes_time_in_proportion_to_the_text(used: Used) -> None:
    attacks = sorted(_attacks(used.pattern), key=lambda text: _seconds(used, text))
    for text in attacks[-3:]:
        like = f"a text like {text[:40]!r}"
        quarter, whole = _longer(text, FULL // 4), _longer(text, FULL)
        first = _seconds(used, quarter)
        assert first < MOST_SECONDS / 4, like
        second = _seconds(used, whole)
        assert second < MOST_SECONDS, like
        if second > NOTABLE_SECONDS:
            first, second = min(first, _seconds(used, quarter)), min(second, _seconds(used, whole))
            assert second < MOST_TIMES * first, like
