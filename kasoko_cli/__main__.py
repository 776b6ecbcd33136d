"""`python -m kasoko_cli` and the `kasoko` script."""

from __future__ import annotations

import os
import sys

from kasoko_cli import streams


def main() -> None:
    """Run the command line of this process; ends in SystemExit with the exit code."""
    streams.hold()
    # Answered before anything else is imported: monitoring and people ask often, and this takes no time.
    if sys.argv[1:] == ["--version"]:
        from kasoko_cli import __version__

        sys.stdout.write(f"kasoko {__version__}\n")
        return
    if sys.argv[1:] in ([], ["-h"], ["--help"]) and "_KASOKO_COMPLETE" not in os.environ:
        from kasoko_cli.cli.help.command_index import front_page

        sys.stdout.write(front_page())
        return
    from kasoko_cli.cli.app import app

    app(prog_name="kasoko")


if __name__ == "__main__":
    main()
