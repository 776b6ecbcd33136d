"""The rules of `health` as alert rules for Prometheus."""

from __future__ import annotations

from kasoko_cli.operations.monitoring.health import Limits, percent

#: Too little can be counted on, or nobody knows how much while something is wanted of it.
_FLOAT_SHORT = (
    "kasoko_float_available_cents < kasoko_float_wanted_cents"
    " or (kasoko_float_wanted_cents > 0 unless kasoko_float_available_cents)"
)

#: Alert, expression, how long it has to hold, severity, what is said. `{...}` are limits of the settings.
_RULES = (
    (
        "KasokoPayoutFailed",
        "kasoko_payouts_failed_last_hour > 0",
        "0m",
        "critical",
        "{{{{ $value }}}} payouts failed of late",
        "failed",
    ),
    (
        "KasokoSuccessRateLow",
        "kasoko_payout_success_ratio < {success}",
        "0m",
        "warning",
        "Fewer than {success_pct} of payouts succeed",
        "success",
    ),
    (
        "KasokoSettlementSlow",
        "kasoko_unsettled_age_seconds > {settlement}",
        "0m",
        "warning",
        "A market is resolved and not through after {settlement} s",
        "settlement",
    ),
    (
        "KasokoMarketUnresolved",
        "kasoko_unresolved_age_seconds > {unresolved}",
        "0m",
        "warning",
        "A market is past its close and has no outcome after {unresolved} s",
        "unresolved",
    ),
    (
        "KasokoMarketUnsettled",
        "kasoko_never_settled_age_seconds > {settlement}",
        "0m",
        "warning",
        "A market has ended and was not settled after {settlement} s",
        "unsettled",
    ),
    (
        "KasokoUnknownPayouts",
        "kasoko_unknown_age_seconds > {unknown}",
        "0m",
        "critical",
        "How a payout ended has been unknown for over {unknown} s",
        "unknown",
    ),
    (
        "KasokoDarajaSlow",
        "kasoko_daraja_p95_seconds > {daraja}",
        "5m",
        "warning",
        "M-Pesa takes over {daraja} s",
        "daraja",
    ),
    (
        "KasokoListenerDeaf",
        "kasoko_result_awaited_seconds > {listener} and time() - kasoko_listener_heard_timestamp_seconds > {listener}",
        "0m",
        "critical",
        "Results are due and none arrive",
        "listener",
    ),
    (
        "KasokoNobodySends",
        "kasoko_due_age_seconds > {due}",
        "0m",
        "critical",
        "A payout has been due for over {due} s and nobody sends it",
        "due",
    ),
    (
        "KasokoIncidentOpen",
        "kasoko_incidents > 0",
        "0m",
        "critical",
        "{{{{ $value }}}} incidents wait for a person",
        "incidents",
    ),
    (
        "KasokoAccountRefused",
        'kasoko_sending_stopped{{switch="breaker"}} == 1',
        "0m",
        "critical",
        "M-Pesa refuses the account, and nothing is sent",
        "breaker",
    ),
    ("KasokoPaused", 'kasoko_sending_stopped{{switch="pause"}} == 1', "1h", "warning", "Sending is paused", "paused"),
    (
        "KasokoFloatShort",
        _FLOAT_SHORT,
        "5m",
        "warning",
        "The float does not cover what is owed, or is not known",
        "float",
    ),
    (
        "KasokoResultsWaiting",
        "kasoko_callbacks_waiting > 0",
        "5m",
        "warning",
        "Results are stored and not applied",
        "waiting",
    ),
    (
        "KasokoMetricsStale",
        "time() - kasoko_collected_timestamp_seconds > 600",
        "0m",
        "warning",
        "kasoko metrics write has not run",
        "metrics",
    ),
)


def alert_rules(limits: Limits) -> str:
    """The rules as a file for Prometheus, with these limits."""
    values = {
        "success": f"{limits.success_bps / 10_000:g}",
        "success_pct": percent(limits.success_bps),
        "settlement": limits.settlement_seconds,
        "unresolved": limits.unresolved_seconds,
        "unknown": limits.unknown_seconds,
        "daraja": f"{limits.daraja_ms / 1_000:g}",
        "listener": limits.listener_seconds,
        "due": limits.due_seconds,
    }
    lines = ["groups:", "  - name: kasoko", "    rules:"]
    for alert, expression, lasts, severity, says, page in _RULES:
        lines += [
            f"      - alert: {alert}",
            f"        expr: {expression.format(**values)}",
            f"        for: {lasts}",
            "        labels:",
            f"          severity: {severity}",
            "        annotations:",
            f'          summary: "{says.format(**values)}"',
            f'          runbook: "docs/runbook.md#{page}"',
        ]
    return "\n".join(lines) + "\n"
