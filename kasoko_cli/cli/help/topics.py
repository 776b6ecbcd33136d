"""`kasoko help TOPIC`: what no single command's help can tell, as plain pages of at most 78 columns.

Tests compare them with the code: every exit code, state, variable and column is in them. README and the pages
take their table of exit codes from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from kasoko_cli.cli.help.layout import Page

EXIT_CODES = """\
Every command ends with one of these. The words after Error say what happened
to which thing, the words after Hint what to do.

  0    done
  1    a question was answered with no, an error without a number of its own,
       or a bug
  2    wrong usage; nothing was looked at
  3    configuration: a setting, a secret, the database or its tables
  4    not found
  5    the rules refuse it; nothing was changed
  6    some payouts were not sent or failed; no money moved for them
  7    some outcomes are unknown, or contradict each other
  8    a check found something: audit, status --check
  9    another run has this work; that run does it
  10   not all was done: a limit, what was shown, a pause, or a second person
       has to say the same
  130  interrupted; everything is recorded

After 6 nothing moved, and sending again is safe: kasoko retry-failed.
After 7 nobody here knows: ask first (kasoko reconcile), never send by hand.
After 9 and 10 another run, or the next one, goes on; where a second person is
needed, it says so.
Where what is no run ends with 9, like resolve or pause, another process held
the database for too long; nothing was changed: type it again.
With --json an error is one document on stderr, with the same code in it:
  {"error": {"kind": ..., "message": ..., "hint": ..., "exit_code": ...}}
"""

STATES = """\
A market: OPEN, then CLOSED, then RESOLVED; or VOID. Settling happens once.

A payout is what one person is owed for one settlement:

  AWAITING_APPROVAL  computed, not released by a second person yet
  HELD               stopped by a rule or a person, with a reason
  PENDING            may be sent now, or from its time on
  SENDING            an attempt stands; its request may or may not have left
  SENT               M-Pesa took it; its result is still to come
  UNKNOWN            there is no answer that can be trusted
  COMPLETED          there is evidence that the receiver got it
  WALLET             credited to the wallet instead of the phone
  FAILED             there is evidence that no money moved
  RETURNED           it was completed, and the money came back
  CANCELED           never paid: its settlement was reversed

Reports show three groups, which add up to all: pending (the first six),
completed (COMPLETED, WALLET) and failed (FAILED, RETURNED).

An attempt is one instruction to M-Pesa. Its id stands in the database before
anything leaves, so that a crash leaves a question, never a second payment:

  INTENT     written down; its request may have left
  ACCEPTED   M-Pesa took it
  UNKNOWN    no answer that can be trusted
  SUCCEEDED  paid, with a receipt
  REJECTED   M-Pesa did not take it; the same id may go again
  FAILED     ended without the money moving
  RETURNED   paid, and the money came back

Only evidence moves anything out of UNKNOWN: a result, a status answer, a line
of the statement, or people who looked.
"""

FORMATS = """\
Answers go to stdout, talk and errors to stderr.

On a terminal an answer is a table, or a block for each row where the terminal
is too narrow for one. Off a terminal it is a line of column names and a line
for each row, parted by tabs, without colour: made for cut, awk and sort.

With --json it is one document. Amounts are whole cents (names end in _cents),
times ISO 8601 in UTC (2026-11-23T05:12:44Z), states are words, phones are
masked. New names may come; none goes away or changes its meaning.

Files that import takes, as CSV or a workbook with these columns, or as JSON
Lines:

  users    user_id,name,phone
  markets  market_id,slug,question,outcomes,closes_at,fee_bps
  bets     bet_id,market_id,user_id,outcome,stake_kes,placed_at,cancelled_at

Outcomes are parted by a bar: Yes|No. Times have an offset, or are Nairobi's.
With --plan import shows how it reads a file, and writes nothing; --map says
which column has another name. A file is taken in whole or not at all, and
taking it in twice changes nothing.

Amounts that are typed are shillings: 100 or 99.50.
"""

CRON = """\
With --quiet, and where nobody looks on (off a terminal), a command whose work
went as it should says nothing on stdout and nothing on stderr. Cron then
sends no mail. A mail means that somebody has to act; it says in a few lines
what happened, what became of the money, and what to type.

  */5  * * * *  cd /srv/kasoko && .venv/bin/kasoko payout -y -q --max-seconds 240 --max-total 1000000
  7    * * * *  cd /srv/kasoko && .venv/bin/kasoko retry-failed -y -q --max-seconds 1500
  */15 * * * *  cd /srv/kasoko && .venv/bin/kasoko reconcile -q --no-listen
  0    * * * *  cd /srv/kasoko && .venv/bin/kasoko status --check -q
  30   2 * * *  cd /srv/kasoko && .venv/bin/kasoko audit --deep -q

And where privacy.keep_days is set, what empties results and calls that old:

  30   3 * * *  cd /srv/kasoko && .venv/bin/kasoko db expire -q

No mail, although the exit code is not 0:
  9   another run has this work, and does it
  10  --max-seconds: the next run goes on
  5   a person has paused sending: kasoko resume when that is over
  6   a payout was not taken, or its phone has had the day's limit, and goes
      again by itself; that M-Pesa cannot be reached at all is a mail
  7   of reconcile, in a round in which nothing new was asked or learnt

In production payout refuses to send more than payout.confirm_slug_above_kes
without a bound (exit 5, and a mail). --max-total KES is that bound: choose
your own. Where more is due nothing is sent, and a person looks.

status --check tells every hour what is not well until it is: a pause that was
forgotten, a failure within the last hour, a payout that stays unknown.

Instead of cron: kasoko units print makes systemd timers of the same jobs, and
kasoko notify tells people once instead of every hour.
"""

RECOVERY = """\
Whatever died, wherever: what was committed is kept, and what may have been
sent is asked about before it is sent again. The next command goes on.

A run was killed             kasoko payout
  What it had begun counts as unknown once its lease is over, and is asked
  about: kasoko reconcile

The listener was down        kasoko listen, then kasoko reconcile --now
  Results that M-Pesa posted meanwhile are asked for.

A wrong password             kasoko credential encrypt, put it into .env,
                             then kasoko resume, kasoko retry-failed
The float is empty           move money, then kasoko resume,
                             kasoko retry-failed, kasoko payout
A dead phone                 kasoko user set-phone USER PHONE,
                             then kasoko payout retry PAYOUT
  or to the wallet instead   kasoko payout to-wallet PAYOUT

Unknown for long             kasoko reconcile --now; then M-Pesa's portal or
                             statement, and kasoko payout decide PAYOUT

The database is lost         put the youngest copy back, never by hand:
  kasoko db restore COPY --replace --reason 'the disk died'
  kasoko doctor --after-restore --listen
  kasoko resume
  kasoko payout
  A copy does not know what was sent since. db restore holds every payout that
  may have been paid until M-Pesa or a statement says how it ended. A file put
  back by hand does not: with B2C v1 it pays people twice. Take in what is
  newer than the copy (bets, deposits) before resuming.

The database was moved       where kasoko db copy was killed, run it again:
  kasoko db copy URL         it goes on, or opens the copy. Never both send
  What it was moved to is lost, with every backup of it: a backup of the old
  database is put back with kasoko db restore COPY --replace --target-lost

The audit found something    kasoko pause --reason audit, keep the database
                             as it is, read what it says
"""


def _environment() -> str:
    """Every variable, from the settings themselves."""
    from kasoko_cli.settings import SETTINGS

    page = Page(78, bold=False)
    page.text(
        "Settings come from kasoko.toml, then .env beside it, then the environment, then the options of a command;"
        " the later one counts. What is in force: kasoko config show --origin"
    )
    named = [(name, about) for name, about in SETTINGS.items() if about.variable]
    page.rows("Settings", [(about.variable, f"{name}: {about.meaning}") for name, about in named if not about.secret])
    page.rows("Secrets", [(about.variable, about.meaning) for _, about in named if about.secret])
    files = [about.variable for _, about in named if about.secret or about.file]
    page.text(
        "A secret may also be a file: put _FILE behind its name, as in"
        f" {files[-1]}_FILE=/run/secrets/key. So may KASOKO_DATABASE_URL, which may hold a password."
    )
    page.rows(
        "From systemd", [("CREDENTIALS_DIRECTORY", "Where --key and --sign-with look for the name of a credential.")]
    )
    page.rows(
        "How it looks",
        [
            ("NO_COLOR", "Set to anything: no colour and no bold."),
            ("FORCE_COLOR", "Set to anything: colour also where nobody looks on. NO_COLOR goes before it."),
            ("TERM=dumb", "No colour, no bold, nothing that moves."),
            ("COLUMNS", "How wide pages and tables may be; else what the terminal says."),
        ],
    )
    page.rows(
        "Where it runs",
        [("KASOKO_HOST", "This host's name in status and in runs; else what the machine calls itself.")],
    )
    return str(page)


PEOPLE = """\
Who acts is the OS user or --actor, and stands on record: kasoko events.

Where two have to say the same, bob, "Bob " and BOB are one person. The first
one's word is written down (exit 10) and waits approval.expires_hours. It is
about exactly one thing; after that thing has changed it counts for nothing:

  approve             the plan's hash; the first of the two is who settled
  payout decide       one send of one attempt in its state, paid or not paid
  ... --all-unknown-between T1 T2  the list: ids, sends, amounts
  resolve --override  the plan's hash, and every payout of the market
  approver add        the name and the key

A name is only typed. For more than that each person signs, with a key that
they alone can read:

  kasoko approver key --output wanjiku.key
  kasoko approver add wanjiku --key wanjiku.key.pub

With approval.signed = true in kasoko.toml those acts are refused without the
signature of a known approver under their own name: --sign-with FILE, or once
in KASOKO_APPROVER_KEY_FILE. From then on settings that say false take none of
them. What needs no person (settle, payout, results, cron) needs no signature.

Once there are two approvers it takes two to let in another, and one to remove
one. kasoko audit finds a signature that is missing, forged or used twice.

To give signing up, or to begin anew after keys were lost: set approval.signed
to false, then remove every approver (kasoko approver remove). Each removal
without a signature raises an incident, which a person has to close.
"""


def _file(name: str) -> Callable[[], str]:
    """A file of the package as it is, to begin one's own from: `kasoko help settings > kasoko.toml`."""

    def read() -> str:
        from importlib.resources import files

        return files("kasoko_cli").joinpath(name).read_text(encoding="utf-8")

    return read


#: Each topic, what it is about, and what makes its page.
TOPICS: Mapping[str, tuple[str, Callable[[], str]]] = {
    "exit-codes": ("What each exit code means, and what may be done after it.", lambda: EXIT_CODES),
    "states": ("The states of markets, payouts and attempts.", lambda: STATES),
    "environment": ("Every variable that is read.", _environment),
    "settings": ("Every setting with its default, unit and meaning: a kasoko.toml.", _file("kasoko.toml.example")),
    "taxes": ("The form of the rules for tax: a file to begin from.", _file("duties.example.toml")),
    "formats": ("Answers for people and for programs; files in.", lambda: FORMATS),
    "cron": ("Running by itself: when there is a mail, and when not.", lambda: CRON),
    "people": ("Who acts: names, two people, signatures.", lambda: PEOPLE),
    "recovery": ("What to type after each kind of trouble.", lambda: RECOVERY),
}
