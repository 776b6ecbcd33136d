"""Whether all is well: rules over the figures, each with what it means and what to type.

The operator's own key figures are the defaults: a success rate over 99 %, settlement in under five minutes,
any failure within an hour, and M-Pesa's answers in under five seconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from kasoko_cli.clock import Clock
from kasoko_cli.domain.counts import count_of
from kasoko_cli.domain.money import format_kes
from kasoko_cli.domain.tariff import Tariff
from kasoko_cli.operations.monitoring.metrics_snapshot import Figures, Spans, read_figures
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.monitoring.metrics import WaitingMarket

#: How long a stored result may wait to be applied before that is worth a word.
APPLY_SECONDS = 60


class State(StrEnum):
    """How well it is."""

    OK = "OK"
    WARNING = "WARNING"  #: somebody should look today
    CRITICAL = "CRITICAL"  #: somebody should look now


@dataclass(frozen=True, slots=True)
class FloatWatch:
    """What the utility account has to hold: what is owed to phones with M-Pesa's charges, and a floor of ours.

    A balance older than `max_age_seconds` counts as not known, and what is not known is never enough.
    """

    tariff: Tariff
    max_age_seconds: int
    floor_cents: int = 0


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """From when on something is not well. Times in seconds."""

    spans: Spans = field(default_factory=Spans)
    success_bps: int = 9_900
    settlement_seconds: int = 300
    unknown_seconds: int = 1_800
    daraja_ms: int = 5_000
    listener_seconds: int = 600
    due_seconds: int = 900
    unresolved_seconds: int = 86_400
    #: None where the float is not watched.
    float_watch: FloatWatch | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not well.

    `key` says which rule it is of. `mark` grows when the same rule finds something new, such as one more
    failure; who was told of a smaller mark is told again.
    """

    key: str
    state: State
    what: str
    do: str
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict, what speaks against it, and the figures that it rests on."""

    state: State
    findings: list[Finding]
    figures: Figures

    @property
    def ok(self) -> bool:
        """Whether nobody has to look at anything."""
        return self.state is State.OK


def check_health(db: Database, clock: Clock, limits: HealthLimits) -> Health:
    """Read the figures and judge them."""
    watch = limits.float_watch
    figures = read_figures(db, clock, limits.spans, None if watch is None else watch.tariff)
    findings = sorted(judge(figures, limits), key=lambda one: one.state is not State.CRITICAL)
    state = State.OK
    if findings:
        state = State.CRITICAL if findings[0].state is State.CRITICAL else State.WARNING
    return Health(state, findings, figures)


def judge(now: Figures, limits: HealthLimits) -> Iterator[Finding]:
    """What is not well, rule by rule; no database is asked."""

    def age(since: datetime | None) -> int:
        return 0 if since is None else max(0, round((now.at - since).total_seconds()))

    for switch in now.switches:
        since = f"since {length(age(switch.at))}"
        if switch.name == "breaker":
            what = f"M-Pesa refuses the account {since}, and nothing is sent: {switch.reason}"
            do = "Mend that first, then: kasoko resume, and kasoko retry-failed, and kasoko payout"
            yield Finding("breaker", State.CRITICAL, what, do)
        else:
            what = f"Sending is paused {since}: {switch.reason}"
            yield Finding("paused", State.WARNING, what, "Let it go on when that is over: kasoko resume")
    if now.failed_lately:
        what = f"{count_of(now.failed_lately, 'payout')} failed in the last {length(limits.spans.lately_seconds)}"
        mark = "" if now.last_failed_at is None else now.last_failed_at.isoformat(timespec="microseconds")
        yield Finding("failed", State.CRITICAL, what, "See why: kasoko payout list --status FAILED", mark)
    if now.incidents:
        count = sum(now.incidents.values())
        what = f"{count} incident{'s' if count > 1 else ''} that nobody has closed: {', '.join(sorted(now.incidents))}"
        do = "Read them: kasoko incident list"
        yield Finding("incidents", State.CRITICAL, what, do, f"{now.latest_incident:012d}")
    if now.unknown:
        old = age(now.unknown_since)
        what = (
            f"How {count_of(now.unknown, 'payout')} ended is unknown, KES {format_kes(now.unknown_cents)},"
            f" the oldest for {length(old)}"
        )
        late = old > limits.unknown_seconds
        state = State.CRITICAL if late else State.WARNING
        mark = "2 late" if late else "1 young"
        yield Finding("unknown", state, what, "Ask M-Pesa: kasoko reconcile. Never send them by hand.", mark)
    yield from _judge_listener(now, limits, age(now.awaited_since))
    if (waited := age(now.due_since)) > limits.due_seconds:
        waits = f"A payout has been due for {length(waited)} and nobody sends it"
        yield Finding("due", State.CRITICAL, waits, "Send what is due: kasoko payout. Does its timer run?")
    if now.success_bps is not None and now.success_bps < limits.success_bps:
        ended = now.completed + now.failed
        what = (
            f"{percent(now.success_bps)} of {count_of(ended, 'payout')} succeeded in the last"
            f" {length(limits.spans.window_seconds)}, and {percent(limits.success_bps)} is wanted"
        )
        yield Finding("success", State.WARNING, what, "See why: kasoko payout list --status FAILED")
    slow = [one for one in now.unsettled if age(one.resolved_at) > limits.settlement_seconds]
    if slow:
        first = max(slow, key=lambda one: age(one.resolved_at))
        what = (
            f"{first.market} was resolved {length(age(first.resolved_at))} ago and is not through:"
            f" {count_of(first.payouts, 'payout')}, KES {format_kes(first.amount_cents)}"
        ) + (f" (and {len(slow) - 1} more)" if len(slow) > 1 else "")
        yield Finding("settlement", State.WARNING, what, f"See what it waits for: kasoko status {first.market}")
    yield from late_markets(now.waiting_markets, now.at, limits)
    if now.daraja_p95_ms is not None and now.daraja_p95_ms > limits.daraja_ms:
        took, wanted = now.daraja_p95_ms / 1000, limits.daraja_ms / 1000
        what = f"M-Pesa takes {took:.1f} s for 95 of 100 requests, and {wanted:.0f} s is wanted"
        yield Finding("daraja", State.WARNING, what, "Nothing is lost. If it lasts, pause, and ask Safaricom.")
    if limits.float_watch is not None:
        yield from _judge_float(now, limits.float_watch)


def float_wanted(now: Figures, watch: FloatWatch) -> int:
    """What the utility account has to hold, in cents: all that is owed, or the floor where that is more."""
    return max(now.float_needed_cents, watch.floor_cents)


def float_known(now: Figures, watch: FloatWatch) -> int | None:
    """What can be counted on, in cents; None where M-Pesa never said it, or too long ago."""
    if now.float_as_of is None or (now.at - now.float_as_of).total_seconds() > watch.max_age_seconds:
        return None
    return now.float_available_cents


def _judge_float(now: Figures, watch: FloatWatch) -> Iterator[Finding]:
    """Whether the utility account holds what is wanted of it; where that is nothing, nothing is said."""
    wanted, known = float_wanted(now, watch), float_known(now, watch)
    if not wanted or (known is not None and known >= wanted):
        return
    why = "are owed to phones" if now.float_needed_cents >= watch.floor_cents else "are to be there at all times"
    if known is not None:
        what = f"The float is short: KES {format_kes(known)} can be counted on, and KES {format_kes(wanted)} {why}"
        do = "Move money into the utility account, and let kasoko see it: kasoko float --listen"
        yield Finding("float", State.WARNING, what, do, "2 short")
        return
    said = "no balance of M-Pesa was ever read"
    if now.float_as_of is not None and now.float_cents is not None:
        old = length(round((now.at - now.float_as_of).total_seconds()))
        said = f"M-Pesa last said KES {format_kes(now.float_cents)}, {old} ago"
    what = f"The float is not known: {said}, and KES {format_kes(wanted)} {why}"
    yield Finding("float", State.WARNING, what, "Ask M-Pesa: kasoko float --listen", "1 not known")


def late_markets(waiting: Sequence[WaitingMarket], at: datetime, limits: HealthLimits) -> Iterator[Finding]:
    """Markets that wait for a person longer than they should: those without an outcome, then those not settled."""
    resolve = ("closed {} ago and nobody has resolved it", "resolve {} OUTCOME")
    settle = ("ended {} ago and was never settled", "settle {}")
    for is_resolved, key, limit, (says, do) in (
        (False, "unresolved", limits.unresolved_seconds, resolve),
        (True, "unsettled", limits.settlement_seconds, settle),
    ):
        late = [one for one in waiting if one.is_resolved is is_resolved and (at - one.since).total_seconds() > limit]
        if late:
            first, more = late[0], f" (and {len(late) - 1} more)" if len(late) > 1 else ""
            ago = length(round((at - first.since).total_seconds()))
            stakes = f"KES {format_kes(sum(one.stake_cents for one in late))} are staked"
            mark = late[-1].since.isoformat(timespec="microseconds")
            what = f"{first.slug} {says.format(ago)}{more}; {stakes}"
            yield Finding(key, State.WARNING, what, f"Type: kasoko {do.format(first.slug)}", mark)


def _judge_listener(now: Figures, limits: HealthLimits, awaited_seconds: int) -> Iterator[Finding]:
    """A listener is deaf when results are due and nothing at all has come since they were sent."""
    silent = now.heard_at is None or (now.awaited_since is not None and now.heard_at < now.awaited_since)
    if awaited_seconds > limits.listener_seconds and silent:
        what = f"Results have been due for {length(awaited_seconds)} and the listener has heard nothing"
        yield Finding("listener", State.CRITICAL, what, "See that kasoko listen runs and that M-Pesa reaches it")
    # A result that has just come is applied in this moment.
    if now.callbacks_waiting and now.heard_at is not None and (now.at - now.heard_at).total_seconds() > APPLY_SECONDS:
        what = f"stored and not applied: {count_of(now.callbacks_waiting, 'result')}"
        yield Finding("waiting", State.WARNING, what, "Apply them: kasoko reconcile")


def length(seconds: int) -> str:
    """A length of time as people say it: `40 s`, `12 min`, `3 h`, `2 days`."""
    for unit, size, until in (("s", 1, 120), ("min", 60, 7_200), ("h", 3_600, 172_800)):
        if seconds < until:
            return f"{seconds // size} {unit}"
    return f"{seconds // 86_400} days"


def percent(bps: int) -> str:
    """Basis points as a percentage: 9950 is `99.50 %`."""
    return f"{bps // 100}.{bps % 100:02d} %"
