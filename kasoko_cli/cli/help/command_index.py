"""The front page: every word that may follow `kasoko`, told without loading any of them.

`kasoko --help`, and a shell that completes a word, need the names and one line each; loading the commands for
that would take longer than everything else. A command's module is loaded when it is called. A test holds this
table equal to what the modules themselves say.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from kasoko_cli.cli.help.layout import Page, has_colour, width_of

#: What the program is, in a sentence.
ABOUT = "Settle pari-mutuel prediction markets and pay the winners by M-Pesa, once."


#: The panels of `kasoko --help`, in the order in which they are shown.
ROAD, RECORDS, MPESA, BOOKS, HOUSE = "Settle and pay", "Records", "M-Pesa", "Books", "Setup and operations"


class Listed(NamedTuple):
    """A command or a group of commands: its name, where it is written, its panel, and what it does."""

    name: str
    #: A module of `kasoko_cli.cli.commands`, and the noun in it where that is not `commands`: `admin.init:config`.
    place: str
    panel: str
    says: str


#: Every word, in the order in which `kasoko --help` shows it.
WORDS = (
    Listed("resolve", "market.resolve", ROAD, "Name the winning outcome of MARKET."),
    Listed("settle", "market.settle", ROAD, "Divide MARKET's pool and owe the payouts; only --pay sends."),
    Listed("approve", "market.approve", ROAD, "Release a settlement that waits for a second person."),
    Listed("approver", "market.approver", ROAD, "People whose signatures count, each by a key of their own."),
    Listed("payout", "payout.payout", ROAD, "Send what is owed, and look at it."),
    Listed("retry-failed", "payout.retry_failed", ROAD, "Send definite failures again, where it can help."),
    Listed("status", "reports.status", ROAD, "Show how everything stands, one market, or one payout."),
    Listed("explain", "market.explain", ROAD, "Explain how a payout's amount came about, or a code."),
    Listed("incident", "reconciliation.incident", ROAD, "What contradicts itself, until a person closes it."),
    Listed("pause", "payout.switches", ROAD, "Stop all sending, on every host, until kasoko resume."),
    Listed("resume", "payout.switches", ROAD, "Let sending go on after a pause or a refused account."),
    Listed("market", "market.market", RECORDS, "Questions with outcomes that people bet on."),
    Listed("user", "records.user", RECORDS, "The people who bet, and the phones they are paid on."),
    Listed("bet", "records.bet", RECORDS, "Stakes on the outcomes of a market."),
    Listed("wallet", "records.wallet", RECORDS, "What users hold with the operator."),
    Listed("import", "records.import_export:imports", RECORDS, "Take in users, markets and bets from files."),
    Listed("export", "records.import_export:exports", RECORDS, "Write records and reports to files."),
    Listed("connect", "records.platform:connect", RECORDS, "Let kasoko see the records of a platform that you have."),
    Listed("sync", "records.platform", RECORDS, "Take in what is new on the platform: users, markets and bets."),
    Listed("mirror", "records.platform", RECORDS, "Tell the platform how markets ended and what became of payouts."),
    Listed("listen", "reconciliation.listen", MPESA, "Take in the results that M-Pesa posts, until told to stop."),
    Listed(
        "reconcile", "reconciliation.reconcile", MPESA, "Find out how unknown payouts ended: apply results, ask M-Pesa."
    ),
    Listed("worker", "admin.worker", MPESA, "Serve the tasks of a Celery fleet, until told to stop."),
    Listed(
        "float", "reconciliation.float_balance", MPESA, "Ask M-Pesa for its balances, and compare them with the books."
    ),
    Listed("callback", "reconciliation.callback", MPESA, "What M-Pesa, or somebody, posted to the listener."),
    Listed("simulator", "admin.simulate", MPESA, "Run a Daraja on this machine, with a ledger of its own."),
    Listed("credential", "admin.init:credential", MPESA, "The password that M-Pesa wants encrypted."),
    Listed("audit", "reports.ledger", BOOKS, "Recompute everything from the bets up."),
    Listed("suspense", "reconciliation.statement", BOOKS, "Money on M-Pesa's statement that matched nothing."),
    Listed(
        "statement",
        "reconciliation.statement:files",
        BOOKS,
        "Statements of M-Pesa that were taken in, and taking one back.",
    ),
    Listed("events", "reports.events", BOOKS, "List who did what, when and why; the last 50 unless said otherwise."),
    Listed("report", "reports.report", BOOKS, "Sheets for finance: on the terminal, or as CSV, JSON, XLSX, HTML."),
    Listed("tax", "records.tax", BOOKS, "Tax that is kept back of winners, and paying it to the authority."),
    Listed("verify", "market.verify", BOOKS, "Check a proof of settlement; needs no database and no settings."),
    Listed("init", "admin.init", HOUSE, "Write kasoko.toml and .env, and set up the database."),
    Listed("doctor", "admin.doctor", HOUSE, "Check all that a real run needs, each with its remedy."),
    Listed("demo", "admin.demo", HOUSE, "Watch markets settle and winners get paid, in some seconds."),
    Listed("notify", "reports.monitoring", HOUSE, "Tell people what is not well, once each, and when it is over."),
    Listed("metrics", "reports.monitoring:metrics", HOUSE, "Figures for Prometheus, and the rules that alert on them."),
    Listed("units", "admin.systemd", HOUSE, "systemd services and timers for all that runs by itself."),
    Listed("config", "admin.init:config", HOUSE, "Settings, and where each came from."),
    Listed("help", "admin.help_pages", HOUSE, "Read about exit codes, states, environment, formats, cron, recovery."),
    Listed("version", "admin.help_pages", HOUSE, "Show which kasoko this is; with --json, and which Python."),
    Listed("db", "admin.database", HOUSE, "The database: its tables, a copy of it, its health."),
)

_OPTIONS = (
    ("--version", "Show the version and stop."),
    ("--install-completion", "Have this shell complete commands, markets and payouts."),
    ("--show-completion", "Show what --install-completion would install."),
    ("-h, --help", "Show this page and stop."),
)

_EXAMPLES = ("kasoko demo", "kasoko settle rain --plan", "kasoko payout rain --listen", "kasoko status rain")

_ENDS = "Every command tells more: kasoko COMMAND --help. Topics: kasoko help."


def front_page() -> str:
    """What `kasoko --help` shows, for the terminal that standard output is."""
    page = Page(width_of(), bold=has_colour(sys.stdout))
    page.usage("kasoko [OPTIONS] COMMAND [ARGS]...")
    page.text(ABOUT)
    for panel in dict.fromkeys(word.panel for word in WORDS):
        page.rows(panel, [(word.name, word.says) for word in WORDS if word.panel == panel])
    page.rows("Options", _OPTIONS)
    page.commands("Examples", _EXAMPLES)
    page.text(_ENDS)
    return str(page)
