"""Statements of the accounts of a proof, as M-Pesa's portal exports them: the lines of the simulator's ledger."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from random import Random

from tests.operations.paper import CHARGE, PAYBILL, Paper
from tests.proof.bench import OTHER_SHORTCODE, Bench, Payment, payments_of


class Statements:
    """Everything that is exported of one deployment's accounts, each as a file in its folder."""

    def __init__(self, bench: Bench, draw: Random, name: str = "statement") -> None:
        self._bench, self._draw, self._name = bench, draw, name
        self._began = bench.began
        #: Customers' payments, which show how far a statement goes: by receipt, when.
        self._customers = {f"UKM{nth:07d}": self._began - timedelta(days=nth) for nth in (1, 3, 20)}
        self.count = 0

    def export(self, what: str) -> Path:
        """A statement of all the time, with `masked` receivers, or exported at `noon`; of `another time` or account."""
        now = self._bench.clock()
        self._customers[f"UKM1{self.count:06d}"] = now
        since, until = self._began - timedelta(days=2), now
        some_time = self._began + (now - self._began) * self._draw.random()
        if what == "noon":  # at any moment: it says that it goes on to tomorrow, and has nothing from then on
            now, until = some_time, until + timedelta(days=1)
        elif what == "another time":
            since, until = self._draw.choice([(since - timedelta(days=30), since), (some_time, now)])
        is_other = what == "another account"
        shortcode = OTHER_SHORTCODE if is_other else self._bench.simulator.settings.shortcode
        paper = Paper(shortcode=shortcode, masked=what == "masked", since=since, until=until)
        self._write(paper, is_other, since, min(until, now))
        self.count += 1
        file = self._bench.folder / f"{self._name}-{self.count}.csv"
        file.write_bytes(paper.csv())
        return file

    def _write(self, paper: Paper, is_other: bool, first: datetime, last: datetime) -> None:
        """What the account's ledger has of that time, in order; each payment with its charge, or without."""
        charged = self._draw.random() < 0.5
        simulator = self._bench.elsewhere if is_other else self._bench.simulator
        lines: list[tuple[datetime, str, Payment | None]]
        lines = [(at, receipt, None) for receipt, at in self._customers.items()]
        lines += [(one.at, one.receipt, one) for one in ([] if simulator is None else payments_of(simulator))]
        for at, receipt, payment in sorted(lines, key=lambda line: (line[0], line[1])):
            if not first <= at <= last:
                continue
            if payment is None:
                paper.line(receipt, at, paid_in=100, reason=PAYBILL)
                continue
            paper.line(receipt, at, withdrawn=payment.amount_cents, phone=payment.phone)
            if charged and payment.charge_cents:
                paper.line(receipt, at, withdrawn=payment.charge_cents, reason=CHARGE)
        if not paper.rows:
            paper.line("UKM9999999", first, paid_in=100, reason=PAYBILL)
