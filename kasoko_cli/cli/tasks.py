"""The same operations as Celery tasks, for fleets that run Celery already.

A task carries names only, of a market or of a payout, and of a payout the mark of the amount and the phone that
stood there when it was enqueued. The database decides what it is worth: one that is delivered twice, early, late
or after a crash finds the payout no longer due, or another by now, and sends nothing. Nothing is retried by the
broker. What was not sent is due again by the schedule in the database; what is unknown is asked about by
`kasoko reconcile`, which no task does.

    celery -A kasoko_cli.cli.tasks worker      or      kasoko worker
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from celery import Celery, Task
from celery.exceptions import SoftTimeLimitExceeded
from celery.utils.log import get_task_logger
from kombu.exceptions import OperationalError
from pydantic import ConfigDict, ValidationError, validate_call

from kasoko_cli.cli.bug_report import tell_sentry
from kasoko_cli.cli.command import os_user, place_of
from kasoko_cli.cli.container import Container
from kasoko_cli.cli.parsing import count_of
from kasoko_cli.config import Config
from kasoko_cli.errors import ConfigurationError, KasokoError, NotSent
from kasoko_cli.operations.payouts import sending
from kasoko_cli.operations.payouts.dispatcher import SendOrder
from kasoko_cli.operations.payouts.retry import retry
from kasoko_cli.operations.payouts.run import Selection
from kasoko_cli.operations.payouts.send_and_wait import send_and_wait
from kasoko_cli.operations.payouts.spending_bound import Bound, show
from kasoko_cli.operations.settlement.settle import settle_market as settle
from kasoko_cli.operations.shared.actor import Actor
from kasoko_cli.operations.shared.context import OperationContext
from kasoko_cli.operations.shared.run_registry import AtWork
from kasoko_cli.operations.shared.watching import Attended

#: A task is asked to stop after this long, and killed after that. Source: the operator's existing deployment.
SOFT_LIMIT_SECONDS, HARD_LIMIT_SECONDS = 600, 900
#: How long the broker waits for an answer to a delivery before it delivers again: well beyond the hard limit, so
#: that a task that still runs is not begun a second time. (If it were, the database would refuse it.)
VISIBILITY_SECONDS = 3_600
#: How long a client waits for the broker.
BROKER_SECONDS = 5

log = get_task_logger(__name__)

app = Celery("kasoko", set_as_current=False)
app.conf.update(
    task_default_queue="kasoko",
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    enable_utc=True,
    timezone="UTC",
    # A task is done when it has ended, not when it was taken; a worker that dies gives it back.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    task_soft_time_limit=SOFT_LIMIT_SECONDS,
    task_time_limit=HARD_LIMIT_SECONDS,
    result_expires=86_400,
    broker_connection_timeout=BROKER_SECONDS,
    broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS, "socket_connect_timeout": BROKER_SECONDS},
    worker_hijack_root_logger=False,
    worker_send_task_events=False,
)


class _Worker:
    """How the tasks of this process make their container, and who acts in it. A forked worker inherits it."""

    make_container: ClassVar[Callable[[], Container]] = staticmethod(Container.from_settings)
    actor: ClassVar[str] = ""
    config: ClassVar[Config | None] = None


@app.on_configure.connect
def _connect(sender: Celery, **_: Any) -> None:
    """Where the broker is: asked for when it is first needed, so that importing this reads no settings."""
    connect_to(sender, _Worker.make_container().config)


def connect_to(celery: Celery, config: Config) -> None:
    """Give Celery what the settings say of the broker."""
    _Worker.config = config
    celery.conf.update(
        broker_url=config.celery.broker_url,
        result_backend=config.celery.result_backend or None,
        worker_concurrency=config.celery.worker_concurrency,
    )


def configure(make_container: Callable[[], Container], config: Config, actor: str) -> None:
    """Have the tasks of this process, and of those that it forks, work in this container and under this name."""
    _Worker.make_container, _Worker.actor = staticmethod(make_container), actor
    connect_to(app, config)


@functools.lru_cache(maxsize=1)
def _container_of(_process: int) -> Container:
    """The container of one worker process: connections do not survive a fork."""
    return _Worker.make_container()


#: What a task does, once its words are known to be such as it takes.
Work = Callable[[Container, Actor], dict[str, Any]]


def _task(takes: Callable[..., Work]) -> Task[Any, Any]:
    """A task of that name. Whatever goes wrong is an answer: a traceback in a result backend tells paths and values."""
    checked = validate_call(config=ConfigDict(strict=True))(takes)

    def serve(*words: Any, **named: Any) -> dict[str, Any]:
        try:
            work = checked(*words, **named)
        except ValidationError as error:
            return _failed(takes.__name__, *_wrong_words(takes, error))
        try:
            return work(_container_of(os.getpid()), Actor(_Worker.actor or os_user(), "celery"))
        except KasokoError as error:
            return _failed(takes.__name__, error.kind, error.message, error.hint)
        except SoftTimeLimitExceeded:
            message = f"The task took more than {SOFT_LIMIT_SECONDS} seconds and was stopped; everything is recorded."
            return _failed(takes.__name__, "time", message, "Ask how it ended: kasoko reconcile")
        except Exception as error:
            if _Worker.config is not None:
                tell_sentry(_Worker.config, error)
            # The words of an unforeseen error may hold anything; its kind and place do not.
            message = f"Something happened that was not foreseen: {type(error).__name__} at {place_of(error)}."
            hint = "What was committed stays; look how things stand: kasoko status"
            return _failed(takes.__name__, "bug", message, hint)

    serve.__doc__ = takes.__doc__
    made: Task[Any, Any] = app.task(name=takes.__name__, typing=False)(serve)
    return made


def _failed(task: str, kind: str, message: str, hint: str) -> dict[str, Any]:
    """The answer that a task could not do its work, which the worker's log has too: few keep the answers."""
    log.error("%s: %s %s", task, message, hint)
    return {"error": {"kind": kind, "message": message, "hint": hint}}


def _wrong_words(takes: Callable[..., Work], error: ValidationError) -> tuple[str, str, str]:
    """Kind, message and hint of words that the task does not take. The words themselves are not quoted."""
    names = [name for name in takes.__annotations__ if name != "return"]
    wrong = error.errors(include_input=False, include_url=False, include_context=False)
    known = [(names[at] if isinstance(at := one["loc"][0], int) and at < len(names) else at) for one in wrong]
    told = "; ".join(
        f"{name if name in names else 'a word too many'}: {one['msg']}" for name, one in zip(known, wrong, strict=True)
    )
    message = f"The task {takes.__name__} was called with words that it does not take ({told}). Nothing was done."
    return "usage", message, f"It takes {', '.join(names)}. Call it again so."


@_task
def settle_market(market: str, pay: bool = False) -> Work:
    """Divide the pool of a market, once; `pay` also enqueues what it owes. Answers with ids and cents."""

    def work(container: Container, actor: Actor) -> dict[str, Any]:
        done = settle(
            OperationContext(container.db, container.clock, actor),
            container.limits,
            market=market,
            approval_above_cents=container.config.payout.approval_above_cents,
            duties=container.duties,
        )
        sent = enqueue_market(container, market) if pay else []
        return {
            "market": done.market,
            "slug": done.slug,
            "settlement": done.number,
            "is_new": done.is_new,
            "payouts": done.payouts,
            "wire_cents": done.wire_cents,
            "enqueued": len(sent),
        }

    return work


@_task
def send_b2c_payout(payout_id: str, shown: str | None = None) -> Work:
    """Send one payout if it is due; a second delivery finds that it is not. Answers with its state.

    `shown` is the mark of its amount and phone when it was enqueued: it is left where they are others now.
    """

    def work(container: Container, actor: Actor) -> dict[str, Any]:
        if sending.is_outage(container.db, container.clock, container.send_policy):
            why = "the last payouts that were sent all ended unknown, as in an outage; enqueue it again later"
            return {"payout": payout_id, "sent": False, "status": sending.state_of(container.db, payout_id), "why": why}
        bound = None if shown is None else Bound.carried(payout_id, shown, container.links.seal)
        run = send_and_wait(
            OperationContext(container.db, container.clock, actor),
            container.gateway,
            SendOrder(container.send_policy, container.trust, Selection(only=[payout_id]), bound),
            Attended(AtWork(container.new_id())),
        )
        answer = {"payout": payout_id, "sent": bool(run.sent), "status": sending.state_of(container.db, payout_id)}
        if run.changed:
            answer["why"] = "its amount or phone is another one now than when it was enqueued; enqueue it again"
        return answer

    return work


@_task
def retry_failed_payouts(hours: int = 24, market: str | None = None) -> Work:
    """Make definite failures due again where that can help, and enqueue them; names each that is left alone."""

    def work(container: Container, actor: Actor) -> dict[str, Any]:
        ctx = OperationContext(container.db, container.clock, actor)
        sending.check_ready(ctx, container.daraja)
        report = retry(ctx, caution=container.caution, market=market, hours=hours)
        if report.retried:
            enqueue(
                show(container.db, container.clock(), Selection(only=report.retried), seal=container.links.seal).marks()
            )
        left = [{"payout": one.payout_id, "why": one.why, "hint": one.hint} for one in report.left]
        return {"retried": report.retried, "left": left}

    return work


def check_broker() -> None:
    """See that the addresses of broker and answers can be used, and that the broker answers.

    Raises:
        ConfigurationError: Celery can make nothing of an address; the address is not quoted, it may hold a password.
        NotSent: the broker does not answer.
    """
    setting = "CELERY_BROKER_URL"
    try:
        with app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
        setting = "CELERY_RESULT_BACKEND"
        app.backend.as_uri()
    except (OperationalError, OSError) as error:
        raise NotSent(
            "The broker of Celery does not answer; nothing was enqueued or sent.",
            hint="Start it, or correct CELERY_BROKER_URL: kasoko config show --origin",
        ) from error
    except Exception as error:  # a KeyError, ValueError, ImportError, ...: each transport has its own
        raise ConfigurationError(
            f"Celery cannot use the address in {setting} ({type(error).__name__}); nothing was enqueued or sent.",
            hint="Correct it, like redis://127.0.0.1:6379/0; another kind of broker may need a package of its own."
            " Where it is set: kasoko config show --origin",
        ) from None


def enqueue_market(container: Container, market: str) -> list[str]:
    """Enqueue every payout of a market that is due; returns their ids."""
    due = show(container.db, container.clock(), Selection(market), seal=container.links.seal)
    enqueue(due.marks())
    return due.ids


def enqueue(marked: Sequence[tuple[str, str]]) -> None:
    """Put one task for each payout on the queue, with its mark.

    Raises:
        NotSent: the broker, or the result backend, does not answer; what was enqueued before is on the queue, and
            enqueueing again is safe.
    """
    number = 0
    try:
        with app.pool.acquire(block=True).Producer() as producer:
            for number, each in enumerate(marked):  # noqa: B007 - said in the error
                send_b2c_payout.apply_async(each, producer=producer, retry=False)
    except (OperationalError, OSError, RuntimeError) as error:  # Celery has RuntimeError for a lost result backend
        raise NotSent(
            "Celery's broker, or the store of its answers, does not answer:"
            f" {number} of {count_of(len(marked), 'payout')} went into the queue.",
            hint="No money moved for the rest. Start it, or correct CELERY_BROKER_URL and CELERY_RESULT_BACKEND, then"
            " do the same again: what is on the queue twice is sent once.",
        ) from error
