"""Locks on rows, and how long a list one statement may carry.

PostgreSQL holds a locked row until the transaction ends. SQLite ignores row locks: there a writer has the
whole database from its BEGIN IMMEDIATE on, which is stronger.
"""

from __future__ import annotations

from typing import Any, TypeVar

from sqlalchemy import BindParameter, bindparam
from sqlmodel.sql.expression import SelectOfScalar

#: How many values one IN list carries; SQLite takes at most 32,766 parameters.
CHUNK = 10_000

#: A list that a statement is given when it is run, under the name `many`. Such a statement is made once for all lists.
MANY: BindParameter[Any] = bindparam("many", expanding=True)

Row = TypeVar("Row")


def for_update(query: SelectOfScalar[Row], *, share: bool = False, skip_locked: bool = False) -> SelectOfScalar[Row]:
    """Lock what the query finds, and read it afresh even if this session has seen it before."""
    return query.with_for_update(read=share, skip_locked=skip_locked).execution_options(populate_existing=True)
