"""`python -m kasoko_cli` and the `kasoko` script."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process; ends in SystemExit with the exit code."""
    if sys.argv[1:] == ["--version"]:
        # Answered before anything is imported: monitoring asks often, and this takes no time.
        from kasoko_cli import __version__

        sys.stdout.write(f"kasoko {__version__}\n")
        return
    from kasoko_cli.cli.app import app

    app(prog_name="kasoko")


if __name__ == "__main__":
    main()
