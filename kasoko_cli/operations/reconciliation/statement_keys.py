"""One key for a movement, however an export writes it: without its balance, or its time to the minute only.

The key of a line is made of what the file says. Another export of the same movements says less of them, and without
this they would be booked once more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from sqlmodel import Session

from kasoko_cli.operations.reconciliation.statement_parser import Line
from kasoko_cli.store import statements


def with_known_keys(session: Session, lines: Sequence[Line], keys: Collection[str]) -> list[Line]:
    """The same lines, under the keys by which they were taken in before; `keys` are those of all lines of the file."""
    known = statements.known_lines(session, (line.key for line in lines))
    unknown = {line.receipt for line in lines if line.key not in known}
    spare: dict[tuple[object, ...], list[statements.BroughtLine]] = {}
    for row in statements.brought_with(session, unknown):
        if row.key not in keys:
            movement = (row.receipt, row.status, row.reason, row.paid_in_cents, row.withdrawn_cents)
            spare.setdefault(movement, []).append(row)
    found = []
    for line in lines:
        if line.key not in known:
            movement = (line.receipt, str(line.status), line.reason, line.paid_in_cents, line.withdrawn_cents)
            rows = spare.get(movement, [])
            same = next((one for one in rows if _may_be(line.completed_at, one.completed_at)), None)
            if same is not None:
                rows.remove(same)
                line = replace(line, key=same.key)
        found.append(line)
    return found


def _may_be(one: datetime, other: datetime) -> bool:
    """Whether two times are the same, where either may be told to the minute only."""
    return one == other or (0 in (one.second, other.second) and one.replace(second=0) == other.replace(second=0))
