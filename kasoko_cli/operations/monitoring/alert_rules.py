"""The rules of `health` as alert rules for Prometheus."""

from __future__ import annotations

from kasoko_cli.operations.monitoring.health import HealthLimits, percent

#: Too little can be counted on, or nobody knows how much while something is wanted of it.
_FLOAT_SHORT = (
    "kasoko_float_available_cents < kasoko_float_wanted_cents"
    " or (kasoko_float_wanted_cents > 0 unless kasoko_float_available_cents)"
)

#: Three lines a rule: its name, its severity, how long it has to hold, and its place in the runbook; the expression;
#: what is said. `{...}` are limits of the settings.
_RULES = """
KasokoPayoutFailed critical 0m failed
kasoko_payouts_failed_lately > 0
{{{{ $value }}}} payouts failed of late

KasokoSuccessRateLow warning 0m success
kasoko_payout_success_ratio < {success}
Fewer than {success_pct} of payouts succeed

KasokoSettlementSlow warning 0m settlement
kasoko_unsettled_age_seconds > {settlement}
A market is resolved and not through after {settlement} s

KasokoMarketUnresolved warning 0m unresolved
kasoko_unresolved_age_seconds > {unresolved}
A market is past its close and has no outcome after {unresolved} s

KasokoMarketUnsettled warning 0m unsettled
kasoko_never_settled_age_seconds > {settlement}
A market has ended and was not settled after {settlement} s

KasokoUnknownPayouts critical 0m unknown
kasoko_unknown_age_seconds > {unknown}
How a payout ended has been unknown for over {unknown} s

KasokoDarajaSlow warning 5m daraja
kasoko_daraja_p95_seconds > {daraja}
M-Pesa takes over {daraja} s

KasokoListenerDeaf critical 0m listener
kasoko_result_awaited_seconds > {listener} and time() - kasoko_listener_heard_timestamp_seconds > {listener}
Results are due and none arrive

KasokoNobodySends critical 0m due
kasoko_due_age_seconds > {due}
A payout has been due for over {due} s and nobody sends it

KasokoIncidentOpen critical 0m incidents
kasoko_incidents > 0
{{{{ $value }}}} incidents wait for a person

KasokoAccountRefused critical 0m breaker
kasoko_sending_stopped{{switch="breaker"}} == 1
M-Pesa refuses the account, and nothing is sent

KasokoPaused warning 1h paused
kasoko_sending_stopped{{switch="pause"}} == 1
Sending is paused

KasokoFloatShort warning 5m float
{float}
The float does not cover what is owed, or is not known

KasokoResultsWaiting warning 5m waiting
kasoko_callbacks_waiting > 0
Results are stored and not applied

KasokoMetricsStale warning 0m metrics
time() - kasoko_collected_timestamp_seconds > 600
kasoko metrics write has not run
"""


def alert_rules(limits: HealthLimits) -> str:
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
        "float": _FLOAT_SHORT,
    }
    lines = ["groups:", "  - name: kasoko", "    rules:"]
    for rule in _RULES.strip().split("\n\n"):
        head, expression, says = rule.splitlines()
        alert, severity, lasts, page = head.split()
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
