"""systemd units: the listener as a service, everything else as a timer, each with no more rights than it needs.

What is made here is text; who installs it reads it first. The services run as a user of their own, write only
into the folder of the database, and get secrets as credentials: files that systemd shows to that one process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from kasoko_cli.errors import Refused

#: What every service is denied. Source: systemd.exec(5), "Sandboxing"; `systemd-analyze security`.
_HARDENED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
UMask=0077"""

_PAYING = ("MPESA_CONSUMER_KEY", "MPESA_CONSUMER_SECRET", "MPESA_SECURITY_CREDENTIAL_ENCRYPTED", "KASOKO_CALLBACK_KEY")
_ONLINE = ("Wants=network-online.target", "After=network-online.target")


@dataclass(frozen=True, slots=True)
class Place:
    """Where kasoko lives on a host, and what its units need to know.

    `credentials` is the folder of the secrets, a file for each, named like its variable and readable by root
    alone; None where the secrets stand in `.env`. `listens_on` is the address of the socket where systemd
    holds it, and None where the listener opens its own.
    """

    folder: PurePosixPath
    program: PurePosixPath
    user: str
    credentials: PurePosixPath | None
    metrics: PurePosixPath
    is_sqlite: bool
    database_is_secret: bool
    has_alerts: bool
    has_mirror: bool
    #: Whether results and calls are emptied once they are old.
    has_expiry: bool
    #: The most that one unattended run may send, in shillings: a slip upstream waits for a person.
    most_kes: str
    listens_on: str | None = None

    def __post_init__(self) -> None:
        paths = {"--folder": self.folder, "--program": self.program, "--metrics": self.metrics}
        if self.credentials is not None:
            paths["--credentials"] = self.credentials
        for option, path in paths.items():
            _check(option, str(path))
            if not path.is_absolute():
                raise Refused(
                    f"{option} {path} does not begin at the root; nothing was printed.",
                    hint=f"Name the whole path: {option} /srv/kasoko",
                )
        _check("--user", self.user)
        if not self.user or self.user != self.user.strip() or set(self.user) & set("/:"):
            raise Refused(
                f"--user {self.user!r} can be no user's name; nothing was printed.", hint="Name one: --user kasoko"
            )


def _check(option: str, value: str) -> None:
    """Hold that systemd can be told this in every line of a unit.

    A blank and a percent sign can; a line end would be another line, and what quotes, backslashes and dollars mean
    differs from line to line. Source: systemd.syntax(7); systemd.service(5), "Command lines"; systemd.unit(5).
    """
    if bad := next((char for char in value if not char.isprintable() or char in "\"'\\$"), None):
        raise Refused(
            f"{option} {value!r} has a {bad!r} in it, which no systemd unit can hold; nothing was printed.",
            hint=f"Name another, or rename it: {option} takes blanks and percent signs.",
        )


def _plain(value: object) -> str:
    """A value that has a line to itself: a percent sign is systemd's own unless it is doubled."""
    return str(value).replace("%", "%%")


def _word(value: object) -> str:
    """A value among others in a line: in quotes where it has a blank."""
    told = _plain(value)
    return f'"{told}"' if " " in told else told


@dataclass(frozen=True, slots=True)
class _Job:
    """Something that a timer starts: what it does, its words, when, which secrets, and where it writes besides."""

    name: str
    says: str
    command: str
    when: str
    secrets: Sequence[str] = ()
    #: Exit codes that are no failure of the unit: another run has the work, work is left for the next run.
    well: str = "9 10"
    writes: Sequence[str] = ()
    persistent: bool = False


def _jobs(place: Place) -> list[_Job]:
    send = f"payout --yes --quiet --max-seconds 240 --max-total {place.most_kes}"
    send_again = "retry-failed --yes --quiet --max-seconds 1500"
    ask = "reconcile --quiet --no-listen --max-seconds 600"
    figures, folder = f"metrics write {_word(place.metrics)} --quiet", (_word(place.metrics),)
    jobs = [
        _Job("payout", "sends what is due", send, "*:0/5", _PAYING),
        _Job("retry-failed", "sends definite failures again", send_again, "*:07", _PAYING),
        _Job("reconcile", "asks M-Pesa how unknown payouts ended", ask, "*:2/15", _PAYING),
        _Job("metrics", "writes figures for Prometheus", figures, "*:*:00", writes=folder),
        _Job("audit", "recomputes everything from the bets up", "audit --deep --quiet", "02:30", persistent=True),
    ]
    if place.has_alerts:
        jobs.append(_Job("notify", "tells people what is not well", "notify --quiet", "*:*:30", ("KASOKO_ALERT_URLS",)))
    if place.has_mirror:
        secrets = ("KASOKO_PLATFORM_URL",)
        jobs.append(_Job("mirror", "tells the platform of results", "mirror --quiet", "*:*:15", secrets))
    if place.has_expiry:
        command = "db expire --quiet --reason privacy.keep_days"
        jobs.append(_Job("expire", "empties results and calls that are old", command, "03:30", persistent=True))
    if place.is_sqlite:
        # A percent sign is systemd's own, and a dollar too.
        command = 'db backup "backups/kasoko-$$(date +%%Y-%%m-%%dT%%H%%M%%S).db" --quiet'
        jobs.append(_Job("backup", "copies the database", command, "02:00", persistent=True))
    return jobs


def make_units(place: Place) -> dict[str, str]:
    """Every unit by the name of its file."""
    units = {"kasoko-listen.service": _listener(place)}
    if place.listens_on is not None:
        units["kasoko-listen.socket"] = _unit(
            {
                "Unit": ["Description=kasoko: the port that M-Pesa posts results to"],
                # The port stays open while the listener starts anew: what arrives waits, and is not refused.
                "Socket": [f"ListenStream={_plain(place.listens_on)}", "Backlog=1024", "NoDelay=yes"],
                "Install": ["WantedBy=sockets.target"],
            }
        )
    for job in _jobs(place):
        units[f"kasoko-{job.name}.service"] = _service(place, job)
        units[f"kasoko-{job.name}.timer"] = _timer(job)
    return units


def _listener(place: Place) -> str:
    socket = ["Requires=kasoko-listen.socket", "After=kasoko-listen.socket"] if place.listens_on is not None else []
    return _unit(
        {
            "Unit": ["Description=kasoko listener: takes in the results that M-Pesa posts", *_ONLINE, *socket],
            "Service": [
                "Type=exec",
                f"ExecStart={_word(place.program)} listen",
                # Reads a renewed certificate; without one of its own the listener stops, and is started anew.
                "ExecReload=/bin/kill -HUP $MAINPID",
                "Restart=always",
                "RestartSec=2",
                "TimeoutStopSec=60",
                *_common(place, ("KASOKO_CALLBACK_KEY",)),
            ],
            "Install": ["WantedBy=multi-user.target"],
        }
    )


def _service(place: Place, job: _Job) -> str:
    command = f"{_word(place.program)} {job.command}"
    if "$$" in job.command:
        command = f"/bin/sh -c 'mkdir -p backups && exec \"$$0\" {job.command}' {_word(place.program)}"
    return _unit(
        {
            "Unit": [f"Description=kasoko {job.name}: {job.says}", *_ONLINE],
            "Service": [
                "Type=oneshot",
                f"ExecStart={command}",
                f"SuccessExitStatus={job.well}",
                *_common(place, job.secrets, job.writes),
            ],
        }
    )


def _timer(job: _Job) -> str:
    return _unit(
        {
            "Unit": [f"Description=kasoko {job.name}, by the clock"],
            "Timer": [f"OnCalendar={job.when}", "AccuracySec=5s", *(["Persistent=yes"] if job.persistent else [])],
            "Install": ["WantedBy=timers.target"],
        }
    )


def _common(place: Place, secrets: Sequence[str], writes: Sequence[str] = ()) -> list[str]:
    named = [*secrets, *(["KASOKO_DATABASE_URL"] if place.database_is_secret else [])]
    loaded: list[str] = []
    if place.credentials is not None:
        for name in named:
            path = _plain(place.credentials / name)
            loaded += [f"LoadCredential={name}:{path}", f"Environment={name}_FILE=%d/{name}"]
    return [
        f"User={_plain(place.user)}",
        f"WorkingDirectory={_plain(place.folder)}",
        *loaded,
        f"ReadWritePaths={' '.join([_word(place.folder), *writes])}",
        *_HARDENED.splitlines(),
    ]


def _unit(sections: Mapping[str, Sequence[str]]) -> str:
    return "\n\n".join("\n".join([f"[{name}]", *lines]) for name, lines in sections.items()) + "\n"
