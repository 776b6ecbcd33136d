"""The planted bugs, bounded: each still fits the source, and names tests that are there. The rest is one command."""

from __future__ import annotations

import pytest

from tests.proof.planted import BUGS, Bug, Edit, fit


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_bug_to_plant_still_fits_the_source_and_names_tests_that_are_there(bug: Bug) -> None:
    """Whoever changes such a line writes the bug anew beside it, in `tests/proof/planted.py`."""
    assert fit(bug).trouble == ""


def test_a_bug_that_no_longer_fits_is_told_and_not_planted() -> None:
    bug = Bug("gone", (Edit("store/payouts.py", "this text is nowhere", ""),), ())
    assert fit(bug).trouble == (
        "'this text is nowhere' stands 0 times in kasoko_cli/store/payouts.py, not once: write the bug anew"
    )
    assert fit(bug).changed == {}
