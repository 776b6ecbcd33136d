"""What an operation works on, and the way to M-Pesa: handed to it whole, in place of their parts one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kasoko_cli.clock import Clock
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.store.engine.database import Database

if TYPE_CHECKING:
    from kasoko_cli.clock import NewId
    from kasoko_cli.daraja.callback_urls import Links
    from kasoko_cli.daraja.client import DarajaClient


@dataclass(frozen=True, slots=True)
class OperationContext:
    """The database, the clock (UTC), and who acts."""

    db: Database
    clock: Clock
    actor: Actor


@dataclass(frozen=True, slots=True)
class Gateway:
    """M-Pesa as a request needs it: the client, the callback URLs, and ids for what is asked."""

    daraja: DarajaClient
    links: Links
    new_id: NewId
