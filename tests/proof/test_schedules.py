"""The crash proof, bounded: a few of the schedules that `python -m tests.proof` runs by the thousand."""

from __future__ import annotations

import pytest

from tests.proof import schedule
from tests.proof.databases import Kind, Templates
from tests.proof.processes import Forker


@pytest.mark.parametrize(
    ("seed", "kind"),
    [
        (1, "sqlite"),
        *(pytest.param(seed, "sqlite", marks=pytest.mark.exhaustive) for seed in (2, 4, 6, 19, 21)),
        *(pytest.param(seed, "postgres", marks=pytest.mark.exhaustive) for seed in (8, 12)),
    ],
)
def test_whatever_dies_each_winner_is_paid_once(templates: Templates, forker: Forker, seed: int, kind: Kind) -> None:
    told = schedule.run(seed, kind, templates, forker)

    assert told.wrong == [], str(told)
    assert told.doubles == told.cents == told.tracebacks == 0
    assert told.kills >= 3, "a schedule in which nobody died proves little"


@pytest.mark.exhaustive
def test_the_true_program_started_by_exec_pays_each_winner_once(templates: Templates, forker: Forker) -> None:
    told = schedule.run(40, "sqlite", templates, forker, by_exec=True)

    assert told.wrong == [], str(told)
    assert told.kills
