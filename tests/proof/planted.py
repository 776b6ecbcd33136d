"""Bugs that would pay twice or lose money, planted in a copy of this checkout: the tests must catch each.

    python -m tests.proof.planted
    python -m tests.proof.planted --bug 'FAILED on a read timeout'

A claim that no test can break is no claim. Each bug is a small exact replacement in the source; where the text to
replace is no longer there just once, nothing is run and the bug has to be written anew. The tests that are named
beside it run in the copy. Exit status: 0 each was caught, 8 one was not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: What no copy needs.
_LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", "*.db", "*.pyc")


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file, from its path in the package."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Bug:
    """What somebody might get wrong, and the tests that hold against it."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]


def _bug(name: str, file: str, old: str, new: str, *tests: str) -> Bug:
    return Bug(name, (Edit(file, old, new),), tests)


BUGS: Sequence[Bug] = (
    _bug(
        "what a duty kept back is said to have arrived on the phone",
        "ledger/daybook.py",
        '        "deliver": (Account.DELIVERED, 1),\n',
        "",
        "operations/reporting/test_finance.py::test_a_day_with_everything_in_it_adds_up_to_the_books",
    ),
    _bug(
        "the proof's stopped run sends past its lease",
        "daraja/client.py",
        "hold_back=lambda: call.why_held_back(deadline)",
        'hold_back=lambda: ""',
        "proof/test_acts.py::test_a_run_that_is_stopped_past_its_lease_sends_nothing_once_a_person_decided",
    ),
    _bug(
        "one Declined is enough, in the proof",
        "operations/safeguards/failure_confirmation.py",
        "    if not is_large and not is_repeated:\n",
        "    if not is_large:\n",
        "proof/test_acts.py::test_one_declined_of_a_payment_that_was_made_credits_no_wallet_and_pays_no_second_time",
    ),
    _bug(
        "any mark is ours, in the proof",
        "daraja/callback_urls.py",
        "mac_ok=any(matches)",
        "mac_ok=True",
        "proof/test_acts.py::test_what_a_stranger_posts_ends_nothing",
    ),
    _bug(
        "to-wallet of what M-Pesa has declined once, in the proof",
        "operations/safeguards/payment_guard.py",
        "    Way.TO_WALLET: (*_NOT_HAD, _C.APPROVAL),",
        "    Way.TO_WALLET: (_C.UNJUDGED, _C.LIVE, _C.INCIDENT, _C.APPROVAL),",
        "proof/test_acts.py::test_one_declined_of_a_payment_that_was_made_credits_no_wallet_and_pays_no_second_time",
    ),
    _bug(
        "a market that the platform ended is settled here too",
        "operations/settlement/settle.py",
        "        _check_platform(session, row)\n",
        "",
        "journeys/test_platform.py::"
        "test_what_is_gone_or_ended_there_is_told_and_stops_the_market_until_a_person_answers",
    ),
    _bug(
        "a mail that says that nothing needs a look",
        "cli/output/cron_mail.py",
        "    if run.reaped:\n        parts",
        "    if False:\n        parts",
        "cli/test_cron_mail.py",
    ),
    _bug(
        "a public proof with a digest over user ids",
        "operations/settlement/settlement_proof.py",
        '"leaves": leaves,',
        '"plan_hash": standing.plan_hash, "leaves": leaves,',
        "operations/settlement/test_settlement_proof.py::test_a_stranger_with_the_file_alone_cannot_tell_who_won",
    ),
    _bug(
        "a new database in place of the one that is gone",
        "cli/commands/admin/init.py",
        "init_files.refuse_second_database(toml_file, config)",
        "pass",
        "cli/test_init.py::test_a_database_that_is_gone_is_made_anew_by_nothing_but_a_word",
    ),
    _bug(
        "a database that was moved takes writes",
        "operations/admin/database_copy.py",
        "            close_writes(held, mark)\n",
        "",
        "operations/admin/test_database_copy.py::test_all_of_it_arrives_and_only_the_copy_takes_writes",
    ),
    _bug(
        "a copy takes writes before the database that it is of is closed",
        "operations/admin/database_copy.py",
        "            close_writes(session, unfinished)\n",
        "",
        "operations/admin/test_database_copy.py::test_killed_anywhere_never_both_send_and_the_next_try_ends_it",
    ),
    _bug(
        "an old copy is put in the place of a database that was moved",
        "operations/admin/backups.py",
        "if replace and not expected.target_lost:",
        "if False:",
        "operations/admin/test_database_copy.py::test_a_copy_of_what_was_moved_is_put_back_only_where_the_other_is_lost",
    ),
    _bug(
        "a server's database by another address is copied into itself",
        "operations/admin/database_copy.py",
        "if not target.is_sqlite and whole_copy.is_held(target):",
        "if False:",
        "operations/admin/test_database_copy.py::test_the_target_is_another_database_and_empty",
    ),
    _bug(
        "a copy on a server counts from one again",
        "store/engine/whole_copy.py",
        "    _count_on(target)\n",
        "",
        "operations/admin/test_database_copy.py::test_what_was_on_its_way_goes_on_in_the_copy_and_nobody_is_paid_twice",
    ),
    _bug(
        "a database of another deployment",
        "cli/container.py",
        "if not self.only_reads:",
        "if False:",
        "cli/test_init.py::test_the_database_of_another_deployment_is_read_and_never_written",
    ),
    _bug(
        "a .env that sends the secrets elsewhere",
        "config.py",
        "if daraja.production and host != real and (stated is None or stated.value != url.value):",
        "if False:",
        "test_config.py::test_in_production_no_secret_goes_elsewhere_because_of_a_file_in_the_folder",
    ),
    _bug(
        "the spelling of v3 on v1",
        "daraja/messages.py",
        '"Occasion" if api == "v1" else "Occassion"',
        '"Occassion"',
        "daraja/test_messages.py::test_a_payment_on_v1_has_no_id_of_ours",
    ),
    _bug(
        "a simulator that posts to any host",
        "daraja/simulator/postman.py",
        "if not self._anywhere and not is_loopback(host):",
        "if False:",
        "daraja/test_simulator_protocol.py::test_results_go_to_this_machine_only_unless_the_simulator_is_told",
    ),
    _bug(
        "a number that was edited in the database is paid",
        "store/users.py",
        "elif (stands := person_seal(salt, user_id, name, phone)) != seal:",
        "elif False and (stands := ''):",
        "operations/payouts/test_sending.py::test_a_number_that_was_edited_in_the_database_or_erased_is_not_paid",
    ),
    _bug(
        "a workbook is unpacked whatever its size becomes",
        "operations/shared/table_files.py",
        "if unpacked > max(1 << 20, MOST_TIMES_PACKED * packed_bytes):",
        "if False:",
        "operations/reconciliation/test_statement_parser.py::test_a_bomb_is_refused_before_it_is_unpacked",
    ),
    _bug(
        "a password in a parameter is shown",
        "domain/addresses.py",
        "{found[3] if found[2] in _OPEN else HIDDEN}",
        "{found[3]}",
        "test_config.py::test_no_part_of_a_password_is_shown_however_the_address_spells_it",
    ),
    _bug(
        "an error report has the row that the server refused",
        "cli/bug_report.py",
        "quoted |= {said.message_detail, said.context}",
        "pass",
        "cli/test_bug_report.py::test_no_row_and_no_value_of_the_database_leaves",
    ),
    _bug(
        "a party's name that takes the square of its length",
        "daraja/messages.py",
        r"""([17][0-9]{8})(?=\Z|\s+[-\u2013]|""",
        r"""([17][0-9]{8})(?=\Z|\s*\s+[-\u2013]|""",
        "test_patterns.py",
    ),
    _bug(
        "a name of any length is composed",
        "domain/market.py",
        "if len(text) > 4 * most:",
        "if False:",
        "domain/test_market.py::test_a_name_of_accents_without_end_is_refused_at_once",
    ),
    _bug(
        "evidence of another account",
        "operations/callbacks/apply_results.py",
        "return query.account_id == attempt.account_id",
        "return True",
        "operations/account/test_payer.py::test_what_another_account_says_ends_nothing_and_nothing_is_sent_as_it",
    ),
    _bug(
        "a change of account while payments are open",
        "operations/account/payer.py",
        "if others := accounts.open_elsewhere(session, accounts.find(session, payer)):",
        "if False and (others := accounts.open_elsewhere(session, None)):",
        "operations/account/test_payer.py::test_what_another_account_says_ends_nothing_and_nothing_is_sent_as_it",
    ),
    _bug(
        "an id that two accounts send",
        "operations/payouts/claim.py",
        "if last is not None and last.status is AttemptStatus.REJECTED and last.account_id == self.context.account_id:",
        "if last is not None and last.status is AttemptStatus.REJECTED:",
        "operations/account/test_payer.py::test_what_was_refused_goes_as_another_account_under_an_id_of_its_own",
    ),
    _bug(
        "what only silence rejected sent by another account",
        "operations/account/payer.py",
        "return not is_sure or last.lease_token.startswith(RESTORED)",
        "return False",
        "operations/account/test_payer.py::test_what_only_silence_says_was_not_taken_never_goes_as_another_account",
    ),
    _bug(
        "a float of another account",
        "store/balance_readings.py",
        ".where(func.coalesce(col(Query.account_id), col(Attempt.account_id)) == account_id)",
        "",
        "operations/account/test_payer.py::test_the_balance_of_another_account_covers_no_run",
    ),
    _bug(
        "a new id on retry",
        "operations/payouts/claim.py",
        "if last is not None and last.status is AttemptStatus.REJECTED and last.account_id == self.context.account_id:",
        "if False:",
        "operations/payouts/test_sending.py::test_what_the_gateway_refused_goes_again_later_under_the_same_id_with_a_numbered_reserve",
        "operations/payouts/test_retry_schedule.py::test_after_the_schedule_a_retry_by_hand_pays_once_under_the_same_id",
    ),
    _bug(
        "a stopped sender does not look at its lease again",
        "daraja/client.py",
        "hold_back=lambda: call.why_held_back(deadline)",
        'hold_back=lambda: ""',
        "operations/payouts/test_stopped_senders.py::test_a_request_that_waits_past_its_lease_does_not_leave_once_somebody_decided",
    ),
    _bug(
        "payments that another account has open count as nobody's",
        "store/accounts.py",
        "others = col(Attempt.status).in_(LIVE), col(Attempt.account_id).is_distinct_from(account_id)",
        "others = col(Attempt.status).in_(LIVE), col(Attempt.account_id) == -1",
        "model/test_stories.py::test_another_account_neither_pays_nor_is_asked_while_payments_are_open",
    ),
    _bug(
        "what the last question forbids leaves all the same",
        "daraja/wire.py",
        "raise _HeldBack(why)",
        "return",
        "model/test_stories.py::test_what_a_stopped_sender_holds_does_not_leave_once_two_people_have_ruled",
    ),
    _bug(
        "M-Pesa has to deny a payment only once",
        "operations/safeguards/failure_confirmation.py",
        'is_repeated = source == "status" and',
        "is_repeated = False and",
        "model/test_stories.py::test_one_declined_opens_no_second_payment",
    ),
    _bug(
        "the second person ends another list than the first was shown",
        "operations/payouts/bulk_decision.py",
        "if not is_named(listed.list_hash, list_hash):",
        "if len(list_hash) < HASH_DIGITS:",
        "model/test_stories.py::test_many_are_decided_as_they_were_shown_or_not_at_all",
    ),
    _bug(
        "keys of two words are not read",
        "daraja/messages.py",
        "found.setdefault(_unspaced(key), [])",
        "found.setdefault(key, [])",
        "model/test_stories.py::test_results_and_answers_in_their_older_words_are_read",
    ),
    _bug(
        "a statement covers what it says of its period",
        "operations/reconciliation/statement_parser.py",
        "first, last = max(first, self.lead.period[0]), min(last, self.lead.period[1])",
        "first, last = self.lead.period",
        "model/test_stories.py::test_a_statement_that_does_not_show_the_time_ends_nothing",
    ),
    _bug(
        "silence is as good as an answer for another account",
        "operations/account/payer.py",
        'is_sure = (last.evidence or "").startswith(SURE) and',
        "is_sure = True and",
        "model/test_stories.py::test_silence_counts_until_it_is_taken_back_and_never_for_another_account",
    ),
    _bug(
        "a statement that is taken back leaves what its silence ended",
        "operations/reconciliation/statement_undo.py",
        "entries = [entry for one in fates for entry in _doubt(session, ctx.actor, row, one, at=now)]",
        "entries: list[Entry] = []",
        "model/test_stories.py::test_silence_counts_until_it_is_taken_back_and_never_for_another_account",
    ),
    _bug(
        "only the lease is looked at, and not who has ended it",
        "operations/payouts/dispatcher.py",
        "return attempts.is_held(session,",
        "return attempts.stands(session,",
        "operations/payouts/test_stopped_senders.py::test_a_request_that_waits_past_its_lease_does_not_leave_once_somebody_decided",
    ),
    _bug(
        "an acknowledgement of an ended attempt is kept quiet",
        "operations/payouts/record.py",
        "if attempt.status in _ENDED_UNPAID and",
        "if False and",
        "operations/payouts/test_stopped_senders.py"
        "::test_a_request_that_left_although_its_attempt_was_ended_is_in_doubt_and_asked_about",
    ),
    _bug(
        "the last question comes before connecting only",
        "daraja/wire.py",
        "        self.check()\n        if self.content",
        "        if self.content",
        "daraja/test_client.py::test_the_last_question_comes_after_connecting_directly_before_the_content",
    ),
    _bug(
        "a run goes on into an outage",
        "operations/payouts/outage.py",
        "UNKNOWN_STOPS_AFTER = 3",
        "UNKNOWN_STOPS_AFTER = 10**9",
        "operations/payouts/test_outage.py::test_of_many_senders_each_has_at_most_one_under_way_when_the_run_stops",
    ),
    _bug(
        "a run is not bound to what was shown",
        "cli/payout_run.py",
        "bound=bound,",
        "bound=None,",
        "cli/test_confirmation.py::test_an_older_and_larger_payout_that_is_released_meanwhile_is_not_sent",
    ),
    _bug(
        "a payout that has another phone than was shown is sent",
        "operations/payouts/spending_bound.py",
        "if bound._marks[index] != bound.mark(",
        "if False and bound.mark(",
        "operations/payouts/test_spending_bound.py::test_only_what_was_shown_is_taken",
        "cli/test_confirmation.py::test_a_payout_whose_phone_changed_meanwhile_is_left_and_named",
    ),
    _bug(
        "a task carries no bound",
        "cli/tasks.py",
        "bound = None if shown is None else",
        "bound = None if True else",
        "journeys/test_celery.py::test_a_task_is_bound_to_what_was_enqueued",
    ),
    _bug(
        "FAILED on a read timeout",
        "daraja/client.py",
        'SortedAnswer(Verdict.UNKNOWN, "", came.what,',
        'SortedAnswer(Verdict.REFUSED, "", came.what,',
        "operations/payouts/test_sending.py::test_what_may_have_been_taken_is_unknown_and_is_never_sent_again",
    ),
    _bug(
        "FAILED on a duplicate id",
        "daraja/codes.toml",
        'verdict = "duplicate"',
        'verdict = "refused"',
        "operations/payouts/test_sending.py::test_a_duplicate_is_the_first_request_which_is_asked_about",
    ),
    Bug(
        "the intent written after the send",
        (
            Edit(
                "operations/payouts/claim.py",
                "            self._last = claimed\n",
                "            self._last = claimed\n"
                "            self.early = {one.attempt_id: self.send(one) for one in claimed}\n",
            ),
            Edit(
                "operations/payouts/dispatcher.py",
                "self.claimer, self.recorder = Claimer(context, order.bound), Recorder(context)",
                "self.claimer, self.recorder = Claimer(context, order.bound), Recorder(context)\n"
                "        self.claimer.send = self._send",
            ),
            Edit(
                "operations/payouts/dispatcher.py",
                "answer = self._send(one)",
                "answer = self.claimer.early.pop(one.attempt_id)",
            ),
        ),
        ("operations/payouts/test_sending.py::test_the_intent_is_on_the_disk_before_a_byte_leaves",),
    ),
    _bug(
        "the one-live index dropped",
        "store/migrations/versions/0001_the_first_tables.py",
        '"attempt_one_live_per_payout",\n        "attempts",\n        "payout_id",\n        unique=True,',
        '"attempt_one_live_per_payout",\n        "attempts",\n        "payout_id",\n        unique=False,',
        "operations/shared/test_transitions.py::test_the_schema_refuses_a_second_live_attempt_of_one_payout",
    ),
    _bug(
        "an unguarded UPDATE of an attempt",
        "store/attempts.py",
        ".where(col(Attempt.id) == attempt_id, col(Attempt.status).in_(sources))",
        ".where(col(Attempt.id) == attempt_id)",
        "operations/shared/test_transitions.py::test_an_attempt_that_is_moved_by_one_process_is_not_moved_again_by_another_that_read_it_before",
        "operations/shared/test_transitions.py::test_no_state_is_left_by_a_way_that_is_not_in_the_tables",
    ),
    _bug(
        "an unguarded UPDATE of a payout",
        "store/payouts.py",
        ".where(col(Payout.id).in_(payout_ids), col(Payout.status).in_(sources))",
        ".where(col(Payout.id).in_(payout_ids))",
        "operations/shared/test_transitions.py::test_no_state_is_left_by_a_way_that_is_not_in_the_tables",
        "operations/payouts/test_manual_decision.py",
    ),
    _bug(
        "200 before the commit",
        "operations/callbacks/inbox.py",
        "        await done\n",
        "        done.cancel()\n",
        "operations/callbacks/test_inbox.py::test_what_was_taken_is_on_the_disk_when_the_answer_goes_out",
        "operations/callbacks/test_inbox.py::test_what_cannot_be_stored_is_told_to_the_listener_and_the_inbox_goes_on",
    ),
    _bug(
        "synchronous=NORMAL",
        "store/engine/database.py",
        '"synchronous=FULL",',
        '"synchronous=NORMAL",',
        "store/test_database.py::test_every_sqlite_connection_syncs_each_commit_and_holds_foreign_keys",
    ),
    _bug(
        "a reaper that returns to PENDING",
        "operations/shared/transitions.py",
        'doubtful(session, attempt, why="its sender stopped before an answer was recorded", at=now)',
        'not_taken(session, attempt, Failure(NOT_SENT, "it died", "reaped"), at=now, again_at=now)',
        "operations/shared/test_transitions.py::test_a_lease_that_ran_out_makes_unknown_and_never_due",
    ),
    _bug(
        "a reaper that returns to PENDING, to be sent again under the same id",
        "operations/shared/transitions.py",
        'outcome = doubtful(session, attempt, why="its sender stopped before an answer was recorded", at=now)',
        'outcome = not_taken(session, attempt, Failure(NOT_SENT, "?", "?"), at=now, again_at=now)',
        "proof/test_lease.py",
    ),
    _bug(
        "a reaper that says that nothing was sent",
        "operations/shared/transitions.py",
        'outcome = doubtful(session, attempt, why="its sender stopped before an answer was recorded", at=now)',
        'outcome = not_taken(session, attempt, Failure(NOT_SENT, "?", "?"), at=now, again_at=None)',
        "proof/test_lease.py",
    ),
    _bug(
        "a reaper that makes the payout due and leaves the attempt",
        "operations/shared/transitions.py",
        'outcome = doubtful(session, attempt, why="its sender stopped before an answer was recorded", at=now)',
        "outcome = TransitionResult(payouts.move(session, attempt.payout_id, PayoutStatus.PENDING, at=now))",
        "proof/test_lease.py",
    ),
    Bug(
        "a reaper that takes leases that still run for those that have run out",
        (
            Edit(
                "store/attempts.py",
                "stale = over(col(Attempt.lease_until), now, LONGEST_LEASE)",
                "stale = ~over(col(Attempt.lease_until), now, LONGEST_LEASE)",
            ),
            Edit(
                "store/attempts.py",
                "not is_over(attempt.lease_until, now, LONGEST_LEASE)",
                "is_over(attempt.lease_until, now, LONGEST_LEASE)",
            ),
        ),
        ("proof/test_lease.py",),
    ),
    _bug(
        "a reaper that does not look again at a lease for which it waited",
        "operations/shared/transitions.py",
        "if attempt.status is AttemptStatus.INTENT and not attempts.is_being_sent(attempt, now):",
        "if attempt.status is AttemptStatus.INTENT:",
        "operations/shared/test_transitions.py::test_what_was_sent_again_while_the_reaper_waited_is_not_reaped",
    ),
    _bug(
        "a timeout notice read as failure",
        "operations/callbacks/apply_results.py",
        'transitions.doubtful(session, attempt, why="M-Pesa says that it waited too long in the queue", at=at)',
        'transitions.not_paid(session, attempt, Failure("1", "too long", body.evidence), at=at)',
        "operations/callbacks/test_verification.py::test_a_timeout_notice_is_neither_paid_nor_failed_whatever_it_says",
    ),
    _bug(
        '"not found" read as failure',
        "operations/callbacks/apply_results.py",
        "    if answer.fate not in (StatusFate.COMPLETED, StatusFate.NOT_PAID):\n",
        "    if answer.fate is StatusFate.NOT_FOUND:\n"
        "        outcome = transitions.not_paid("
        'session, attempt, transitions.Failure("STATUS", "?", "status:1"), at=at)\n'
        '        return Judgement("failed", outcome, payout.id)\n'
        "    if answer.fate not in (StatusFate.COMPLETED, StatusFate.NOT_PAID):\n",
        "operations/reconciliation/test_status_queries.py::test_not_found_never_fails_a_payout_however_often_it_is_said",
    ),
    Bug(
        "the ids of a status answer's envelope used instead of its parameters",
        (
            Edit(
                "daraja/codes.py",
                'originator_conversation_id=result.text("OriginatorConversationID"),',
                "originator_conversation_id=result.originator_conversation_id,",
            ),
            Edit(
                "daraja/codes.py",
                'conversation_id=result.text("ConversationID"),',
                "conversation_id=result.conversation_id,",
            ),
        ),
        (
            "operations/reconciliation/test_status_queries.py::test_the_payments_ids_are_read_from_the_parameters_and_never_from_the_envelope",
        ),
    ),
    _bug(
        "to-wallet past an open incident",
        "operations/safeguards/payment_guard.py",
        "    Way.TO_WALLET: (*_NOT_HAD, _C.APPROVAL),",
        "    Way.TO_WALLET: (_C.UNJUDGED, _C.APPROVAL),",
        "operations/safeguards/test_payment_guard.py::test_whatever_pays_or_credits_asks_whether_the_phone_has_had_it",
    ),
    _bug(
        "a way that asks the guard for nothing",
        "operations/payouts/manual_decision.py",
        "            payment_guard.check(session, past[0], [payout], past[1], now=now)",
        "            pass",
        "operations/safeguards/test_payment_guard.py::test_each_condition_stops_the_way_until_the_hint_was_followed",
    ),
    _bug(
        "a stored success that is judged after the wallet was credited",
        "operations/safeguards/payment_guard.py",
        "    wait_for_server(db, lambda: apply_results.apply_waiting(",
        "    (lambda _db, _act: None)(db, lambda: apply_results.apply_waiting(",
        "operations/safeguards/test_payment_guard.py::test_a_stored_success_is_judged_before_its_payout_goes_any_other_way",
    ),
    _bug(
        "a run that sends what a restored copy has forgotten",
        "operations/payouts/claim.py",
        "        suspects = {*last, *incidents_of(session, [payout.id for payout in due])}",
        "        suspects = set(incidents_of(session, [payout.id for payout in due]))",
        "operations/safeguards/test_payment_guard.py::test_each_condition_stops_the_way_until_the_hint_was_followed",
    ),
    _bug(
        "an id that ended unpaid since a copy lets its payout go",
        "operations/safeguards/restore_doubt.py",
        "    if tries and tries[-1].id in words and words[tries[-1].id].is_spent:",
        "    if False:",
        "operations/admin/test_backups.py::test_what_was_paid_under_a_later_id_since_the_copy_is_found_before_anything_is_credited",
    ),
    _bug(
        "one answer lets go what a restored copy has forgotten",
        "operations/safeguards/restore_doubt.py",
        "    is_one_enough = not confirm.apart_seconds and attempt.wire_cents <= confirm.above_cents",
        "    is_one_enough = True",
        "operations/admin/test_backups.py::test_a_failure_since_the_copy_is_said_twice_and_its_id_is_not_used_again",
    ),
    _bug(
        "what was under way in a restored copy and failed is credited",
        "store/restored.py",
        "which = update(Attempt).where(col(Attempt.status).in_(LIVE))",
        "which = update(Attempt).where(col(Attempt.status).in_(LIVE), col(Attempt.id).is_(None))",
        "operations/admin/test_backups.py::test_what_had_been_sent_before_the_copy_may_have_been_sent_again_since",
    ),
    _bug(
        "what had failed in a restored copy is confirmed by nobody",
        "operations/safeguards/payment_guard.py",
        "    ended = (AttemptStatus.REJECTED, AttemptStatus.FAILED, AttemptStatus.RETURNED)",
        "    ended = (AttemptStatus.REJECTED,)",
        "operations/admin/test_backups.py::test_what_had_been_sent_before_the_copy_may_have_been_sent_again_since",
    ),
    _bug(
        "a market that was settled in the lost hours is paid anew",
        "operations/settlement/settle.py",
        "    hold_settled(session, market_id, settlement_no)\n",
        "",
        "operations/admin/test_backups.py::test_a_market_that_was_settled_and_paid_since_the_copy_is_asked_about_when_it_is_settled_anew",
    ),
    _bug(
        "what came back is sent again although it was since the copy",
        "operations/shared/transitions.py",
        "    if since is None or attempt.sent_at > since.at:",
        "    if True:",
        "operations/admin/test_backups.py::test_what_was_sent_again_after_its_money_had_come_back_is_found",
    ),
    _bug(
        "a statement that is silent of a number which a restored copy does not know",
        "operations/reconciliation/statement_matching.py",
        "    return is_restored(attempt) or line.party.may_be(attempt.phone)",
        "    return line.party.may_be(attempt.phone)",
        "operations/admin/test_backups.py::test_a_statement_says_nothing_of_a_copy_while_a_line_of_the_amount_went_to_a_number_that_it_may_not_know",
    ),
    _bug(
        "a hint that nobody asks about",
        "operations/reconciliation/status_queries.py",
        "due_at = now if question.is_hinted else from_at or _due_at(question, policy, now)",
        "due_at = from_at or _due_at(question, policy, now)",
        "operations/callbacks/test_unmarked_posts.py",
    ),
    _bug(
        "another export of the same movements is booked again",
        "operations/reconciliation/statement_keys.py",
        "line = replace(line, key=same.key)",
        "pass",
        "operations/reconciliation/test_statement_import.py::"
        "test_another_export_of_the_same_movements_books_nothing_twice",
    ),
    _bug(
        "a total that does not add up changes nothing",
        "operations/reconciliation/statement_rows.py",
        "self.broken_at = self.broken_at or number",
        "pass",
        "operations/reconciliation/test_statement_files.py::test_a_total_that_does_not_add_up_leaves_silence_no_proof",
    ),
    _bug(
        "a remark that names a payment is left out of a statement",
        "operations/reconciliation/statement_rows.py",
        "if _OF_A_PAYMENT.search(text):",
        "if False:",
        "operations/reconciliation/test_statement_files.py::test_a_bad_file_is_refused_with_a_sentence",
    ),
    _bug(
        "a statement covers what it says of itself",
        "operations/reconciliation/statement_parser.py",
        "        first, last = moved[0], min(moved[-1], now)\n",
        "        first, last = self.lead.period or (moved[0], min(moved[-1], now))\n",
        "operations/reconciliation/test_statement_silence.py",
    ),
    _bug(
        "silence proves although a line may be the payout",
        "operations/reconciliation/statement_matching.py",
        "yield self._still_unknown(one, lines) if lines else self._silence(one, first, last)",
        "yield self._silence(one, first, last)",
        "operations/reconciliation/test_statement_silence.py",
    ),
    _bug(
        "the words of a reason decide before amount, time and receiver",
        "operations/reconciliation/statement_matching.py",
        "            if line.withdrawn_cents and line.status is LineStatus.COMPLETED:\n",
        "            if line.kind is LineKind.PAYOUT and line.status is LineStatus.COMPLETED:\n",
        "operations/reconciliation/test_statement_silence.py",
    ),
    _bug(
        "another account's statement is booked",
        "operations/reconciliation/statement_owner.py",
        "if shortcode is not None and others and shortcode not in lead.accounts:",
        "if shortcode is None and others:",
        "operations/reconciliation/test_statement_owner.py",
    ),
    _bug(
        "a statement is taken back although its payout was sent again",
        "operations/reconciliation/statement_undo.py",
        "        if stands and last.id == attempt.id and payout.status is PayoutStatus.FAILED:\n",
        "        if stands or last is not None:\n",
        "operations/reconciliation/test_statement_undo.py::test_what_was_tried_again_since_refuses_the_whole",
    ),
    _bug(
        "a statement that is taken back leaves its charges",
        "operations/reconciliation/statement_undo.py",
        '    keys += [f"attempt:{line.attempt_id}:charge_paid" for line in charged]\n',
        "",
        "operations/reconciliation/test_statement_undo.py",
    ),
    _bug(
        "a signal handler that takes a lock",
        "cli/signals.py",
        "signal.signal(number, words.heed)",
        "signal.signal(number, lambda *_: stopper.set())",
        "journeys/test_signals.py::test_thousands_of_signals_do_not_hang_a_loop_of_short_waits",
    ),
    _bug(
        "a first word that counts for every send of an attempt",
        "operations/payouts/manual_decision.py",
        '        "sends": attempt.sends,\n',
        "",
        "operations/payouts/test_manual_decision.py::test_a_word_about_an_earlier_send_of_the_same_id_is_no_first_word",
    ),
    _bug(
        "two people told apart by how their names are typed",
        "operations/approvals/second_person.py",
        "        if are_one(word.actor, actor.name):\n            continue",
        "        if word.actor == actor.name:\n            continue",
        "operations/payouts/test_manual_decision.py::test_one_person_is_not_two_under_another_spelling",
    ),
    _bug(
        "an approver who lets in a second one alone",
        "operations/approvals/approvers.py",
        "if known.were_two and terms.signed:",
        "if False:",
        "operations/approvals/test_signatures.py::test_one_person_is_not_two_with_one_key",
    ),
    _bug(
        "settings that ask for less as a way round signatures",
        "operations/approvals/signatures.py",
        "if known.required and not wanted:",
        "if False:",
        "operations/approvals/test_signatures.py::test_settings_that_ask_for_less_are_no_way_round",
    ),
    _bug(
        "a signature that is not held to the name",
        "operations/approvals/signatures.py",
        "    if approver.public_key != public_key:\n",
        "    if False:\n",
        "operations/approvals/test_signatures.py::test_a_word_without_the_right_signature_is_refused",
    ),
    _bug(
        "a word on many that passes no guard",
        "operations/payouts/bulk_decision.py",
        "if payout.id not in against]",
        "]",
        "operations/payouts/test_bulk_decision.py::test_what_the_guard_objects_to_is_named_and_left",
    ),
    _bug(
        "a word on many that is not held to the list that was shown",
        "operations/payouts/bulk_decision.py",
        "        _check_shown(listed, said.list_hash)\n",
        "",
        "operations/payouts/test_bulk_decision.py::test_what_was_shown_is_what_is_decided",
    ),
    _bug(
        "a first word that never expires",
        "operations/approvals/second_person.py",
        "if is_same and counts and word.at <= farthest(at) and iso(at) < until:",
        "if is_same and counts:",
        "operations/payouts/test_manual_decision.py::test_a_first_word_that_has_expired_is_told_as_such_and_the_second_is_a_first",
    ),
    _bug(
        "an override that holds no wallet",
        "operations/settlement/correction.py",
        "        users.lock_wallets(session, {one.user_id for one in held})\n",
        "",
        "operations/shared/test_races.py::test_what_an_override_takes_back_is_not_spent_meanwhile",
    ),
    _bug(
        "an approval that does not hold its payouts",
        "operations/settlement/approval.py",
        "        payouts.lock_market(session, row.id)\n",
        "",
        "operations/shared/test_races.py::test_a_hold_and_an_approval_at_once",
        "operations/shared/test_races.py::test_what_is_let_go_while_its_settlement_is_approved_does_not_wait_for_ever",
    ),
    _bug(
        "a statement that reads a debt without holding it",
        "operations/reconciliation/statement_import.py",
        "users.lock_wallets(session, {one.attempt.user_id for one in paid_back if one.attempt is not None})",
        "pass",
        "operations/shared/test_races.py::test_what_comes_back_by_a_statement_pays_off_no_more_than_is_owed",
    ),
    _bug(
        "money back that pays off more than is owed",
        "operations/reconciliation/statement_import.py",
        "paid_off = min(known.wire_cents, owed[known.user_id])",
        "paid_off = known.wire_cents",
        "operations/reconciliation/test_statement_import.py::test_what_comes_back_of_a_debt_that_was_given_up_goes_to_suspense",
    ),
    _bug(
        "a body that is dropped while it is judged again",
        "operations/callbacks/stored_callbacks.py",
        "callbacks.by_numbers(session, numbers, lock=True)",
        "callbacks.by_numbers(session, numbers)",
        "operations/shared/test_races.py::test_a_body_is_judged_again_or_dropped",
    ),
    _bug(
        "statements prepared on a server behind a pooler",
        "store/engine/server.py",
        '"prepare_threshold": None,',
        '"prepare_threshold": 5,',
        "store/test_server.py::test_many_sessions_share_few_of_the_servers",
    ),
    _bug(
        "a transaction that may stand still for ever",
        "store/engine/server.py",
        '"idle_in_transaction_session_timeout": f"{idle}s",',
        "",
        "store/test_server.py::test_a_process_that_is_stopped_in_a_transaction_blocks_the_others_no_longer_than_its_time",
    ),
    _bug(
        "a role's read-only left to stand",
        "store/engine/server.py",
        '"write": "READ COMMITTED READ WRITE",',
        '"write": "READ COMMITTED",',
        "store/test_server.py::test_what_a_role_or_a_database_sets_changes_nothing",
    ),
    _bug(
        "a payout that fails since nobody reads what it tells",
        "streams.py",
        "            except OSError as error:\n                self.trouble = error\n                break\n",
        "            except ZeroDivisionError:\n                break\n",
        "journeys/test_streams.py::test_a_line_of_cron_does_its_work_whatever_has_become_of_its_streams",
    ),
    _bug(
        "a hint that names another command than the one that was typed",
        "cli/command.py",
        'return shlex.join(["kasoko", *words])',
        'return "kasoko payout"',
        "proof/test_again.py",
    ),
    _bug(
        "an exit code that the help does not have",
        "cli/commands/admin/doctor.py",
        " 3 settings (with --after-restore), 6 M-Pesa\n    cannot be reached (with --after-restore),",
        "",
        "proof/test_again.py",
    ),
    _bug(
        "a stranger's byte in a receipt or an amount is borne with",
        "daraja/messages.py",
        "if _DAMAGED in item and _unspaced(name) not in _WORDS:",
        "if False:",
        "daraja/test_messages.py::test_a_byte_that_is_not_utf_8_in_what_is_measured_makes_a_body_unreadable",
    ),
    _bug(
        "the conversation of a repeat is held against the first payment",
        "operations/callbacks/verification.py",
        "None if mixed_up or attempt.met_before else",
        "None if mixed_up else",
        "operations/payouts/test_repeats.py",
    ),
    _bug(
        "an earlier send that did not pay ends the last one",
        "operations/callbacks/verification.py",
        "or answer.fate is StatusFate.NOT_PAID):",
        "):",
        "operations/payouts/test_repeats.py::test_where_the_15_was_lost_a_paid_first_send_is_believed_and_an_unpaid_one_is_not",
    ),
    _bug(
        "a closed incident silences the next one",
        "store/log.py",
        "seen = evidence or (key if callback_id is None else _digest_of(session, callback_id))",
        "seen = key",
        "operations/payouts/test_incidents.py::test_what_is_new_after_closing_raises_anew_and_what_was_dealt_with_does_not",
    ),
    _bug(
        "an answer settles what was posted after its question",
        "store/log.py",
        "col(Incident.last_at) <= asked_at, _MAY_BE_ANSWERED",
        "_MAY_BE_ANSWERED",
        "operations/payouts/test_incidents.py::test_a_question_that_is_older_than_the_evidence_settles_nothing",
    ),
    _bug(
        "one Declined opens another payment",
        "operations/safeguards/failure_confirmation.py",
        'return asked.unless_said(frozenset({"NOT_PAID"}), from_at, why, after=first)',
        "return None",
        "operations/safeguards/test_failure_confirmation.py::test_one_declined_opens_no_second_payment_and_the_same_again_after_a_while_does",
    ),
    _bug(
        "an answer in the same breath confirms",
        "operations/safeguards/failure_confirmation.py",
        "last.answer in answers and last.asked_at >= from_at and",
        "last.answer in answers and",
        "operations/safeguards/test_failure_confirmation.py::test_a_failed_result_above_the_limit_needs_an_answer_some_time_after",
    ),
    _bug(
        "a stranger's word holds a payout back for ever",
        "operations/payouts/claim.py",
        "Condition.ASKED: 300, ",
        "",
        "operations/callbacks/test_unmarked_posts.py::test_a_hint_that_m_pesa_denies_holds_the_payout_back_no_longer",
    ),
    _bug(
        "a second no of a clock that ran ahead",
        "operations/safeguards/failure_confirmation.py",
        "by_now = [one for one in asked if one.asked_at <= now]",
        "by_now = asked",
        "operations/shared/test_clocks.py::test_a_question_that_a_clock_ahead_asked_confirms_nothing",
    ),
    _bug(
        "what was asked before a failure that is dated ahead confirms it",
        "operations/safeguards/failure_confirmation.py",
        "return self.now if after is None else after + apart",
        "return self.by_now[-1].asked_at if self.by_now else self.now",
        "operations/shared/test_clocks.py::test_a_failure_posted_to_a_clock_that_ran_ahead_is_confirmed_by_two_answers_after_it",
    ),
    _bug(
        "a lease of a clock that ran ahead holds for a year",
        "store/schema/types.py",
        "return or_(until.is_(None), until < now, until > farthest(now, longest))",
        "return or_(until.is_(None), until < now)",
        "operations/shared/test_clocks.py::test_the_lease_of_a_wrong_clock_is_over_and_makes_unknown_which_is_asked_about_and_not_sent",
    ),
)


@dataclass(frozen=True, slots=True)
class Fitted:
    """A bug's changed files by path, and what does not fit; nothing is planted unless all of it does."""

    changed: dict[str, str]
    trouble: str = ""


def fit(bug: Bug, root: Path = ROOT) -> Fitted:
    """Apply a bug to the sources in memory: each text must stand there exactly once, and the result must compile."""
    changed: dict[str, str] = {}
    for edit in bug.edits:
        path = f"kasoko_cli/{edit.file}"
        if path not in changed and not (root / path).exists():
            return Fitted({}, f"there is no {path} any more")
        text = changed.get(path) or (root / path).read_text()
        if (times := text.count(edit.old)) != 1:
            return Fitted({}, f"{edit.old!r} stands {times} times in {path}, not once: write the bug anew")
        changed[path] = text.replace(edit.old, edit.new)
    for path, text in changed.items():
        if path.endswith(".py"):
            compile(text, path, "exec")
    missing = [name for name in bug.tests if not _stands(name, root)]
    return Fitted(changed, f"there is no test {', '.join(missing)}" if missing else "")


def _stands(test: str, root: Path) -> bool:
    file, _, name = test.partition("::")
    return (root / "tests" / file).exists() and f"def {name}" in (root / "tests" / file).read_text()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one bug: the test that caught it, or what is wrong."""

    caught_by: str
    trouble: str
    seconds: float


def plant(bug: Bug, folder: Path) -> Outcome:
    """Copy the checkout, plant the bug, run the tests that hold against it until the first fails."""
    started = time.monotonic()
    fitted = fit(bug)
    if fitted.trouble:
        return Outcome("", fitted.trouble, 0.0)
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
    for path, text in fitted.changed.items():
        (copy / path).write_text(text)
    environ = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    asked = [sys.executable, "-c", "import kasoko_cli; print(kasoko_cli.__file__)"]
    where = subprocess.run(asked, cwd=copy, env=environ, capture_output=True, text=True, check=True).stdout
    assert where.startswith(str(copy)), f"the tests would look at {where}"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-rf", "-p", "no:cacheprovider", "-n", "0"]
        + [f"tests/{test}" for test in bug.tests],
        cwd=copy,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.monotonic() - started
    failed = re.search(r"^FAILED (\S+)", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return Outcome(failed[1].removeprefix("tests/"), "", seconds)
    if done.returncode == 0:
        return Outcome("", "it survived: no test fails", seconds)
    return Outcome(
        "", f"the tests did not run (pytest exited with {done.returncode}):\n{done.stdout[-2_000:]}", seconds
    )


def main() -> int:
    """Plant them one after another, and say which test caught each."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.planted", description=__doc__)
    parser.add_argument("--bug", action="append", choices=[bug.name for bug in BUGS], help="Only this one.")
    asked = parser.parse_args()
    chosen = [bug for bug in BUGS if not asked.bug or bug.name in asked.bug]
    survived = 0
    with tempfile.TemporaryDirectory(prefix="kasoko-planted-") as folder:
        for bug in chosen:
            outcome = plant(bug, Path(folder))
            survived += not outcome.caught_by
            how = f"caught by {outcome.caught_by}" if outcome.caught_by else f"NOT CAUGHT: {outcome.trouble}"
            print(f"{bug.name} ({outcome.seconds:.0f} s): {how}", flush=True)
    print(f"{len(chosen)} bugs planted, {survived} not caught")
    return 8 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
