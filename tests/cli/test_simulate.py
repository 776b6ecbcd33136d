"""`simulator --write-env` replaces what an earlier simulator wrote, and nothing that is of M-Pesa."""

from __future__ import annotations

from pathlib import Path

import pytest

from kasoko_cli.cli.commands.admin.simulate import write_env
from kasoko_cli.config import lines_of
from kasoko_cli.errors import ConfigurationError

NEEDED = {
    "MPESA_BASE_URL": "http://127.0.0.1:8322",
    "MPESA_CONSUMER_KEY": "simulator-key",
    "MPESA_CONSUMER_SECRET": "simulator-secret",
    "MPESA_INITIATOR_NAME": "testapi",
    "MPESA_SECURITY_CREDENTIAL_ENCRYPTED": "sealed",
    "MPESA_PAYBILL": "600999",
}


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        ("MPESA_CONSUMER_SECRET=real", "MPESA_CONSUMER_SECRET"),
        ("export MPESA_CONSUMER_KEY = 'real'", "MPESA_CONSUMER_KEY"),
        ("MPESA_PAYBILL=123456", "MPESA_PAYBILL"),
        ("MPESA_BASE_URL=https://api.safaricom.co.ke", "MPESA_BASE_URL"),
        ("MPESA_SECURITY_CREDENTIAL_ENCRYPTED=real", "MPESA_SECURITY_CREDENTIAL_ENCRYPTED"),
        ("MPESA_BASE_URL=http://127.0.0.1:8322\nMPESA_CONSUMER_SECRET=real", "MPESA_CONSUMER_SECRET"),
        ("MPESA_BASE_URL=http://127.0.0.1:8322\nMPESA_CONSUMER_SECRET='real\nof two lines'", "MPESA_CONSUMER_SECRET"),
    ],
)
def test_what_is_not_a_simulators_is_not_touched(tmp_path: Path, lines: str, named: str) -> None:
    file = tmp_path / ".env"
    file.write_text(f"OTHER=1\n{lines}\n")
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match=named) as refused:
        write_env(file, NEEDED)
    assert file.read_bytes() == before
    assert "real" not in str(refused.value)
    assert list(tmp_path.iterdir()) == [file]


def test_a_line_that_cannot_be_read_or_a_name_with_two_values_is_left(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    for lines in ("MPESA_CONSUMER_SECRET='real\n", "MPESA_PAYBILL=600999\nMPESA_PAYBILL=1\n"):
        file.write_text(lines)
        with pytest.raises(ConfigurationError):
            write_env(file, NEEDED)
        assert file.read_text() == lines


def test_an_earlier_simulators_lines_are_replaced_and_the_others_kept(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# ours\nKASOKO_CALLBACK_KEY=abc\nMPESA_CONSUMER_KEY=\nOTHER='a\nMPESA_PAYBILL=1'")
    write_env(file, NEEDED)
    later = NEEDED | {"MPESA_BASE_URL": "http://127.0.0.1:9", "MPESA_SECURITY_CREDENTIAL_ENCRYPTED": "again"}
    write_env(file, later)
    kept = {"KASOKO_CALLBACK_KEY": "abc", "OTHER": "a\nMPESA_PAYBILL=1"}
    assert lines_of(file) == later | kept | {"MPESA_CALLBACK_URL": "http://127.0.0.1:8321"}
    assert file.read_text().startswith("# ours\n")
    assert file.stat().st_mode & 0o777 == 0o600
