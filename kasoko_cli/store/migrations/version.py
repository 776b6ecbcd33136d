"""Which version of the tables this program was written for; loads nothing."""

from __future__ import annotations

import os
import re

_FOLDER = os.path.join(os.path.dirname(__file__), "versions")  # noqa: PTH118, PTH120 - pathlib loads more


def head_version() -> str:
    """The version of the tables that this program was written for."""
    return max(name.split("_")[0] for name in os.listdir(_FOLDER) if re.match(r"\d{4}_", name))  # noqa: PTH208
