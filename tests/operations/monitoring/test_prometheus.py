"""What Prometheus reads: it can be read, it is what the rows say, and a collector never sees a part of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlmodel import select

from kasoko_cli.daraja.callback_urls import CallbackKind
from kasoko_cli.errors import ConfigurationError
from kasoko_cli.operations.account.tariff_file import load_tariff
from kasoko_cli.operations.monitoring import health, prometheus
from kasoko_cli.operations.monitoring.alert_rules import alert_rules
from kasoko_cli.operations.monitoring.health import FloatWatch, HealthLimits
from kasoko_cli.operations.shared import run_registry
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.schema.tables import RunRow
from tests.operations.account.test_balances import lock_in
from tests.operations.payout_harness import ANN, BEN, CYN, PayoutHarness

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: bytes) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text.decode())
        for sample in family.samples
    }


def of(found: Samples, name: str, **labels: str) -> float | None:
    return found.get((name, tuple(sorted(labels.items()))))


@pytest.fixture
def busy(harness: PayoutHarness) -> PayoutHarness:
    """Ann was paid, Ben failed, nobody knows about Cyn."""
    harness.owe({"ann": ANN, "ben": BEN, "cyn": CYN}, cents=14_250)
    harness.send()
    harness.posts.clear()
    for user, code in (("ann", 0), ("ben", 2040), ("cyn", 17)):
        attempt = harness.attempt(user)
        harness.post(
            CallbackKind.RESULT, attempt.id, harness.result(attempt, code=code, receiver=attempt.phone, desc="said so")
        )
    return harness


def test_the_metrics_are_what_the_rows_say(busy: PayoutHarness) -> None:
    busy.clock.forward(120)
    found = samples(prometheus.exposition(busy.db, busy.clock, HealthLimits()))
    assert of(found, "kasoko_payouts", state="COMPLETED") == 1
    assert of(found, "kasoko_payouts", state="PENDING") == 0
    assert of(found, "kasoko_payouts_cents", state="FAILED") == 14_250
    assert of(found, "kasoko_payout_success_ratio") == 0.5
    assert of(found, "kasoko_payouts_failed_lately") == 1
    assert of(found, "kasoko_unknown_payouts") == 1
    assert of(found, "kasoko_unknown_age_seconds") == 120
    assert of(found, "kasoko_in_flight_cents") == 14_200
    assert of(found, "kasoko_daraja_requests_total", kind="b2c", answered="2xx") == 3
    assert of(found, "kasoko_daraja_request_seconds_count", kind="b2c") == 3
    assert of(found, "kasoko_daraja_request_seconds_bucket", kind="b2c", le="+Inf") == 3
    assert of(found, "kasoko_health_state") == 2
    assert of(found, "kasoko_sending_stopped", switch="pause") == 0
    assert of(found, "kasoko_collected_timestamp_seconds") == busy.clock().timestamp()


def test_a_command_that_is_no_run_is_in_the_metrics_with_its_last_good_end(
    harness: PayoutHarness, actor: Actor
) -> None:
    for _ in range(2):
        harness.clock.forward(60)
        run_registry.note_success(OperationContext(harness.db, harness.clock, actor), "db backup")
    found = samples(prometheus.exposition(harness.db, harness.clock, HealthLimits()))
    at = of(found, "kasoko_last_success_timestamp_seconds", command="db backup")
    assert at == harness.clock().timestamp()
    with harness.db.reading() as session:
        assert len(session.exec(select(RunRow)).all()) == 1, "one row, however often it ends well"


def test_what_was_never_read_is_left_out_and_not_zero(harness: PayoutHarness) -> None:
    names = {name for name, _ in samples(prometheus.exposition(harness.db, harness.clock, HealthLimits()))}
    assert "kasoko_payouts" in names
    for never in ("success_ratio", "heard_timestamp", "p95", "settlement_seconds", "float"):
        assert not any(never in name for name in names), never


def test_the_buckets_of_the_histogram_grow_and_end_with_all(busy: PayoutHarness) -> None:
    found = samples(prometheus.exposition(busy.db, busy.clock, HealthLimits()))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in found.items()
        if name == "kasoko_daraja_request_seconds_bucket" and dict(labels)["kind"] == "b2c"
    }
    values = [buckets[bound] for bound in sorted(buckets)]
    assert len(values) == 10
    assert values == sorted(values)
    assert values[-1] == 3


def test_no_phone_no_id_and_no_name_is_in_the_metrics(busy: PayoutHarness) -> None:
    text = prometheus.exposition(busy.db, busy.clock, HealthLimits()).decode()
    for private in ("2547", "ann", "derby", busy.attempt("ann").id):
        assert private not in text


# --- The file ------------------------------------------------------------------------------------


def test_the_file_is_replaced_whole_and_readable_by_the_collector(harness: PayoutHarness, tmp_path: Path) -> None:
    before = tmp_path / prometheus.FILE_NAME
    before.write_text("old")
    opened = before.open()
    written = prometheus.write_metrics(harness.db, harness.clock, HealthLimits(), tmp_path)
    with opened:
        assert opened.read() == "old", "who has the old one open still reads the old one, whole"
    assert [one.name for one in tmp_path.iterdir() if one.name.endswith((".prom", ".tmp"))] == ["kasoko.prom"]
    assert written.file.stat().st_mode & 0o777 == 0o644
    assert written.bytes == len(written.file.read_bytes())
    assert samples(written.file.read_bytes())


def test_a_folder_that_is_not_there_is_a_sentence(harness: PayoutHarness, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be written: No such file or directory"):
        prometheus.write_metrics(harness.db, harness.clock, HealthLimits(), tmp_path / "nowhere")


def test_a_write_that_breaks_off_leaves_the_old_file_and_no_rest(
    harness: PayoutHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / prometheus.FILE_NAME).write_text("old")

    def no_room(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", no_room)
    with pytest.raises(ConfigurationError, match="No space left"):
        prometheus.write_metrics(harness.db, harness.clock, HealthLimits(), tmp_path)
    rest = [one.name for one in tmp_path.iterdir() if one.name.endswith((".prom", ".tmp"))]
    assert rest == ["kasoko.prom"]
    assert (tmp_path / prometheus.FILE_NAME).read_text() == "old"


# --- The rules that alert ------------------------------------------------------------------------


def test_every_alert_speaks_of_metrics_that_there_are(busy: PayoutHarness) -> None:
    lock_in(busy, "500.00")
    busy.owe({"dan": "254712000444"}, market="late")
    busy.clock.forward(60)
    named = set(re.findall(r"\bkasoko_\w+", alert_rules(HealthLimits())))
    limits = HealthLimits(float_watch=FloatWatch(load_tariff(), max_age_seconds=86_400))
    known = {name for name, _ in samples(prometheus.exposition(busy.db, busy.clock, limits))}
    assert named <= known


def test_the_alerts_have_the_limits_of_the_settings() -> None:
    text = alert_rules(HealthLimits(success_bps=9_950, settlement_seconds=600))
    assert "kasoko_payout_success_ratio < 0.995" in text
    assert "kasoko_unsettled_age_seconds > 600" in text


def test_there_is_an_alert_for_each_rule_of_health() -> None:
    pages = set(re.findall(r"runbook\.md#(\w+)", alert_rules(HealthLimits())))
    keys = set(re.findall(r'Finding\(\s*"(\w+)"', Path(health.__file__).read_text()))
    assert len(keys) > 8
    assert keys <= pages


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_itself_reads_the_rules_and_the_metrics(harness: PayoutHarness, tmp_path: Path) -> None:
    rules = tmp_path / "kasoko.rules.yml"
    rules.write_text(alert_rules(HealthLimits()))
    done = subprocess.run(["promtool", "check", "rules", rules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    text = prometheus.exposition(harness.db, harness.clock, HealthLimits())
    read = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
    assert read.returncode in (0, 3), read.stderr  # 3: advice on names
