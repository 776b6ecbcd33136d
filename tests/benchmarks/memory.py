"""How much memory this process has held at most."""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path


def peak_mib() -> float:
    """The most memory that this process has held, in MiB.

    What Linux says of resources counts what the parent had when it began this process; its own count does not.
    """
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"^VmHWM:\s+(\d+) kB$", status.read_text(), re.MULTILINE)):
        return int(found[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
