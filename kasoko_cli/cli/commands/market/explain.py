"""Explaining: how the number of a payout came about, and what a code of M-Pesa means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from kasoko_cli.cli.command import CommandContext, Commands
from kasoko_cli.cli.options import argument, option
from kasoko_cli.cli.output import render
from kasoko_cli.errors import NotFound

if TYPE_CHECKING:
    from kasoko_cli.daraja.codes import Meaning

commands = Commands()


@commands.reads()
def explain(
    call: CommandContext,
    what: Annotated[
        str | None, argument("PAYOUT|CODE", "A payout like rain.1.7, or a code like 2001; else all.")
    ] = None,
    lang: Annotated[
        Literal["en", "sw"], option("--lang", None, "For a payout: English or Swahili, to be read aloud.")
    ] = "en",
) -> None:
    """Explain how a payout's amount came about, or a code.

    Of a payout: each step from the pool to the phone, in words that can be read
    to the one who is paid (no native speaker has checked the Swahili yet). Of a
    code: what happened, whether money moved, what to do. Without a word: all
    codes.

    Example: kasoko explain rain.1.7 --lang sw

    Example: kasoko explain 2001

    Exit status: 0 explained, 4 no such payout or code, 8 the bets do not lead to
    the amount that is owed.
    """
    from kasoko_cli.domain.payout import looks_like_payout_id

    if what is not None and looks_like_payout_id(what) and not _codes_named(what):
        _explain_payout(call, what, lang)
        return
    if lang == "sw" and not call.json:
        render.talk(call, "Majedwali ya misimbo yako kwa Kiingereza tu.")  # the tables of codes are in English only
    if what is None:
        _show_codes(call)
    else:
        _explain_code(call, what)


def _explain_payout(call: CommandContext, payout: str, lang: Literal["en", "sw"]) -> None:
    from kasoko_cli.cli.output.explanation_text import spoken
    from kasoko_cli.operations.settlement.explanation import explain_payout

    found = explain_payout(call.container.db, call.payout_id(payout))
    told = spoken(found, lang)
    if call.json:
        render.document({"explained": found, "lang": lang, "text": told})
        return
    render.prose(told)


def _codes_named(what: str) -> list[Meaning]:
    from kasoko_cli.daraja.codes import meanings_of

    return meanings_of(what)


def _explain_code(call: CommandContext, code: str) -> None:
    from kasoko_cli.daraja.codes import every_meaning
    from kasoko_cli.domain.market import nearest

    found = _codes_named(code)
    if not found:
        near = nearest(code, [one.code for one in every_meaning()])
        guess = f"Did you mean {near}? " if near else ""
        raise NotFound(
            f"The code {code!r} is in no table. A payout that carries it is UNKNOWN, and asked about.",
            hint=f"{guess}List the known ones: kasoko explain",
        )
    if call.json:
        render.document({"codes": found})
        return
    for number, one in enumerate(found):
        if number:
            render.line("")
        _show_code(call, one)


def _show_code(call: CommandContext, one: Meaning) -> None:
    moved = {"yes": "Yes: the money moved.", "no": "No money moved.", "maybe": "It may have: ask, never send it again."}
    where = {
        "result": "the result of a payment",
        "answer": "the answer to a request",
        "status query": "the answer to a status query",
        "kasoko": "kasoko itself, where M-Pesa gave no code",
    }[one.where]
    pairs: list[tuple[str, object]] = [
        ("code", one.code),
        ("means", one.meaning),
        ("more", one.more),
        ("money", moved[str(one.money_moved)]),
        ("becomes", one.becomes + ("; everything else stops too" if one.stops_all else "")),
        ("do", one.advice or None),
        ("said by", where),
        ("source", f"{one.source} ({str(one.sure).replace('_', ' ')})"),
    ]
    render.card(call, one.code, [pair for pair in pairs if pair[1]], document=one)


def _show_codes(call: CommandContext) -> None:
    from kasoko_cli.daraja.codes import every_meaning

    found = every_meaning()
    columns = render.columns("code", "means", "money moved", "stops all")
    rows = [(one.code, one.meaning, str(one.money_moved), "yes" if one.stops_all else "") for one in found]
    render.table(call, "Codes", columns, rows, document={"codes": found})
