"""Config -> database, Daraja client, clock, ids: what an operation is given.

Every part is made when it is first asked for, so that `market list` never meets M-Pesa and
`config show` never opens a database.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from kasoko_cli.clock import Clock, NewId, random_id, system_clock
from kasoko_cli.config import Config, load_config
from kasoko_cli.errors import ConfigurationError

if TYPE_CHECKING:
    from kasoko_cli.daraja.callback_urls import Links
    from kasoko_cli.daraja.client import DarajaApp, DarajaClient
    from kasoko_cli.daraja.connection_limits import Doors
    from kasoko_cli.daraja.listener import Counts
    from kasoko_cli.daraja.serve import Tls
    from kasoko_cli.daraja.wire import Route
    from kasoko_cli.domain.payer import Payer
    from kasoko_cli.domain.payout import WireLimits
    from kasoko_cli.domain.tariff import Tariff
    from kasoko_cli.domain.withholding import DutyBook
    from kasoko_cli.operations.approvals.second_person import ApprovalTerms
    from kasoko_cli.operations.callbacks.apply_results import Trust
    from kasoko_cli.operations.callbacks.inbox import Caps, Inbox
    from kasoko_cli.operations.monitoring.health import HealthLimits
    from kasoko_cli.operations.payouts.float_check import GatePolicy
    from kasoko_cli.operations.payouts.run import SendPolicy
    from kasoko_cli.operations.reconciliation.status_queries import AskPolicy
    from kasoko_cli.operations.safeguards.failure_confirmation import Confirm
    from kasoko_cli.operations.safeguards.payment_guard import Caution
    from kasoko_cli.operations.shared.context import Gateway
    from kasoko_cli.operations.shared.overview import Overview
    from kasoko_cli.store.engine.database import Database


class Container:
    """The settings and what is made of them: the database, M-Pesa, time and ids.

    `only_reads` is for a command that changes nothing: it may look into the database of any deployment.
    """

    def __init__(
        self, config: Config, *, clock: Clock = system_clock, new_id: NewId = random_id, only_reads: bool = False
    ) -> None:
        self.only_reads = only_reads
        self.config = config
        self.clock = clock
        self.new_id = new_id
        #: Tells whoever waits for something why.
        self.tell: Callable[[str], None] = lambda _: None

    @classmethod
    def from_settings(
        cls, config_file: Path | None = None, *, options: Mapping[str, object] | None = None, only_reads: bool = False
    ) -> Container:
        """The container of this process: settings from the files, the environment and the command's options.

        Raises:
            ConfigurationError: the settings cannot be read or used.
        """
        return cls(load_config(config_file, options=options), only_reads=only_reads)

    @functools.cached_property
    def db(self) -> Database:
        """The database, opened, with its schema checked.

        Raises:
            DatabaseUnavailable: it is not there or cannot be opened.
            SchemaOutOfDate: its tables are of another version.
            ConfigurationError: it is of another deployment than the settings, and is to be written to.
            DatabaseClosed: it has moved elsewhere or is a copy that is not finished, and is to be written to.
        """
        from kasoko_cli.store.engine.database import find_closed, hold_open
        from kasoko_cli.store.engine.reconnect import open_patiently

        opened = open_patiently(self.config.database.url, self.tell)
        try:
            if not self.only_reads:
                self.hold_to_deployment(opened)
                hold_open(opened)
            elif closed := find_closed(opened):
                self.tell(f"{closed.message.removesuffix(' Nothing was changed.')} What follows is what stands here.")
        except BaseException:
            opened.close()
            raise
        return opened

    def hold_to_deployment(self, db: Database) -> None:
        """Hold that a database is of the deployment of the settings, where they name one.

        Raises:
            ConfigurationError: it is of another one.
        """
        from kasoko_cli.store.engine.database import deployment_of, hold_to_deployment

        if self.config.database.deployment is not None:
            hold_to_deployment(db.place, deployment_of(db), self.config.database.deployment)

    @contextlib.contextmanager
    def platform(self, url: str | None = None) -> Iterator[Database]:
        """The platform's database, at this address or the one of the settings.

        Raises:
            ConfigurationError: there is no address, or it is none of PostgreSQL.
        """
        from kasoko_cli.store.platform.source import open_platform

        set_to = self.config.platform.url
        if url is None and set_to is None:
            raise ConfigurationError(
                "The address of the platform's database is not set: platform.url (KASOKO_PLATFORM_URL).",
                hint="Set it in .env or the environment, or give it by --source. First: kasoko connect django --help",
            )
        opened = open_platform(url or (set_to.get_secret_value() if set_to is not None else ""))
        try:
            yield opened
        finally:
            opened.close()

    def overview(self) -> Overview:
        """How everything stands. Where nothing is open yet it is read by the driver alone: it is asked for often.

        Raises:
            DatabaseUnavailable: the database is not there or cannot be opened.
            SchemaOutOfDate: its tables are of another version.
        """
        from kasoko_cli.operations.shared.overview import read_overview
        from kasoko_cli.store.engine import driver_reads

        if "db" not in self.__dict__:
            with contextlib.suppress(driver_reads.NotPlain), driver_reads.reading(self.config.database.url) as rows:
                return read_overview(rows)
        from kasoko_cli.operations.reporting import status_views

        return status_views.overview(self.db)

    @functools.cached_property
    def daraja(self) -> DarajaClient:
        """M-Pesa, with the one access token that all processes share through the database.

        Raises:
            ConfigurationError: settings that paying needs are missing.
        """
        from kasoko_cli.daraja.client import DarajaClient, RequestLimits
        from kasoko_cli.operations.account.access_tokens import DatabaseShelf

        account = self.daraja_account()
        return DarajaClient(
            account,
            DatabaseShelf(self.db, self.clock, account, self.new_id()),
            self.clock,
            limits=RequestLimits(self.config.daraja.timeout_seconds, self.config.daraja.total_seconds),
        )

    def daraja_account(self) -> DarajaApp:
        """The app and the organisation that pays, with its secrets.

        Raises:
            ConfigurationError: settings that paying needs are missing.
        """
        from kasoko_cli.daraja.client import DarajaApp

        self.config.require_daraja()
        set_to = self.config.daraja
        assert set_to.shortcode is not None
        assert set_to.initiator_name is not None
        assert set_to.consumer_key is not None
        assert set_to.consumer_secret is not None
        assert set_to.security_credential is not None
        return DarajaApp(
            base_url=set_to.base_url,
            consumer_key=set_to.consumer_key.get_secret_value(),
            consumer_secret=set_to.consumer_secret.get_secret_value(),
            shortcode=set_to.shortcode,
            initiator_name=set_to.initiator_name,
            security_credential=set_to.security_credential.get_secret_value(),
            api=set_to.api,
            command_id=set_to.command_id,
            environment="production" if set_to.production else "sandbox",
            route=self.route,
        )

    @property
    def route(self) -> Route:
        """The way to Daraja: through a proxy or not, and who vouches for its host."""
        from kasoko_cli.daraja.wire import Route

        return Route(self.config.daraja.proxy, self.config.daraja.ca_file)

    @property
    def payer(self) -> Payer | None:
        """Whose account the settings are of; None where they name no shortcode."""
        from kasoko_cli.domain.payer import Payer, api_base_of

        set_to = self.config.daraja
        if set_to.shortcode is None:
            return None
        environment = "production" if set_to.production else "sandbox"
        return Payer(set_to.shortcode, environment, api_base_of(set_to.base_url))

    @property
    def gateway(self) -> Gateway:
        """M-Pesa as the settings say, for what is asked of it."""
        from kasoko_cli.operations.shared.context import Gateway

        return Gateway(self.daraja, self.links, self.new_id)

    @functools.cached_property
    def links(self) -> Links:
        """The addresses that results come to: they can be made and read only with the callback key.

        Raises:
            ConfigurationError: the callback address or the key is not set.
        """
        from kasoko_cli.daraja.callback_urls import Links, validate_callback_url

        self.config.require("daraja.callback_url", "listener.callback_key")
        assert self.config.daraja.callback_url is not None
        validate_callback_url(self.config.daraja.callback_url, production=self.config.daraja.production)
        listener = self.config.listener
        return Links(self.config.daraja.callback_url, listener.callback_key_bytes(), listener.old_callback_keys_bytes())

    @property
    def send_policy(self) -> SendPolicy:
        """The limits of a run of payouts."""
        from kasoko_cli.operations.payouts.run import SendPolicy

        payout = self.config.payout
        return SendPolicy(
            daily_cents=payout.daily_cents,
            concurrency=payout.concurrency,
            rate_per_second=payout.rate_per_second,
            smallest_first=payout.smallest_first,
            schedule=payout.retry_schedule_seconds,
            lease_seconds=payout.lease_seconds,
            remarks=self.config.daraja.remarks,
            caution=self.caution,
        )

    @functools.cached_property
    def tariff(self) -> Tariff:
        """What M-Pesa charges for a payment.

        Raises:
            ConfigurationError: the file that the settings name cannot be read, or is no tariff.
        """
        from kasoko_cli.operations.account.tariff_file import load_tariff

        file, home = self.config.payout.tariff_file, self.config.file
        return load_tariff(None if file is None else (home.parent if home is not None else Path()) / file)

    @functools.cached_property
    def duties(self) -> DutyBook:
        """The rules by which tax is kept back of winners; none where the settings name no file.

        Raises:
            ConfigurationError: the file cannot be read, or holds no such rules.
        """
        from kasoko_cli.domain.withholding import NO_BOOK
        from kasoko_cli.operations.settlement.tax_rules_file import load_duties

        file, home = self.config.payout.duties_file, self.config.file
        return NO_BOOK if not file else load_duties((home.parent if home is not None else Path()) / file)

    @property
    def gate_policy(self) -> GatePolicy:
        """How strictly the float is looked at before a run."""
        from kasoko_cli.operations.payouts.float_check import GatePolicy

        payout = self.config.payout
        return GatePolicy(payout.float_check, self.tariff, payout.float_max_age_hours * 3600, self.payer)

    @property
    def terms(self) -> ApprovalTerms:
        """What is asked of a person's word where two have to say the same."""
        from kasoko_cli.operations.approvals.second_person import ApprovalTerms

        return ApprovalTerms(hours=self.config.approval.expires_hours, signed=self.config.approval.signed)

    def signing_key(self, file: Path | None) -> bytes | None:
        """The key that a person signs with: in this file, or in the one of the settings; None where there is none.

        Raises:
            NotFound: there is no such file.
            ConfigurationError: it is no key, or others can read it.
        """
        from kasoko_cli.operations.approvals.key_files import private_key

        named, home = self.config.approval.key_file, self.config.file
        if file is None and named:
            file = Path(named) if home is None else home.parent / named
        return None if file is None else private_key(file)

    @property
    def limits(self) -> WireLimits:
        """What M-Pesa carries in one payment."""
        from kasoko_cli.domain.payout import WireLimits

        return WireLimits(self.config.payout.min_cents, self.config.payout.max_cents)

    @property
    def ask_policy(self) -> AskPolicy:
        """When reconcile asks how a payout ended."""
        from kasoko_cli.operations.reconciliation.status_queries import AskPolicy

        return AskPolicy(after_seconds=self.config.reconcile.after_seconds, confirm=self._confirm)

    @property
    def _confirm(self) -> Confirm:
        """How a failure is confirmed before its payout is sent under another id."""
        from kasoko_cli.operations.safeguards.failure_confirmation import Confirm

        payout, reconcile = self.config.payout, self.config.reconcile
        return Confirm(payout.confirm_failures_above_cents, reconcile.confirm_negative_seconds)

    @property
    def limits_of_health(self) -> HealthLimits:
        """From when on something is not well."""
        from kasoko_cli.domain.float_cover import FloatCheck
        from kasoko_cli.operations.monitoring.health import FloatWatch, HealthLimits
        from kasoko_cli.operations.monitoring.metrics_snapshot import Spans

        health, gate = self.config.health, self.gate_policy
        floor_cents = health.float_floor_kes * 100
        is_watched = gate.check is not FloatCheck.OFF
        return HealthLimits(
            float_watch=FloatWatch(gate.tariff, gate.max_age_seconds, floor_cents) if is_watched else None,
            spans=Spans(window_seconds=health.window_hours * 3_600, lately_seconds=health.failed_minutes * 60),
            success_bps=int(health.success_pct * 100),
            settlement_seconds=health.settlement_minutes * 60,
            unresolved_seconds=health.unresolved_hours * 3_600,
            unknown_seconds=health.unknown_minutes * 60,
            daraja_ms=health.daraja_seconds * 1_000,
            listener_seconds=health.listener_minutes * 60,
            due_seconds=health.due_minutes * 60,
        )

    @property
    def trust(self) -> Trust:
        """How much a callback is believed."""
        from kasoko_cli.operations.callbacks.apply_results import Trust

        return Trust(success_without_ack=self.config.listener.believe_success_without_ack)

    @property
    def caution(self) -> Caution:
        """What has to be certain before money goes any way out."""
        from kasoko_cli.operations.safeguards.payment_guard import Caution

        return Caution(self._confirm, self.trust)

    def tls(self) -> Tls | None:
        """The listener's certificate, where it speaks TLS itself.

        Raises:
            ConfigurationError: the certificate or its key cannot be used.
        """
        from kasoko_cli.daraja.serve import Tls

        listener = self.config.listener
        if not listener.tls_cert_file:
            return None
        return Tls(Path(listener.tls_cert_file), Path(listener.tls_key_file))

    def listener_figures(self, counts: Counts, inbox: Inbox, doors: Doors) -> Callable[[], bytes]:
        """What /metrics answers: what this listener has done, and how everything stands."""
        from kasoko_cli.operations.monitoring import prometheus

        return lambda: (
            prometheus.listener_exposition(counts, inbox, doors)
            + prometheus.exposition(self.db, self.clock, self.limits_of_health)
        )

    @property
    def caps(self) -> Caps:
        """How much is kept of what matches nothing."""
        from kasoko_cli.operations.callbacks.inbox import Caps

        listener = self.config.listener
        return Caps(hints_per_hour=listener.hints_per_hour, hint_bytes=listener.hints_mib * 2**20)

    def close(self) -> None:
        """Give back what was opened."""
        if "daraja" in self.__dict__:
            self.daraja.close()
        if "db" in self.__dict__:
            self.db.close()
