"""The claim about many hosts, on a PostgreSQL server of its own that is restarted under them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.proof import hosts


@pytest.mark.exhaustive
def test_hosts_that_are_killed_and_lose_their_server_pay_each_winner_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "TURN_SECONDS", 4)
    told = hosts.run(payouts=80, hosts=3, kills=2, restarts=1, seed=7, folder=tmp_path)
    assert told.wrong == []
    assert (told.doubles, told.cents, told.restarts) == (0, 0, 1)
