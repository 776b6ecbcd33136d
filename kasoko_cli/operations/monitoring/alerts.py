"""Tell people what is not well, once each, and when it is over.

What was told stands in the database, so that two hosts and a timer that runs every minute say it once. Whoever
tells takes it on first, for a short time: if that process dies, the next one tells it. Told twice is possible
then; not told is not.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from urllib.parse import urlsplit

from kasoko_cli.clock import Clock
from kasoko_cli.domain.phone import mask_in
from kasoko_cli.errors import ConfigurationError, NotSent
from kasoko_cli.operations.monitoring.health import Finding, HealthLimits, check_health, length
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.monitoring import alerts
from kasoko_cli.store.schema.tables import Alert


class Courier(Protocol):
    """Brings a message to every address; returns how many it reached, and the names of those that it did not."""

    def bring(self, title: str, body: str) -> tuple[int, list[str]]:
        """Deliver one message."""


@dataclass(frozen=True, slots=True)
class Notified:
    """What people were told of, and what they were told is over: keys of rules."""

    told: list[str]
    over: list[str]


class AppriseCourier:
    """Apprise: an address is a URL, such as `mailto://`, `slack://` or `tgram://`."""

    def __init__(self, urls: Sequence[str]) -> None:
        try:
            import apprise
        except ImportError:
            raise ConfigurationError(
                "Alerts need Apprise, which is not installed. Nobody was told.",
                hint="Install it where kasoko is installed: pip install apprise",
            ) from None
        # What it logs may hold an address, and an address holds a token.
        logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
        self._addresses: list[tuple[str, apprise.Apprise]] = []
        for number, url in enumerate(urls, 1):
            name = f"address {number} ({urlsplit(url).scheme})"
            one = apprise.Apprise()
            with warnings.catch_warnings():
                # It loads its plugins now, and one of them an old module of Python: nothing an operator can mend.
                warnings.simplefilter("ignore", DeprecationWarning)
                is_known = one.add(url)
            if not is_known:
                raise ConfigurationError(
                    f"KASOKO_ALERT_URLS: {name} is no address that Apprise knows. Nobody was told.",
                    hint="The forms of addresses: https://github.com/caronc/apprise/wiki",
                )
            self._addresses.append((name, one))

    def bring(self, title: str, body: str) -> tuple[int, list[str]]:
        """Deliver one message to every address, each by itself: one that is down must not silence the others."""
        failed = [name for name, one in self._addresses if not one.notify(title=title, body=body)]
        return len(self._addresses) - len(failed), failed


def courier_for(urls: Sequence[str]) -> Courier:
    """What brings messages to these addresses.

    Raises:
        ConfigurationError: there is none, one cannot be read, or Apprise is not installed.
    """
    if not urls:
        raise ConfigurationError(
            "Nobody can be told: no address is set (KASOKO_ALERT_URLS).",
            hint="Write them into .env, parted by spaces: KASOKO_ALERT_URLS='mailto://...'. Then: kasoko notify --test",
        )
    return AppriseCourier(urls)


def send_test(courier: Courier, actor: str) -> None:
    """Send one message that means nothing, to see that it arrives.

    Raises:
        NotSent: it could not be brought to every address.
    """
    _, failed = courier.bring("kasoko: a test", f"This is a test by {actor}. Alerts of kasoko arrive here.")
    if failed:
        raise _undelivered(failed)


def notify(
    db: Database, clock: Clock, limits: HealthLimits, courier: Courier, *, scrub: Callable[[str], str] = mask_in
) -> Notified:
    """Judge, tell what is new, and say what is over.

    `scrub` takes out of a message what may not leave the house.

    Raises:
        NotSent: a message could not be brought to some address. What reached nobody is told by the next run.
    """
    findings = {finding.key: finding for finding in check_health(db, clock, limits).findings}
    now = clock()
    until = now + alerts.LONGEST_CLAIM
    with db.transaction() as session:
        known = alerts.list_alerts(session)
        new = [
            finding
            for finding in findings.values()
            if alerts.claim(session, finding.key, mark=finding.mark, what=finding.what, now=now, until=until)
        ]
        gone = [one for one in known if one.key not in findings]
        alerts.forget(session, [one.key for one in gone if one.told_mark is None])
        over = [one for one in gone if alerts.claim_over(session, one.key, now=now, until=until)]
    failed: list[str] = []
    told = new and _told(courier, _news(new), scrub, failed)
    ended = over and _told(courier, _ends(over, now), scrub, failed)
    with db.transaction() as session:
        if told:
            for finding in new:
                alerts.told(session, finding.key, mark=finding.mark, at=now)
        else:
            alerts.give_back(session, [finding.key for finding in new])
        if ended:
            alerts.forget(session, [one.key for one in over])
        else:
            alerts.give_back(session, [one.key for one in over])
    if failed:
        raise _undelivered(sorted(set(failed)))
    return Notified([finding.key for finding in new], [one.key for one in over])


def _told(courier: Courier, message: tuple[str, str], scrub: Callable[[str], str], failed: list[str]) -> bool:
    """Bring a message; returns whether anybody got it. Addresses that did not are added to `failed`."""
    title, body = message
    reached, missed = courier.bring(scrub(title), scrub(body))
    failed += missed
    return reached > 0


def _news(new: Sequence[Finding]) -> tuple[str, str]:
    worst = "CRITICAL" if any(one.state == "CRITICAL" for one in new) else "WARNING"
    title = f"kasoko {worst}: {new[0].what}" if len(new) == 1 else f"kasoko {worst}: {len(new)} things to look at"
    return title, "\n\n".join(f"{one.state}: {one.what}.\n{one.do}" for one in new)


def _ends(over: Sequence[Alert], now: datetime) -> tuple[str, str]:
    title = f"kasoko OK: over: {over[0].what}" if len(over) == 1 else f"kasoko OK: {len(over)} things are over"
    return title, "\n".join(
        f"Over after {length(round((now - one.since).total_seconds()))}: {one.what}." for one in over
    )


def _undelivered(failed: Sequence[str]) -> NotSent:
    return NotSent(
        f"A message did not arrive at {', '.join(failed)}.",
        hint="Money is not touched by this. Try the addresses: kasoko notify --test",
    )
