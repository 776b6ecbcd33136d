"""What `kasoko init` asks a person on a terminal; Enter leaves any of it for later."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from kasoko_cli.cli.command import CommandContext
from kasoko_cli.cli.options import WrongUsage
from kasoko_cli.cli.output import render
from kasoko_cli.daraja.credentials import bundled_certificate, encrypt_security_credential
from kasoko_cli.errors import KasokoError
from kasoko_cli.settings import SETTINGS, Config, callback_trouble, trouble_with

#: What is asked of the settings, in this order.
QUESTIONS: Mapping[str, str] = {
    "daraja.shortcode": "Shortcode, the number that pays, like 600999:",
    "daraja.initiator_name": "Initiator, the user name of the API operator:",
    "daraja.callback_url": "Callback address, where the world reaches kasoko listen, like https://pay.example.org:",
}
#: What is asked without showing it.
SECRETS: Mapping[str, str] = {
    "daraja.consumer_key": "Consumer key of the app on the Daraja portal (not shown):",
    "daraja.consumer_secret": "Consumer secret of the app (not shown):",
}
CREDENTIAL = "daraja.security_credential"
CALLBACK = "daraja.callback_url"


@dataclass(frozen=True)
class Answers:
    """The secrets that were typed, by the names that `.env` has for them; in no repr."""

    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The encrypted password, if one was typed.
    sealed: str = field(default="", repr=False)
    environment: str = ""


NO_SECRETS = Answers()


def check(values: Mapping[str, str]) -> None:
    """Refuse values that the settings would refuse, before anything is written.

    Raises:
        WrongUsage: with the first of them.
    """
    for name, value in values.items():
        if trouble := trouble_with(name, value):
            raise WrongUsage(f"{name} = {value!r} {trouble}. Nothing was written.")


def check_together(values: Mapping[str, str], *, production: bool) -> None:
    """Refuse a callback address that the environment rules out, before anything is written.

    Raises:
        WrongUsage: production, and an address that is not https.
    """
    url = values.get(CALLBACK, "")
    if trouble := callback_trouble(url, production=production):
        raise WrongUsage(
            f"{CALLBACK} = {url!r} {trouble}. Nothing was written.",
            hint=f"Write --callback-url https://{url.partition('://')[2]}",
        )


def ask_settings(call: CommandContext, toml: Path, known: Mapping[str, str], *, production: bool) -> dict[str, str]:
    """Ask for the settings that were not given, unless there is a kasoko.toml that has the say.

    `production` is what holds so far; the answer to the first question may say more.
    """
    answers = dict(known)
    if toml.exists():
        return answers
    render.talk(call, "kasoko asks for what paying needs. Enter leaves an answer for later.")
    if "daraja.production" not in answers:
        said = _until_it_fits("Sandbox or production? [sandbox]", _environment)
        if said == "production":
            answers["daraja.production"] = "true"
            production = True
    if trouble := callback_trouble(answers.get(CALLBACK, ""), production=production):
        render.aside(f"{CALLBACK} = {answers.pop(CALLBACK)} {trouble}.")

    def trouble_of(name: str, text: str) -> str:
        other = callback_trouble(text, production=production) if name == CALLBACK else ""
        return trouble_with(name, text) or other

    for name, question in QUESTIONS.items():
        if name not in answers and (said := _until_it_fits(question, partial(trouble_of, name))):
            answers[name] = said
    return answers


def ask_secrets(call: CommandContext, config: Config) -> Answers:
    """Ask for the secrets that are set nowhere yet; the password is encrypted here and kept nowhere."""
    answers: dict[str, str] = {}
    for name, question in SECRETS.items():
        if config.missing(name) and (said := _until_it_fits(question, partial(trouble_with, name), ask=_hidden)):
            answers[SETTINGS[name].variable] = said
    sealed, environment = "", "production" if config.daraja.production else "sandbox"
    if config.missing(CREDENTIAL):
        sealed = _sealed(call, environment)
    if sealed:
        answers[SETTINGS[CREDENTIAL].variable] = sealed
    return Answers(answers, sealed, environment)


def _sealed(call: CommandContext, environment: str) -> str:
    """The initiator's password, encrypted for M-Pesa; empty where none was typed."""
    question = f"Initiator's password ({environment}; encrypted here, kept nowhere, not shown):"
    while password := _hidden(question):
        try:
            return encrypt_security_credential(password, bundled_certificate(environment))
        except KasokoError as error:
            render.warn(call, f"{error.message} {error.hint}")
    return ""


def _hidden(question: str) -> str:
    try:
        return render.ask_secret(question)
    except EOFError:
        return ""


def _until_it_fits(question: str, trouble_of: Callable[[str], str], *, ask: Callable[[str], str] = render.ask) -> str:
    while said := ask(question):
        if not (trouble := trouble_of(said)):
            return said
        render.aside(f"It {trouble}.")
    return ""


def _environment(text: str) -> str:
    return "" if text in {"sandbox", "production"} else "must be sandbox or production"
