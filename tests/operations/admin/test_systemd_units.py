"""The systemd units: systemd takes them, they have few rights, and what they call can be called."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from kasoko_cli.errors import Refused
from kasoko_cli.operations.admin.systemd_units import Place, make_units

PLACE = Place(
    folder=PurePosixPath("/srv/kasoko"),
    program=PurePosixPath("/srv/kasoko/.venv/bin/kasoko"),
    user="kasoko",
    credentials=PurePosixPath("/etc/kasoko/credentials"),
    metrics=PurePosixPath("/var/lib/prometheus/node-exporter"),
    is_sqlite=True,
    database_is_secret=False,
    has_alerts=True,
    has_mirror=True,
    has_expiry=True,
    most_kes="1000000",
)


def services(place: Place) -> dict[str, str]:
    return {name: text for name, text in make_units(place).items() if name.endswith(".service")}


def test_there_is_a_listener_and_a_timer_for_each_job() -> None:
    assert sorted(make_units(PLACE)) == sorted(
        ["kasoko-listen.service"]
        + [
            f"kasoko-{job}.{kind}"
            for job in [
                "payout",
                "retry-failed",
                "reconcile",
                "metrics",
                "audit",
                "notify",
                "mirror",
                "expire",
                "backup",
            ]
            for kind in ("service", "timer")
        ]
    )


def test_what_is_old_is_emptied_every_day_only_where_a_setting_says_how_old() -> None:
    assert "/kasoko db expire " in services(PLACE)["kasoko-expire.service"]
    assert "OnCalendar=03:30" in make_units(PLACE)["kasoko-expire.timer"]
    assert "kasoko-expire.timer" not in make_units(replace(PLACE, has_expiry=False))


def test_on_postgresql_the_copy_is_pg_dumps_and_the_address_a_credential() -> None:
    units = services(replace(PLACE, is_sqlite=False, database_is_secret=True))
    assert "kasoko-backup.service" not in units
    assert all("LoadCredential=KASOKO_DATABASE_URL:" in text for text in units.values())


def test_each_service_gets_only_the_secrets_that_it_needs() -> None:
    given = {
        name.removeprefix("kasoko-").removesuffix(".service"): set(re.findall(r"LoadCredential=(\w+):", text))
        for name, text in services(PLACE).items()
    }
    paying = {
        "MPESA_CONSUMER_KEY",
        "MPESA_CONSUMER_SECRET",
        "MPESA_SECURITY_CREDENTIAL_ENCRYPTED",
        "KASOKO_CALLBACK_KEY",
    }
    assert given == {
        "listen": {"KASOKO_CALLBACK_KEY"},
        "payout": paying,
        "retry-failed": paying,
        "reconcile": paying,
        "metrics": set(),
        "audit": set(),
        "notify": {"KASOKO_ALERT_URLS"},
        "mirror": {"KASOKO_PLATFORM_URL"},
        "expire": set(),
        "backup": set(),
    }


def test_with_the_secrets_in_env_no_credential_is_loaded() -> None:
    assert "Credential" not in "".join(make_units(replace(PLACE, credentials=None)).values())


def test_no_service_may_gain_rights_or_write_elsewhere() -> None:
    for name, text in services(PLACE).items():
        assert {
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            "CapabilityBoundingSet=",
            "User=kasoko",
        } <= set(text.splitlines()), name
        writable = re.findall(r"^ReadWritePaths=(.*)$", text, re.MULTILINE)
        more = ["/var/lib/prometheus/node-exporter"] if name == "kasoko-metrics.service" else []
        assert writable == [" ".join(["/srv/kasoko", *more])]


def test_what_the_services_call_can_be_called() -> None:
    import shlex

    from tests.test_house import find_command

    for text in services(replace(PLACE, listens_on="127.0.0.1:8321")).values():
        [line] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        if in_shell := re.fullmatch(r"/bin/sh -c 'mkdir -p backups && exec \"\$\$0\" (.*)' (.*)", line):
            line = f"{in_shell[2]} {in_shell[1]}".replace("$$", "$")
        program, *words = shlex.split(line)
        assert program == "/srv/kasoko/.venv/bin/kasoko"
        command, own = find_command(words)
        command.make_context("kasoko", own)


def test_with_a_socket_systemd_holds_the_port() -> None:
    units = make_units(replace(PLACE, listens_on="127.0.0.1:8321"))
    assert "ListenStream=127.0.0.1:8321" in units["kasoko-listen.socket"]
    assert "Requires=kasoko-listen.socket" in units["kasoko-listen.service"]


def test_a_reload_of_the_listener_reads_its_certificate_anew() -> None:
    assert "ExecReload=/bin/kill -HUP $MAINPID" in services(PLACE)["kasoko-listen.service"].splitlines()


def test_blanks_and_percent_signs_are_written_as_each_line_takes_them() -> None:
    odd = PurePosixPath("/srv/my pay%d")
    place = replace(PLACE, folder=odd, program=odd / "kasoko", user="ka%u", credentials=odd, metrics=odd / "m")
    units = services(place)
    lines = units["kasoko-payout.service"].splitlines()
    assert {"User=ka%%u", "WorkingDirectory=/srv/my pay%%d", 'ReadWritePaths="/srv/my pay%%d"'} <= set(lines)
    assert "LoadCredential=MPESA_CONSUMER_KEY:/srv/my pay%%d/MPESA_CONSUMER_KEY" in lines
    assert "Environment=MPESA_CONSUMER_KEY_FILE=%d/MPESA_CONSUMER_KEY" in lines
    assert 'ExecStart="/srv/my pay%%d/kasoko" listen' in units["kasoko-listen.service"].splitlines()
    assert 'metrics write "/srv/my pay%%d/m" --quiet' in units["kasoko-metrics.service"]
    assert 'ReadWritePaths="/srv/my pay%%d" "/srv/my pay%%d/m"' in units["kasoko-metrics.service"]
    assert units["kasoko-backup.service"].count('"/srv/my pay%%d/kasoko"') == 1


@pytest.mark.parametrize(
    "what",
    [
        *({"folder": PurePosixPath(f"/srv/a{char}b")} for char in "\n\r\t\"'\\$\x1b\u2028"),
        {"folder": PurePosixPath("srv/kasoko")},
        {"program": PurePosixPath("bin/kasoko")},
        {"credentials": PurePosixPath("/etc/a\nExecStartPre=/bin/true")},
        {"metrics": PurePosixPath("metrics")},
        *({"user": user} for user in ("", " kasoko", "a\nb", "a/b", "a:b", "$a")),
    ],
    ids=repr,
)
def test_what_no_unit_can_hold_is_refused_and_named(what: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        replace(PLACE, **what)
    assert f"--{next(iter(what))} " in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
@pytest.mark.parametrize("socket", [None, "127.0.0.1:8321"])
def test_systemd_finds_nothing_to_say_about_them(tmp_path: Path, socket: str | None) -> None:
    # What is verified must exist on this machine: the program and the user. The names are the worst there are.
    folder = tmp_path / "my pay%d"
    folder.mkdir()
    (folder / "kasoko").symlink_to(sys.executable)
    odd, units = PurePosixPath(folder), tmp_path / "units"
    here = replace(
        PLACE,
        folder=odd,
        program=odd / "kasoko",
        credentials=odd,
        metrics=odd / "figures %n",
        user="root",
        listens_on=socket,
    )
    units.mkdir()
    for name, text in make_units(here).items():
        (units / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *sorted(map(str, units.iterdir()))],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    said = [line for line in done.stderr.splitlines() if "kasoko" in line]
    assert (done.returncode, said) == (0, []), done.stderr
