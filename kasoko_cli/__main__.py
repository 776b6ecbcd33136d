"""`python -m kasoko_cli` and the `kasoko` script."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run the command line of this process; ends in SystemExit with the exit code."""
    # Answered before anything else is imported: monitoring and people ask often, and this takes no time.
    if sys.argv[1:] == ["--version"]:
        from kasoko_cli import __version__

        _answer(f"kasoko {__version__}\n")
        return
    if sys.argv[1:] in ([], ["-h"], ["--help"]) and "_KASOKO_COMPLETE" not in os.environ:
        from kasoko_cli.cli.front import front_page

        _answer(front_page())
        return
    from kasoko_cli.cli.app import app

    app(prog_name="kasoko")


def _answer(text: str) -> None:
    """Write the answer; a reader that went away, as `head` goes, is no error worth a word."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more as it ends
        sys.exit(1)


if __name__ == "__main__":
    main()
