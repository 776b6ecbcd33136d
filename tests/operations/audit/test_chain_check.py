"""The chain holds whatever happens, and tells of each row that was changed, taken away or put in by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread

import pytest
from alembic import command
from alembic.config import Config
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from kasoko_cli.errors import ConfigurationError, Refused
from kasoko_cli.operations.audit import chain_check
from kasoko_cli.operations.audit.run import CHAIN_RULES, HEAD, AuditReport, audit
from kasoko_cli.operations.records import wallets
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.store.engine import hash_chain, row_digests
from kasoko_cli.store.engine.database import Database
from kasoko_cli.store.log import note_event
from tests.conftest import FixedClock
from tests.operations.audit.test_audit import _unlock, lively
from tests.operations.data_builder import DataBuilder


def _wrong(report: AuditReport, name: str = "chain-holds") -> list[tuple[str, str]]:
    [check] = [check for check in report.checks if check.name == name]
    return [(violation.subject, violation.what) for violation in check.violations]


def _by_hand(db: Database, *statements: str) -> None:
    """What the owner of the database can do."""
    with db.engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        _unlock(connection)
        for statement in statements:
            assert connection.exec_driver_sql(statement).rowcount, statement
        connection.commit()


def test_the_chain_of_a_lively_database_holds(builder: DataBuilder) -> None:
    lively(builder)
    report = audit(builder.db, builder.clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []
    assert report.heads is not None
    assert {head.chain for head in report.heads.heads} == {"books", "inbox"}


def test_an_empty_database_has_a_chain_of_no_links(db: Database, clock: FixedClock) -> None:
    report = audit(db, clock, chain=True)
    assert report.ok
    assert report.heads is not None
    assert report.heads.heads == []


def test_what_one_transaction_writes_of_a_kind_is_one_link(builder: DataBuilder) -> None:
    builder.user("ann", deposit_kes=10)
    with builder.db.reading() as session:
        links = session.execute(text("SELECT number, kind, first, last FROM links WHERE chain = 'books'")).all()
    assert [tuple(link) for link in links] == [(1, "events", 1, 1), (2, "entries", 1, 1), (3, "events", 2, 2)]


def test_a_transaction_that_fails_leaves_no_link_and_no_event(builder: DataBuilder) -> None:
    def fail() -> None:
        with builder.db.transaction() as session:
            note_event(session, at=builder.clock(), actor="ann", action="test", subject="nothing")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with builder.db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM events")).scalar_one() == 0
        assert session.execute(text("SELECT count(*) FROM links")).scalar_one() == 0


TOUCHED = [
    pytest.param(
        "UPDATE entries SET at = '2026-11-23 08:00:00' WHERE id = 1",
        ("deposit:DEP0000001", "is not as it was written at 2026-11-23T09:00:00Z or before"),
        id="the time of an entry",
    ),
    pytest.param(
        "UPDATE postings SET owner = 'ben' WHERE entry_id = 1 AND owner = 'ann'",
        ("deposit:DEP0000001", "is not as it was written at 2026-11-23T09:00:00Z or before"),
        id="the owner of a posting",
    ),
    pytest.param(
        "UPDATE entries SET digest = NULL WHERE id = 1",
        ("deposit:DEP0000001", "has another digest than the one it was written with"),
        id="the digest of an entry",
    ),
    pytest.param(
        "DELETE FROM events WHERE id = 1",
        ("books:1", "events 1, written at 2026-11-23T09:00:00Z, are not those that were chained: 0 are there"),
        id="an event is gone",
    ),
    pytest.param(
        "UPDATE events SET actor = 'somebody else' WHERE id = 2",
        ("event:2", "is not as it was written at 2026-11-23T09:00:00Z or before"),
        id="the actor of an event",
    ),
    pytest.param(
        "INSERT INTO events (id, at, actor, action, subject, reason, detail)"
        " SELECT 99, at, actor, action, subject, reason, detail FROM events WHERE id = 1",
        ("event:99", "stands outside the chain: it was put in after its last link, events 99"),
        id="an event too many",
    ),
    pytest.param(
        "UPDATE links SET hash = digest WHERE number = 2",
        ("books:2", "does not follow from the link before it (written 2026-11-23T09:00:00Z)"),
        id="the hash of a link",
    ),
    pytest.param(
        "DELETE FROM links WHERE number = 2",
        ("books:2", "is not there, and the next link is books:3"),
        id="a link is gone",
    ),
    pytest.param(
        "UPDATE deployment SET deployment_id = 'other'",
        ("books:1", "does not follow from the link before it (written 2026-11-23T09:00:00Z)"),
        id="the deployment",
    ),
]


@pytest.mark.parametrize(("sql", "told"), TOUCHED)
def test_the_chain_tells_of_a_touched_row(builder: DataBuilder, sql: str, told: tuple[str, str]) -> None:
    builder.user("ben")
    builder.user("ann", deposit_kes=10)
    _by_hand(builder.db, sql)
    report = audit(builder.db, builder.clock, chain=True)
    assert _wrong(report)[0] == told


def test_a_body_that_was_changed_or_taken_away_is_told(builder: DataBuilder) -> None:
    lively(builder)
    _by_hand(builder.db, "UPDATE callbacks SET body = 'other' WHERE id = 3", "DELETE FROM callbacks WHERE id = 5")
    subjects = {subject for subject, _ in _wrong(audit(builder.db, builder.clock, chain=True))}
    assert subjects == {"callback:3", "inbox:5"}


def test_a_chain_written_anew_is_whole_in_itself_and_unlike_the_head_that_was_kept(
    builder: DataBuilder, tmp_path: Path
) -> None:
    builder.user("ann", deposit_kes=10)
    report = audit(builder.db, builder.clock, chain=True)
    assert report.heads is not None
    chain_check.export_heads(report.heads, tmp_path / "heads.json")
    _by_hand(builder.db, "DELETE FROM events", "DELETE FROM links", "DELETE FROM postings", "DELETE FROM entries")
    builder.deposit("ann", 2_000_00)
    builder.deposit("ann", 1_00)
    kept = chain_check.read_heads(tmp_path / "heads.json")
    report = audit(builder.db, builder.clock, chain=True, head=kept)
    assert _wrong(report) == []
    told = (
        "has another hash than the one exported at 2026-11-23T09:00:00Z: the chain was written anew from there or"
        " before"
    )
    assert set(_wrong(report, HEAD)) == {("books:3", told)}


def test_an_older_copy_is_recognised_by_a_newer_head(builder: DataBuilder, tmp_path: Path) -> None:
    builder.user("ann")
    before = audit(builder.db, builder.clock, chain=True).heads
    builder.deposit("ann", 10_00)
    after = audit(builder.db, builder.clock, chain=True).heads
    assert before is not None
    assert after is not None
    chain_check.export_heads(after, tmp_path / "after.json")
    newer = chain_check.read_heads(tmp_path / "after.json")
    assert audit(builder.db, builder.clock, chain=True, head=newer).ok
    chain_check.export_heads(before, tmp_path / "before.json")
    assert audit(builder.db, builder.clock, chain=True, head=chain_check.read_heads(tmp_path / "before.json")).ok
    _by_hand(
        builder.db,
        "DELETE FROM events WHERE id = 2",
        "DELETE FROM links WHERE number > 1",
        "DELETE FROM postings",
        "DELETE FROM entries",
    )
    told = (
        "this database is older than the head, which was exported at 2026-11-23T09:00:00Z: its chain ends at"
        " books:1. It is an older copy, or its end was cut off"
    )
    assert _wrong(audit(builder.db, builder.clock, chain=True, head=newer), HEAD) == [("books:3", told)]


def test_heads_of_another_deployment_say_so(builder: DataBuilder) -> None:
    report = audit(builder.db, builder.clock, chain=True)
    assert report.heads is not None
    kept = replace(report.heads, deployment="other")
    [(subject, what)] = _wrong(audit(builder.db, builder.clock, chain=True, head=kept), HEAD)
    assert (subject, what) == (report.heads.deployment, "is not the deployment of the exported heads, other")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"form": "kasoko heads 1"}', "\x00"])
def test_a_file_that_holds_no_heads_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "heads.json").write_text(content)
    with pytest.raises(Refused, match="is no file of heads, or not whole"):
        chain_check.read_heads(tmp_path / "heads.json")
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        chain_check.read_heads(tmp_path / "other.json")


def test_writers_at_once_make_one_chain(builder: DataBuilder) -> None:
    """Threads that deposit and note at the same moment: every link follows from the one before."""
    users = [builder.user(f"user-{n}") for n in range(6)]
    start = Barrier(len(users))

    def actor(user: str) -> None:
        start.wait()
        for n in range(5):
            reference = f"{user}-{n}"
            wallets.deposit(
                OperationContext(builder.db, builder.clock, Actor(user)), user_id=user, cents=100, reference=reference
            )

    threads = [Thread(target=actor, args=(user,)) for user in users]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    report = audit(builder.db, builder.clock, deep=True, chain=True)
    assert _wrong(report) == []
    with builder.db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM links")).scalar_one() == 6 + 2 * 30


def test_a_database_from_before_is_chained_as_it_stands(database_url: str, builder: DataBuilder) -> None:
    """The migration gives every row its digest, and from then on the chain goes on."""
    db, clock = lively(builder).db, builder.clock
    migrate(database_url, "0003", down=True)
    migrate(database_url, "head")
    report = audit(db, clock, deep=True, chain=True)
    assert [(check.name, check.violations) for check in report.checks if not check.ok] == []
    with db.reading() as session:
        assert session.execute(text("SELECT count(*) FROM entries WHERE digest IS NULL")).scalar_one() == 0
        kinds = session.execute(text("SELECT chain, kind FROM links ORDER BY chain, number")).all()
        assert set(map(tuple, kinds)) == {("books", "entries"), ("books", "events"), ("inbox", "callbacks")}
        facts_of_kinds = session.execute(text("SELECT DISTINCT kind FROM entries WHERE facts IS NOT NULL")).scalars()
        assert set(facts_of_kinds) == set(row_digests.KINDS) - {"correct"}, "corrections came after this migration"
    builder.user("late", deposit_kes=10)
    assert audit(db, clock, deep=True, chain=True).ok


def migrate(url: str, to: str, *, down: bool = False) -> None:
    db, config = Database(url), Config()
    config.set_main_option("script_location", "kasoko_cli:store/migrations")
    with db.engine.begin() as connection:
        config.attributes["connection"] = connection
        (command.downgrade if down else command.upgrade)(config, to)
    db.close()


def test_what_is_digested_is_spelt_in_one_way(clock: FixedClock) -> None:
    """These are the digests of this version: another spelling would call every older database touched."""
    lines = [(0, "utility", "", 100), (1, "wallet", "ann", -100)]
    leaf = hash_chain.entry_leaf("deposit:R1", "deposit", clock(), None, lines)
    assert leaf.hex() == "ca243f1a1e9f479cba15f5a6f7884e436aa8f5310af0cf35650ab2b1be5e936a"
    assert hash_chain.CHAIN_OF.keys() == {"entries", "events", "callbacks"}
    assert [rule.name for rule in CHAIN_RULES] == ["chain-holds", "what-is-written-once-is-guarded"]


@given(
    number=st.integers(min_value=1, max_value=2**63 - 1),
    at=st.datetimes(timezones=st.just(UTC)),
    texts=st.tuples(st.text(), st.text(), st.text()),
    signed=st.booleans(),
    body=st.binary(min_size=32, max_size=32),
)
def test_the_leaf_of_a_callback_is_the_digest_of_its_list(
    number: int, at: datetime, texts: tuple[str, str, str], signed: bool, body: bytes
) -> None:
    """Which is spelt by hand where callbacks are stored, since it is quicker."""
    route, subject, source = texts
    expected = hash_chain.sealed(
        "callback", number, hash_chain.stamp(at), route, subject if signed else None, signed, source, body.hex()
    )
    assert hash_chain.callback_leaf(number, at, route, subject if signed else None, source, body) == expected
