"""The one place where an error becomes a message and an exit code.

A command is a plain function of a `CommandContext` and its own parameters. `Commands.reads` and `writes` add the
options that every command takes, run it, and see to it that whatever goes wrong ends as a sentence, a hint, a number.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Concatenate, ParamSpec, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from kasoko_cli.cli.help import layout
from kasoko_cli.cli.help.command_index import WORDS
from kasoko_cli.cli.options import (
    ActorName,
    ConfigFile,
    DatabaseUrl,
    Json,
    NeededReason,
    Quiet,
    Reason,
    Verbose,
    WrongUsage,
    Yes,
)
from kasoko_cli.cli.output import render
from kasoko_cli.errors import ConfigurationError, KasokoError
from kasoko_cli.store.engine import server
from kasoko_cli.streams import AnswerLost, heed, trouble_with

if TYPE_CHECKING:
    from kasoko_cli.cli.container import Container
    from kasoko_cli.operations.shared.actor import Actor
    from kasoko_cli.operations.shared.context import OperationContext
    from kasoko_cli.operations.shared.run_registry import AtWork

P = ParamSpec("P")
Body = Callable[Concatenate["CommandContext", P], None]

#: What the process exits with when it was interrupted: 128 + SIGINT, as shells have it.
INTERRUPTED = 130


@dataclass(frozen=True, kw_only=True)
class CommandContext:
    """One call of one command: what its shared options say, and the container behind it."""

    #: None means kasoko.toml of this folder, if it is there.
    config_file: Path | None = None
    #: None means what the settings say.
    database_url: str | None = None
    json: bool = False
    quiet: bool = False
    verbose: bool = False
    yes: bool = False
    #: Who does this and why, recorded on every act.
    actor: str = ""
    reason: str | None = None
    #: Whether the command changes something.
    writes: bool = True
    #: A container that was handed in, by a test or by another command.
    handed_in: Container | None = None

    @functools.cached_property
    def container(self) -> Container:
        """The settings, the database and M-Pesa, made when they are first asked for.

        Raises:
            ConfigurationError: the settings cannot be read or used.
        """
        if self.handed_in is not None:
            return self.handed_in
        from kasoko_cli.cli.container import Container

        options = {"--database": self.database_url}
        container = Container.from_settings(self.config_file, options=options, only_reads=not self.writes)
        container.tell = functools.partial(render.talk, self)
        for warning in container.config.warnings:
            render.warn(self, warning)
        return container

    @property
    def who(self) -> Actor:
        """Who does this and why, as operations write it down."""
        from kasoko_cli.operations.shared.actor import Actor

        return Actor(self.actor, self.reason or "")

    @property
    def context(self) -> OperationContext:
        """What an operation works on: the database, the clock, and who does this."""
        from kasoko_cli.operations.shared.context import OperationContext

        return OperationContext(self.container.db, self.container.clock, self.who)

    def payout_id(self, payout: str) -> str:
        """The id of a payout that was named by its id or with its market's slug. Raises NotFound if there is none."""
        return self.payout_ids([payout])[0]

    def payout_ids(self, payouts: Sequence[str]) -> list[str]:
        """The same of several, each once."""
        from kasoko_cli.operations.shared.names import payout_ids

        return payout_ids(self.container.db, payouts)

    def signed(self, file: Path | None) -> OperationContext:
        """The same, with the key that they sign with: in this file, or in the one of the settings.

        Raises:
            NotFound: there is no such file.
            ConfigurationError: it is no key, or others can read it.
        """
        return replace(self.context, actor=replace(self.who, key=self.container.signing_key(file)))

    def with_reason(self) -> CommandContext:
        """The same with a reason, for what is not done without: asked for where somebody can be.

        Raises:
            WrongUsage: none was given.
        """
        if (self.reason or "").strip():
            return self
        reason = render.ask("Why? For whoever reads the record:") if render.is_somebody_here() and not self.yes else ""
        if not reason:
            from kasoko_cli.domain.phone import mask_in

            raise WrongUsage(
                "This needs a reason, for whoever reads the record. Nothing was done.",
                hint=f"Say why: {mask_in(_typed_again())} --reason TEXT",
            )
        opened = self.container if "container" in self.__dict__ else self.handed_in
        return replace(self, reason=reason, handed_in=opened)

    def at_work(self, command: str, *, market: str | None, alone: bool = True) -> AbstractContextManager[AtWork]:
        """Stand in the list of runs while the block works; see `run_registry.at_work`.

        Raises:
            Busy: a run that is alive has this work.
            NotFound: there is no such market.
        """
        from kasoko_cli.operations.shared.run_registry import at_work

        return at_work(self.context, self.container.new_id, command=command, market=market, alone=alone)

    def ended_well(self, command: str) -> None:
        """Write down that this command, which is no run, did: the metrics say when it last has."""
        from kasoko_cli.operations.shared.run_registry import note_success

        with contextlib.suppress(KasokoError):  # tables of another version, of which a copy was taken
            note_success(self.context, command)

    def close(self) -> None:
        """Give back what this call opened; a container that was handed in stays open."""
        if self.handed_in is None and "container" in self.__dict__:
            self.container.close()


class _Page:
    """A help text laid out by `layout`, with a flag as `--json`, where Typer would write `--json <bool>`."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help text, for the terminal that standard output is."""
        page = layout.Page(layout.width_of(), bold=layout.has_colour(sys.stdout))
        formatter.write(layout.command_page(ctx, self, page))

    def get_params(self, ctx: Any) -> list[Any]:
        """Every option and argument."""
        options: list[Any] = super().get_params(ctx)  # type: ignore[misc]  # of the class that this is mixed into
        for option in options:
            if getattr(option, "is_flag", False):
                option.metavar = ""
        return options


class Command(_Page, TyperCommand):
    """One command, as the help text shows it."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, where more can be said than that everything is recorded."""

    def __init__(
        self, message: str = "Interrupted; everything is recorded.", hint: str = "Look how things stand: kasoko status"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Group(_Page, TyperGroup):
    """A group that knows what to do when its first word is no command: its default, or its help.

    `kasoko payout rain` means `kasoko payout send rain`, and `kasoko market` alone shows its help.
    """

    #: The command that is meant when none is named; empty for the help text.
    default: ClassVar[str] = ""

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        """Its commands; and what the default command could begin with, which may stand there too."""
        offered = super().shell_complete(ctx, incomplete)
        if self.default:
            default = self.commands[self.default]
            offered += (
                default.make_context(self.default, [], parent=ctx, resilient_parsing=True)
                .command.params[0]
                .shell_complete(ctx, incomplete)
            )
        return offered

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Put the default command before words that name none."""
        # A shell that completes a word asks with nothing yet, and wants to see the commands.
        if not args and not ctx.resilient_parsing:
            args = [self.default or ctx.help_option_names[-1]]
        elif args and self.default and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class Root(Group):
    """The whole program: tells wrong usage as we tell errors."""

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> Any:  # type: ignore[override]
        """Run the command line; always ends in SystemExit with the exit code."""
        words = list(sys.argv[1:] if args is None else args)
        _typed.set(words)
        try:
            # Typer strips the colour of its own words, as those about completion, where there may be none.
            code = super().main(words, **{**extra, "standalone_mode": False, "color": layout.has_colour(sys.stdout)})
        except typer.TyperException as error:
            code = error.exit_code
            hint = getattr(error, "hint", "") or self._behind(error, words) or _where_to_read(error)
            # The options were not understood, so there is no CommandContext that could say how to answer.
            render.error(
                " ".join(error.format_message().split()), hint, kind="usage", exit_code=code, json="--json" in words
            )
        except typer.Abort:
            code = INTERRUPTED
        sys.exit(code if isinstance(code, int) else 0)

    def _behind(self, error: typer.TyperException, words: Sequence[str]) -> str:
        """Where an option goes that stands before the command which takes it; empty where that is not what is wrong."""
        ctx = getattr(error, "ctx", None)
        if not hasattr(error, "option_name") or not isinstance(getattr(ctx, "command", None), Group):
            return ""
        from kasoko_cli.cli.help.misplaced import right_order

        told = right_order(self, words)
        return told and f"Options stand behind their command: {told}"


class Commands(typer.Typer):
    """A noun of the command line, or the root's own verbs when it has no name."""

    def __init__(self, name: str | None = None, about: str | None = None, *, default: str = "") -> None:
        """What a noun is for is what the front page says, unless it says more `about` itself."""
        kind = type("DefaultGroup", (Group,), {"default": default})
        about = next((word.says for word in WORDS if word.name == name), None) if about is None else about
        super().__init__(name=name, help=about, cls=kind, add_completion=False, rich_markup_mode=None)

    def reads(self, name: str | None = None, *, answers: bool = True) -> Callable[[Body[P]], Body[P]]:
        """Make the function a command that changes nothing.

        `answers` is whether what it prints is all that it is for, so that it fails where that cannot be written: not
        so where its exit code says it too, or it does something besides.
        """
        return self._command(name, _READS, answers=answers)

    def writes(self, name: str | None = None, *, reason: bool = False) -> Callable[[Body[P]], Body[P]]:
        """Make the function a command that changes something: it also takes --yes, --actor and --reason.

        With `reason` it is not done without one, unless it only shows a --plan.
        """
        return self._command(name, _WRITES_WITH_REASON if reason else _WRITES, answers=False)

    def _command(self, name: str | None, shared: _Shared, *, answers: bool) -> Callable[[Body[P]], Body[P]]:
        def register(body: Body[P]) -> Body[P]:
            command = _with_shared_options(body, shared, answers=answers)
            self.command(name, cls=Command)(command)
            return body

        return register


#: The shared options: name in CommandContext or in the code below, annotation, default.
_Shared = Sequence[tuple[str, Any, Any]]
_ALWAYS: _Shared = [("config_file", ConfigFile, None), ("database_url", DatabaseUrl, None), ("json", Json, False)]
_TALK: _Shared = [("quiet", Quiet, False), ("verbose", Verbose, False)]
_WHO: _Shared = [("yes", Yes, False), ("actor", ActorName, None)]
_READS: _Shared = [*_ALWAYS, *_TALK]
_WRITES: _Shared = [*_READS, *_WHO, ("reason", Reason, None)]
_WRITES_WITH_REASON: _Shared = [*_READS, *_WHO, ("reason", NeededReason, None)]


def _with_shared_options(body: Callable[..., None], shared: _Shared, *, answers: bool) -> Callable[..., None]:
    """The function that Typer sees: the body's own parameters, then the shared ones.

    A parameter that is a NamedTuple stands for its fields: options that several commands take together.
    """
    first, *taken = inspect.signature(body, eval_str=True).parameters.values()
    together = {one.name: one.annotation for one in taken if hasattr(one.annotation, "_fields")}
    own = [part for one in taken for part in (_parts_of(one.annotation) if one.name in together else [one])]
    assert first.annotation is CommandContext, f"{body.__qualname__} takes a CommandContext first"

    @functools.wraps(body)
    def command(ctx: typer.Context, **given: Any) -> None:
        said = {name: given.pop(name) for name, *_ in shared}
        said["actor"] = said.get("actor") or os_user()
        for name, options in together.items():
            given[name] = options(*(given.pop(part) for part in options._fields))
        server.called(ctx.command_path)
        call = CommandContext(**said, writes=shared is not _READS, handed_in=ctx.obj)
        try:
            if shared is _WRITES_WITH_REASON and not given.get("plan"):
                call = call.with_reason()
            run(call, functools.partial(body, call, **given), answers=answers)
        except WrongUsage as error:
            error.ctx = ctx
            raise

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(kind=kind) for parameter in own),
        *(
            inspect.Parameter(name, kind, annotation=annotation, default=default)
            for name, annotation, default in shared
        ),
    ]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _parts_of(options: Any) -> list[inspect.Parameter]:
    """The fields of a NamedTuple as parameters of a command."""
    hints = get_type_hints(options, include_extras=True)
    kind, usual = inspect.Parameter.KEYWORD_ONLY, options._field_defaults
    return [inspect.Parameter(name, kind, annotation=hints[name], default=usual[name]) for name in options._fields]


def os_user() -> str:
    """The name of the user whose process this is; in a container without names, the number."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid {os.getuid()}"


def run(call: CommandContext, body: Callable[[], None], *, answers: bool = False) -> None:
    """Run a command's body; whatever goes wrong becomes a message on stderr and an exit code.

    What was done is done, whether it could be told or not: only where the body `answers` and does nothing else does
    an answer that could not be written change the exit code.

    Raises:
        typer.Exit: with the code, when it is not 0.
        typer.TyperException: the command line was wrong; `Root` tells that.
    """
    try:
        try:
            body()
            _see_it_out(call, answers=answers)
        finally:
            call.close()
    except (typer.Exit, typer.Abort, typer.TyperException):
        raise
    except KasokoError as error:
        if not (error.needs_nobody and render.unattended(call)):
            hint = f"{error.hint}: {_typed_again()}" if error.again else error.hint
            render.error(error.message, hint, kind=error.kind, exit_code=error.exit_code, json=call.json)
        if call.verbose:
            render.aside(_redacted(call, error))
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt as stop:
        said = stop if isinstance(stop, Interrupted) else Interrupted()
        render.error(said.message, said.hint, kind="interrupted", exit_code=INTERRUPTED, json=call.json)
        raise typer.Exit(INTERRUPTED) from None
    except AnswerLost as lost:
        raise typer.Exit(_tell_lost(call, lost.why)) from None
    except Exception as error:
        _tell_a_bug(call, error)
        raise typer.Exit(1) from None


#: The words of the command line under way.
_typed: ContextVar[Sequence[str]] = ContextVar("typed", default=())


def _typed_again() -> str:
    """The command that was typed, to be typed again."""
    from kasoko_cli.cli.help.misplaced import WHERE

    words = list[str]()
    rest = iter(_typed.get())
    for word in rest:
        if word in WHERE:
            next(rest, None)
        elif not word.startswith(tuple(f"{option}=" for option in WHERE)):
            words.append(word)
    return shlex.join(["kasoko", *words])


def place_of(error: BaseException) -> str:
    """The file, without its folder, and the line where it was raised: `book.py:120`."""
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    return f"{Path(where.tb_frame.f_code.co_filename).name}:{where.tb_lineno}" if where is not None else "?"


def _tell_a_bug(call: CommandContext, error: Exception) -> None:
    """Say that something unforeseen happened, and where; its words only with --verbose, and redacted."""
    render.error(
        f"Something happened that was not foreseen: {type(error).__name__} at {place_of(error)}.",
        "What was committed stays; look how things stand: kasoko status. "
        + ("Report it with the lines below." if call.verbose else "Run it again with --verbose to see more."),
        kind="bug",
        exit_code=1,
        json=call.json,
    )
    if call.verbose:
        render.aside(_redacted(call, error))
    if "container" in call.__dict__ and call.container.config.alerts.sentry_dsn is not None:
        from kasoko_cli.cli.bug_report import tell_sentry

        tell_sentry(call.container.config, error)


def _redacted(call: CommandContext, error: BaseException) -> str:
    """The traceback without secrets and without whole phone numbers."""
    import traceback

    from kasoko_cli.cli.bug_report import without_rows
    from kasoko_cli.domain.phone import mask_in

    text = without_rows("".join(traceback.format_exception(error)), error)
    if "container" in call.__dict__:
        text = call.container.config.redact(text)
    return mask_in(text)


def _see_it_out(call: CommandContext, *, answers: bool) -> None:
    """See that what was printed went out; where that is not all that was asked for, only say that it did not."""
    sys.stdout.flush()
    if answers:
        heed(sys.stdout)
    elif (why := trouble_with(sys.stdout)) and not isinstance(why, BrokenPipeError):
        render.warn(call, f"What was done is done, and could not all be told: {why.strerror}.")


def _tell_lost(call: CommandContext, why: OSError) -> int:
    """Say that an answer is not whole; whoever stopped reading it, as `head` does, knows. The exit code."""
    if isinstance(why, BrokenPipeError):
        return 0
    error = ConfigurationError(
        f"The answer is not whole, since it could not be written: {why.strerror}. Nothing was changed.",
        hint="Make room where it goes, then do the same again.",
    )
    render.error(error.message, error.hint, kind=error.kind, exit_code=error.exit_code, json=call.json)
    return error.exit_code


def _where_to_read(error: typer.TyperException) -> str:
    """The help text that would have helped; Typer's errors and ours know which command it was."""
    ctx = getattr(error, "ctx", None)
    return f"Read how it is used: {ctx.command_path if ctx else 'kasoko'} --help"
