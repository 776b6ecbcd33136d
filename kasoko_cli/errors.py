"""Every error raised on purpose, as a tree, with its exit code.

```text
KasokoError               1   (also: a bug, with its traceback)
  ConfigurationError      3   a setting, a secret or the database is not as a run needs it
    DatabaseUnavailable   3   the database cannot be opened, or is gone
    SchemaOutOfDate       3   the database has another version of the tables
    DatabaseClosed        3   the database has moved elsewhere, or is a copy that is not finished
  NotFound                4   no such market, user, bet, payout or file
  Refused                 5   the rules forbid it; nothing was changed
    Paused                5   a person has stopped all sending
  NotSent                 6   M-Pesa certainly did not take it; no money moved
    AccountRefused        6   M-Pesa refuses the account, not the payment; the run stops
  OutcomeUnknown          7   nobody here knows whether money moved
  ContradictoryResult     7   two results disagree; a person decides
  CheckFailed             8   a check found something
    LedgerUnbalanced      8   an entry or the books do not sum to zero
  Busy                    9   another run has this work
  Unfinished             10   what was begun stands, and the rest of it was refused
```
"""

from __future__ import annotations

import re
from typing import ClassVar


class KasokoError(Exception):
    """Something went wrong that an operator can act on.

    The message says what happened to which thing; `hint` says what to do next.
    """

    #: What the process exits with; the README's table holds the same numbers.
    exit_code: ClassVar[int] = 1
    #: What to do next, where the place that raises it knows no better.
    hint: str = "Run it again with --verbose. What to do after trouble: kasoko help recovery"
    #: Nobody has to act on it, since somebody sees to it already: under cron it is not worth a mail.
    needs_nobody: bool = False

    def __init__(self, message: str, *, hint: str | None = None, again: bool = False) -> None:
        super().__init__(message)
        self.message = message
        #: The hint ends by saying that it be run again: whoever knows what was typed names it.
        self.again = again
        if hint is not None:
            self.hint = hint

    @property
    def kind(self) -> str:
        """The error's name for programs: `NotFound` is `not_found`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", type(self).__name__).lower()


class ConfigurationError(KasokoError):
    """A setting, a secret or the database is not as a run needs it."""

    exit_code = 3
    hint = "See what is set, and where: kasoko config show --origin"


class DatabaseUnavailable(ConfigurationError):
    """The database cannot be opened, or is gone."""

    #: Whether it answers, and only takes no writes: a replica, or a standby that is not the primary yet.
    is_replica = False
    #: How long a command that begins waits for it: a server that is starting will answer soon, and one that refuses
    #: connections may be just about to.
    wait_seconds = 0
    hint = "Point --database at it; is there a backup? kasoko db restore FILE"


class SchemaOutOfDate(ConfigurationError):
    """The database has another version of the tables than this program."""

    hint = "Take a backup, then: kasoko db upgrade"


class DatabaseClosed(ConfigurationError):
    """The database has moved elsewhere, or is a copy that is not finished."""

    hint = "Nothing was changed. Point database.url at the one that is in use."


class NotFound(KasokoError):
    """No such market, user, bet, payout or file."""

    exit_code = 4
    hint = "List what there is: kasoko market list"


class Refused(KasokoError):
    """The rules forbid it; nothing was changed."""

    exit_code = 5
    hint = "Nothing was changed."


class Paused(Refused):
    """A person has stopped all sending; nothing was changed."""

    hint = "Let it go on when that is over: kasoko resume"
    needs_nobody = True


class NotSent(KasokoError):
    """M-Pesa certainly did not take it; no money moved."""

    exit_code = 6
    hint = "No money moved. See what is due: kasoko payout --plan"


class AccountRefused(NotSent):
    """M-Pesa refuses the account, not the payment; nothing else is sent."""

    hint = "No money moved. Mend the account first, then: kasoko resume"


class OutcomeUnknown(KasokoError):
    """Nobody here knows whether money moved."""

    exit_code = 7
    hint = "Do not send it again by hand. First ask how it ended: kasoko reconcile"


class ContradictoryResult(KasokoError):
    """Two results disagree; a person decides."""

    exit_code = 7
    hint = "Nothing was changed. Read both: kasoko payout show"


class CheckFailed(KasokoError):
    """A check found something."""

    exit_code = 8
    hint = "Read what it found: kasoko audit"


class LedgerUnbalanced(CheckFailed):
    """An entry or the books do not sum to zero."""

    hint = "Nothing was written. This is a bug: keep the database as it is and report it."


class Busy(KasokoError):
    """Another run has this work."""

    exit_code = 9
    needs_nobody = True
    hint = "Nothing was changed. Wait for the other run, or look at it: kasoko status"


class Unfinished(KasokoError):
    """What was begun stands, and the rest of it was refused."""

    exit_code = 10
    hint = "See how things stand: kasoko status"
