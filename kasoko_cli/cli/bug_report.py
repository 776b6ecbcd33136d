"""A bug told to Sentry, for those who want that: what went wrong and where, and nothing private.

Off unless KASOKO_SENTRY_DSN is set and the extra `sentry` is installed. Sent are the kind of error, its message
without secrets and phones, and the lines of code it came from. Never sent are values of variables, the command
line, settings, the host's name, and who ran it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kasoko_cli.domain.phone import mask_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from kasoko_cli.config import Config

#: How long a command that has failed already may wait for Sentry, in seconds.
PATIENCE_SECONDS = 2.0
#: What of an event may leave: anything else that an SDK learns to add stays here.
_ALLOWED = ("event_id", "timestamp", "platform", "level", "release", "exception")


def tell_sentry(config: Config, error: BaseException, *, transport: Any = None) -> bool:
    """Send a bug to Sentry, if it is set up; returns whether it was sent. Never raises: the bug itself comes first."""
    dsn = config.alerts.sentry_dsn
    if dsn is None:
        return False
    try:
        import sentry_sdk
        from sentry_sdk.utils import event_from_exception
    except ImportError:
        return False
    from kasoko_cli import __version__

    try:
        client = sentry_sdk.Client(
            dsn=dsn.get_secret_value(),
            release=f"kasoko@{__version__}",
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            include_source_context=False,
            max_breadcrumbs=0,
            server_name="",
            before_send=lambda event, _hint: scrubbed(event, lambda text: without_rows(config.redact(text), error)),
            transport=transport,
        )
        event, hint = event_from_exception(error, client_options=client.options)
        sent = client.capture_event(event, hint)
        client.close(timeout=PATIENCE_SECONDS)
    except Exception:
        return False
    return sent is not None


def without_rows(text: str, error: BaseException) -> str:
    """A text about an error without the rows and values that a database quoted in it, in whatever language."""
    quoted: set[str] = set()
    waiting: list[BaseException | None] = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__, getattr(one, "orig", None)]
        if (said := getattr(one, "diag", None)) is not None:
            quoted |= {said.message_detail, said.context}
            if str(said.sqlstate).startswith("22"):  # a value that cannot be used stands in the message itself
                quoted.add(said.message_primary)
    for words in sorted(filter(None, quoted), key=len, reverse=True):
        text = text.replace(words, "(hidden)")
    return text


def scrubbed(event: Any, redact: Callable[[str], str]) -> Any:
    """The event with only what may leave the house, and every text in it without secrets and phones."""
    kept = {name: event[name] for name in _ALLOWED if name in event}

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: clean(item) for name, item in value.items() if name not in {"vars", "abs_path"}}
        if isinstance(value, list | tuple):
            return [clean(item) for item in value]
        return mask_in(redact(value)) if isinstance(value, str) else value

    return clean(kept)
