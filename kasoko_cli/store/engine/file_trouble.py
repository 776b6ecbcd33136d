"""Why a database file cannot be used, as what it is: whose it is, what it lies on, whether there is room."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def trouble_with_file(file: Path, reason: str) -> tuple[str, str] | None:
    """What is wrong and what to do about it, where SQLite's own `reason` is one of these; else None.

    The first is the end of a sentence that begins with the database.
    """
    folder = file.resolve().parent
    again = "Then run it again; what was committed is there"
    if "full" in reason:
        return "has no room: the disk that it lies on is full", f"Make room there (df -h {folder}). {again}."
    if "I/O" in reason:
        why = "cannot be read or written: the disk may be full, over a quota, or damaged (disk I/O error)"
        return why, f"Look at the disk (df -h {folder}), and whether the database is whole: kasoko db check"
    if ("readonly" not in reason and "unable to open" not in reason) or not folder.is_dir():
        return None
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return "cannot be written: it lies on a file system that is mounted read-only", (
            f"Have {folder} mounted so that it can be written, or name the database elsewhere: --database URL. {again}."
        )
    return _not_ours(file, folder, again)


def _not_ours(file: Path, folder: Path, again: str) -> tuple[str, str] | None:
    """The file, one of those beside it or its folder that this user may not write."""
    for what in (file, Path(f"{file}-wal"), Path(f"{file}-shm"), folder):
        mode = os.R_OK | os.W_OK | (os.X_OK if what == folder else 0)
        if not what.exists() or os.access(what, mode):
            continue
        owner, me = _name_of(what.stat().st_uid), _name_of(os.geteuid())
        kind = f"the folder {folder}" if what == folder else str(what)
        if owner == me:
            rights = "u+rwx" if what == folder else "u+rw"
            return f"cannot be written: {kind} does not let its owner, {me}, write", f"chmod {rights} {what}. {again}."
        return f"cannot be written: {kind} is of the user {owner}, and this runs as {me}", (
            f"Run it as {owner} (sudo -u {owner}), or have it and its folder given to {me}. {again}."
        )
    return None


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"
