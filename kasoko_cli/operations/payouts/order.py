"""What a run of sending is asked to do."""

from __future__ import annotations

from dataclasses import dataclass

from kasoko_cli.operations.callbacks.apply_results import Trust
from kasoko_cli.operations.payouts.run import EVERYTHING, Selection, SendPolicy
from kasoko_cli.operations.payouts.spending_bound import Bound


@dataclass(frozen=True, slots=True)
class SendOrder:
    """Which payouts a run sends, within which limits, and how long it works.

    With a `bound` it sends what that names and nothing else, as it was shown. Payouts that are named are a bound of
    what they are now. A run without either sends what is due, also what becomes due meanwhile. `max_seconds` ends it
    between two payouts; `stay` also waits for those that are due later. `run_id` is its name in the list of runs, and
    on the attempts that it holds; a new one where it is left out.
    """

    policy: SendPolicy
    trust: Trust
    selection: Selection = EVERYTHING
    bound: Bound | None = None
    max_seconds: float | None = None
    stay: bool = False
    run_id: str | None = None
