"""Standard streams that stop no work: closed, full, or with a reader that has gone.

Whoever pays by cron does not fail because the pipe of its mail is gone, and nobody is asked to send again what was
sent since a disk had no room for the table. Here writing to stdout and stderr never fails: what cannot be written is
dropped, and the reason is kept for those whose work is the answer itself. A descriptor that was closed is taken by
/dev/null, so that no database or socket is opened under its number.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class AnswerLost(Exception):
    """The answer could not be written, and it is all that was asked for."""

    def __init__(self, why: OSError) -> None:
        super().__init__(str(why))
        self.why = why


class _Kept(io.FileIO):
    """A descriptor that takes whatever is written, and remembers why it could not go out."""

    trouble: OSError | None = None

    def write(self, data: ReadableBuffer, /) -> int:
        """Write it, or drop it: what has failed once gets nothing more, so that no answer has a hole in it."""
        size = memoryview(data).nbytes
        while self.trouble is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.trouble = error
                break
            if written is not None:
                return written
            select.select([], [self.fileno()], [])  # somebody has set the pipe to not wait
        return size


def hold() -> None:
    """Make the streams of this process such as never fail; characters that they cannot show are spelt out."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:  # the lowest free number is this one, since those below it are taken
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python has no stream where it found none.
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = _held(1, sys.stdout), _held(2, sys.stderr)


def _held(descriptor: int, before: TextIO | None) -> TextIO:
    raw = _Kept(descriptor, "w", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == 2 or raw.isatty(),
        write_through=getattr(before, "write_through", False),
    )


def trouble_with(stream: Any) -> OSError | None:
    """Why a part of what was written to this stream did not go out; None where all of it did so far."""
    return getattr(getattr(getattr(stream, "buffer", None), "raw", None), "trouble", None)


def heed(stream: TextIO) -> None:
    """For those whose work is the answer: stop when it does not go out.

    Raises:
        AnswerLost: the reader has gone, or there is no room.
    """
    if why := trouble_with(stream):
        raise AnswerLost(why)
