"""One job of a long proof: a process with a fork server and templates of its own, which live as long as it does."""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Sequence
from multiprocessing.util import Finalize
from pathlib import Path

from tests.proof import schedule
from tests.proof.databases import Kind, Templates
from tests.proof.processes import Forker
from tests.proof.schedule import Told

_mine: tuple[Templates, Forker] | None = None


def prepare(server: str | None, folder: str) -> None:
    """Called once in each job; what it makes is given back when the job ends."""
    global _mine
    templates = Templates(Path(tempfile.mkdtemp(dir=folder)), server)
    used = [templates.new("sqlite"), *([templates.new("postgres")] if server is not None else [])]
    forker = Forker(*(one.url for one in used))
    for one in used:
        one.drop()
    Finalize(None, forker.close, exitpriority=2)
    Finalize(None, templates.close, exitpriority=1)
    _mine = (templates, forker)


def run(seed: int, database: Kind, by_exec: bool, acts: Sequence[str] | None) -> Told:
    """One schedule. If the proof itself breaks, that is told like anything else that went wrong."""
    assert _mine is not None
    try:
        return schedule.run(seed, database, *_mine, by_exec=by_exec, acts=acts)
    except Exception:
        return Told(seed, database, by_exec, tracebacks=1, wrong=[f"the proof broke: {traceback.format_exc()}"])
