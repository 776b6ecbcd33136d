"""The commands about what was posted, as an operator sees them."""

from __future__ import annotations

import json
from pathlib import Path

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.daraja.listener import Delivery
from kasoko_cli.operations.callbacks.apply_results import Trust, apply_waiting, store_deliveries
from kasoko_cli.store.engine.database import open_database
from tests.cli.conftest import Kasoko
from tests.conftest import FixedClock


def stored(sqlite_template: Path, folder: Path) -> None:
    """A database in which a stranger's post and a stray result were judged, and another one waits."""
    (folder / "kasoko.db").write_bytes(sqlite_template.read_bytes())
    db, clock = open_database(f"sqlite:///{folder / 'kasoko.db'}"), FixedClock()
    stranger = Delivery(CallbackKind.RESULT, "", False, "203.0.113.9", clock(), b'{"phone": "254712345678"}')
    stray = Delivery(CallbackKind.RESULT, "ks-1", True, "196.201.214.200", clock(), b'{"Result": {}}')
    store_deliveries(db, clock, [stranger, stray])
    apply_waiting(db, clock, Trust())
    store_deliveries(db, clock, [Delivery(CallbackKind.TIMEOUT, "ks-2", True, "196.201.214.200", clock(), b"{}")])
    db.close()


def test_callbacks_are_listed_shown_and_judged_again(kasoko: Kasoko, sqlite_template: Path, tmp_path: Path) -> None:
    stored(sqlite_template, tmp_path)
    listed = kasoko("callback", "list", "--json")
    assert [(one["id"], one["verdict"]) for one in json.loads(listed.stdout)["callbacks"]] == [
        (3, None),
        (2, "stray"),
        (1, "hint"),
    ]
    table = kasoko("callback", "list", "--hints")
    assert "203.0.113.9" in table.stdout
    assert "ks-1" not in table.stdout
    shown = kasoko("callback", "show", "1")
    assert "254712345678" not in shown.stdout
    assert "no: it is never believed" in shown.stdout
    again = kasoko("callback", "replay", "1", "2", "--json")
    assert again.returncode == 0
    assert [one["verdict"] for one in json.loads(again.stdout)["replayed"]] == ["hint", "stray"]
    missing = kasoko("callback", "show", "9")
    assert missing.returncode == 4
    assert missing.stderr == "Error: There is no callback 9.\nHint: See which there are: kasoko callback list\n"
