"""An option that stands before its command: where it goes, as the command line that would have been right."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from kasoko_cli.domain.phone import mask_in

#: Options whose values say where the program works: they may hold a password, and are left to be filled in.
WHERE = ("--database", "--config")


def right_order(root: Any, words: Sequence[str]) -> str:
    """The command line with its first options behind the command; empty where that does not take them all."""
    command, path, early, rest = root, ["kasoko"], list[str](), list(words)
    before = ""
    while rest and rest[0] != "--" and hasattr(command, "commands"):
        word = rest[0]
        if word in command.commands:
            command = command.commands[word]
            path.append(word)
        elif word.startswith("-") or (before.startswith("-") and "=" not in before):
            early.append(word)  # an option, or the value of one
        else:
            break
        before = rest.pop(0)
    leaf = command.commands.get(getattr(command, "default", "")) if hasattr(command, "commands") else command
    moved = None if leaf is None else _taken(leaf, early)
    if not moved:
        return ""
    end = rest.index("--") if "--" in rest else len(rest)
    told = shlex.join([*path, *rest[:end], *moved, *rest[end:]])
    return told if told == mask_in(told) else shlex.join([*path, "...", *moved])


def _taken(command: Any, early: Sequence[str]) -> list[str] | None:
    """The options as they would be typed behind the command; None where it does not take one of them so."""
    known = {name: one for one in command.params for name in one.opts if name.startswith("-")}
    told, rest = list[str](), list(early)
    while rest:
        word = rest.pop(0)
        name, has_value, _ = word.partition("=")
        if name not in known:
            return None
        is_flag = bool(getattr(known[name], "is_flag", False))
        value = [] if is_flag or has_value else rest[:1]
        if (is_flag and has_value) or not (is_flag or has_value or value):
            return None
        del rest[: len(value)]
        told += [name, str(known[name].metavar)] if name in WHERE else [word, *value]
    return told
