"""Ask M-Pesa to pay, or how a payment ended.

Money may move behind a broken connection. So each request leads to a verdict instead of an
exception, the same id goes again only where it was certainly not taken, and that happens here and
nowhere else: few times, bounded, and never later than the caller's lease allows.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal
from urllib.parse import urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_result, wait_exponential, wait_random

from kasoko_cli.clock import Clock, Lease
from kasoko_cli.daraja import messages, redaction
from kasoko_cli.daraja.codes import SortedAnswer, TokenAnswer, Verdict, is_spike_arrest, sort_answer, sort_token_answer
from kasoko_cli.daraja.credentials import Token, TokenShelf, new_token
from kasoko_cli.daraja.messages import Initiator, Json, Payment, ReplyUrls
from kasoko_cli.daraja.wire import DIRECT, Broken, Deadline, Reply, Route, Wire
from kasoko_cli.domain.payer import Payer, api_base_of, is_loopback
from kasoko_cli.errors import ConfigurationError, KasokoError, NotSent

#: How much of a body is kept with an exchange.
KEPT_CHARACTERS: Final = 4_000
#: How much of M-Pesa's text an answer carries.
TEXT_CHARACTERS: Final = 500
#: How much of an error code; real ones have a dozen characters.
CODE_CHARACTERS: Final = 64
#: The wait before the same id goes again: half a second, then double, up to this.
LONGEST_WAIT_SECONDS: Final = 8.0
#: How long a token that was looked up is used before the shared row is looked at again.
HELD_SECONDS: Final = 1.0
#: How often to look whether another process has fetched the token.
_TOKEN_POLL_SECONDS: Final = 0.05

_TOO_LATE = "too little time was left to send it safely"
_NOTHING_SENT = "Nothing to do: it is sent again, later, with the same id."
_ASK = "Ask how it ended: kasoko reconcile"


@dataclass(frozen=True)
class DarajaApp:
    """One Daraja app and its organisation. Its secrets never stand in `repr`.

    Raises:
        ConfigurationError: the address is not HTTPS (plain HTTP only to this machine), or a field cannot be.
    """

    base_url: str
    consumer_key: str = field(repr=False)
    consumer_secret: str = field(repr=False)
    #: The organisation's number: PartyA.
    shortcode: str
    initiator_name: str
    #: The initiator's password, encrypted for M-Pesa.
    security_credential: str = field(repr=False)
    #: v3 lets us choose the id, so that the same payment sent twice is refused. v1 does not.
    api: Literal["v1", "v3"] = "v3"
    command_id: str = "BusinessPayment"
    environment: Literal["sandbox", "production"] = "sandbox"
    #: How to get there.
    route: Route = DIRECT

    def __post_init__(self) -> None:
        _check_base_url(self.base_url)
        if self.api not in ("v1", "v3"):
            raise ConfigurationError(f"There is no B2C API {self.api!r}.", hint="Use v3, or v1 if M-Pesa asks for it.")
        if self.command_id not in messages.B2C_COMMANDS:
            raise ConfigurationError(
                f"There is no B2C command {self.command_id!r}.", hint=f"Use one of {', '.join(messages.B2C_COMMANDS)}."
            )
        for name, value in (("consumer key", self.consumer_key), ("consumer secret", self.consumer_secret)):
            if not value or not value.isascii() or not value.isprintable() or " " in value:
                raise ConfigurationError(
                    f"The {name} is empty, or has characters that none of Safaricom's has.",
                    hint="Copy it again from the Daraja portal, and see where it is set: kasoko config show --origin",
                )

    @property
    def payer(self) -> Payer:
        """Whose account it is: what stays the same when key, secret or initiator change."""
        return Payer(self.shortcode, self.environment, api_base_of(self.base_url))

    @property
    def initiator(self) -> Initiator:
        """Who asks, as every request says it."""
        return Initiator(self.initiator_name, self.security_credential, self.shortcode)

    @property
    def host(self) -> str:
        """Where it is, for messages: `https://api.safaricom.co.ke`."""
        return self.base_url.rstrip("/")


@dataclass(frozen=True)
class ExchangeRecord:
    """One call of M-Pesa as it may be kept: when, what, status, latency, bodies without secrets."""

    kind: Literal["oauth", "b2c", "status", "balance"]
    #: When it was sent, in UTC.
    at: datetime
    latency_ms: int
    #: None if no answer came.
    http_status: int | None
    #: What became of it: a verdict and why.
    outcome: str
    #: Method, path and body.
    request: str
    #: The answer's body; empty if none came.
    response: str


@dataclass(frozen=True)
class Answer:
    """What came of a request to M-Pesa, all its tries together."""

    verdict: Verdict
    #: Of the last answer; None if none came.
    http_status: int | None
    #: errorCode, ResponseCode or HTTP status; empty if no answer came.
    code: str
    #: What M-Pesa wrote, or what broke: one line, without secrets.
    text: str
    #: What it means, for a person.
    meaning: str
    #: What to do next.
    advice: str
    #: M-Pesa's id for the request, if it was taken.
    conversation_id: str | None = None
    #: The id that M-Pesa calls it by: ours on v3, its own on v1. Some simulators answer with one of their own on v3.
    originator_conversation_id: str | None = None
    #: Every call that was made, in order.
    exchanges: tuple[ExchangeRecord, ...] = ()
    #: How many of them were refused because M-Pesa is asked too often.
    spikes: int = 0
    #: Whether we held it back ourselves, since its lease was over or it was not ours any more: nothing left.
    held_back: bool = False


class _Call:
    """One request with all its tries: its bytes, what came of each, and whether it must stay here."""

    def __init__(
        self,
        kind: Literal["b2c", "status", "balance"],
        path: str,
        request: dict[str, Json],
        lease: Lease | None = None,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self.kind, self.path = kind, path
        self.content = json.dumps(request).encode()
        self.shown = f"POST {path} {json.dumps(redaction.shown_request(request))}"
        self.log: list[ExchangeRecord] = []
        #: Whether it stayed: its lease would have ended under way, or it was not ours any more.
        self.held_back = False
        self._lease, self._is_ours = lease, is_ours

    def outlives(self, seconds: float) -> bool:
        """Whether what takes so many seconds from now could still be under way when the lease ends."""
        return self._lease is not None and self._lease.remaining() < seconds

    def why_held_back(self, deadline: Deadline) -> str:
        """Why it must not leave, with what is left of its own time; nothing where it may."""
        # The lease last: it is what a pause between the two makes older.
        if not self._is_ours():
            why = "it is not ours to send any more"
        elif self.outlives(deadline.remaining()):
            why = _TOO_LATE
        else:
            return ""
        self.held_back = True
        return why


@dataclass(frozen=True, slots=True)
class RequestLimits:
    """How long a request may take, and how often the same id goes when M-Pesa certainly did not take it.

    `timeout_seconds` bounds each silence, `total_seconds` one whole try with its token.
    """

    timeout_seconds: float = 30.0
    total_seconds: float = 45.0
    sends: int = 3


class DarajaClient:
    """M-Pesa, for any number of threads: each has its own connection, all share one token."""

    def __init__(
        self,
        account: DarajaApp,
        shelf: TokenShelf,
        clock: Clock,
        *,
        limits: RequestLimits = RequestLimits(),
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        assert limits.sends >= 1, "a request is sent at least once"
        self.account = account
        self.total_seconds = limits.total_seconds
        self._shelf = shelf
        self._clock = clock
        self._limits = limits
        self._sleep = sleep
        self._refreshing = threading.Lock()
        #: Tokens that were used lately: M-Pesa repeats them in its error texts.
        self._seen_tokens: tuple[str, ...] = ()
        #: The shared token as it was looked up last, and when by the monotonic clock.
        self._looked_up: tuple[float, Token | None] = (0.0, None)
        self._secrets = self._known_secrets()
        self._wire = Wire(
            account.base_url, timeout_seconds=limits.timeout_seconds, transport=transport, route=account.route
        )

    def close(self) -> None:
        """Close every connection."""
        self._wire.close()

    # --- What can be asked -------------------------------------------------------------------------------------------

    def check_account(self) -> tuple[ExchangeRecord, ...]:
        """See that M-Pesa is there and knows this app, by having a fresh token. Nothing else is asked.

        Raises:
            ConfigurationError: M-Pesa refuses the consumer key or secret, or the path.
            NotSent: M-Pesa cannot be reached, or answers with what cannot be read.
        """
        log: list[ExchangeRecord] = []
        token = self._token(None, log, Deadline(self.total_seconds))
        if isinstance(token, Token):
            return tuple(log)
        said = f' It said: "{self._clean(token.text)}".' if token.text else ""
        if token.verdict is Verdict.ACCOUNT:
            raise ConfigurationError(
                f"M-Pesa at {self.account.host} gives no access token: {token.meaning} ({token.code}).{said}",
                hint=f"Nothing was sent. {token.advice.rstrip('.') or 'Mend the account'}. Then run it again",
                again=True,
            )
        raise NotSent(
            f"M-Pesa at {self.account.host} gives no access token: {token.meaning}.{said} Nothing was sent.",
            hint="No money moved. Check the network, daraja.proxy and MPESA_BASE_URL, then run it again",
            again=True,
        )

    def pay(
        self,
        payment: Payment,
        urls: ReplyUrls,
        *,
        lease: Lease,
        may_go_again: Callable[[], bool] = lambda: True,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> Answer:
        """Ask M-Pesa to pay.

        Never raises for what the network or M-Pesa does. Nothing is sent that could still be under
        way at the end of the `lease`, or that is not `is_ours` any more: both are asked last directly
        before the request is written, each time. Where the answer says that M-Pesa certainly did not
        take it, the same id goes again, if it then `may_go_again`; else it never does.
        """
        account = self.account
        path = messages.B2C_V3_PATH if account.api == "v3" else messages.B2C_V1_PATH
        request = messages.b2c_request(account.initiator, payment, urls, command_id=account.command_id, api=account.api)
        return self._ask(_Call("b2c", path, request, lease, is_ours), may_go_again)

    def ask_status(self, urls: ReplyUrls, *, query_id: str, attempt_id: str = "", receipt: str = "") -> Answer:
        """Ask how a payment ended, by our id for it, by its receipt, or by both; the answer is posted to `urls`.

        `query_id` is our name for this question; it stands in the remarks, where the portal shows it.
        """
        request = messages.status_request(
            self.account.initiator, urls, attempt_id=attempt_id, receipt=receipt, remarks=query_id
        )
        return self._ask(_Call("status", messages.STATUS_PATH, request))

    def ask_balance(self, urls: ReplyUrls, *, query_id: str) -> Answer:
        """Ask what is in the organisation's accounts; the answer is posted to `urls`."""
        request = messages.balance_request(self.account.initiator, urls, remarks=query_id)
        return self._ask(_Call("balance", messages.BALANCE_PATH, request))

    # --- One request, its tries --------------------------------------------------------------------------------------

    def _ask(self, call: _Call, may_go_again: Callable[[], bool] = lambda: True) -> Answer:
        """Send a request until there is a verdict other than NOT_SENT, a few times, in the time there is."""
        spikes = 0

        def enough(state: RetryCallState) -> bool:
            if state.attempt_number >= self._limits.sends or call.held_back or not may_go_again():
                return True
            return call.outlives(state.upcoming_sleep + self.total_seconds)

        def send() -> SortedAnswer:
            nonlocal spikes
            said = self._try(call)
            spikes += is_spike_arrest(said)
            return said

        if call.outlives(self.total_seconds):
            return Answer(Verdict.NOT_SENT, None, "", _TOO_LATE, _TOO_LATE, _NOTHING_SENT, held_back=True)
        answer = send()
        if _certainly_not_taken(answer):
            answer = self._again(answer, send, enough)
        found = answer.acknowledgement
        taken = answer.verdict is Verdict.TAKEN
        return Answer(
            verdict=answer.verdict,
            http_status=call.log[-1].http_status if call.log else None,
            code=self._clean(answer.code)[:CODE_CHARACTERS],
            text=self._clean(answer.text or answer.meaning),
            meaning=answer.meaning,
            advice=answer.advice,
            conversation_id=found.conversation_id if taken else None,
            originator_conversation_id=found.originator_conversation_id if taken else None,
            exchanges=tuple(call.log),
            spikes=spikes,
            held_back=call.held_back,
        )

    def _again(
        self, first: SortedAnswer, send: Callable[[], SortedAnswer], enough: Callable[[RetryCallState], bool]
    ) -> SortedAnswer:
        """Send the same id again until there is another verdict or it is enough; says the last one."""
        answers: list[Callable[[], SortedAnswer]] = [lambda: first]
        tries = Retrying(
            stop=enough,
            wait=wait_exponential(multiplier=0.5, max=LONGEST_WAIT_SECONDS) + wait_random(0, 0.5),
            retry=retry_if_result(_certainly_not_taken),
            retry_error_callback=_last_answer,
            sleep=self._sleep,
        )
        # The first answer is there already: making the machinery of tries for each request would cost as much as a
        # tenth of it.
        answer: SortedAnswer = tries(lambda: answers.pop()() if answers else send())
        return answer

    def _try(self, call: _Call) -> SortedAnswer:
        """Send it once; once more with a new token if only the token was refused."""
        deadline = Deadline(self.total_seconds)
        refused: Token | None = None
        while True:
            token = self._token(refused, call.log, deadline)
            if not isinstance(token, Token):
                meaning = f"no access token: {token.meaning}"
                return SortedAnswer(token.verdict, token.code, token.text, meaning, token.advice)
            answer = self._post(call, token, deadline)
            if not answer.token_refused:
                return answer
            if refused is not None:
                return SortedAnswer(
                    Verdict.ACCOUNT,
                    answer.code,
                    answer.text,
                    "the access token was refused twice: consumer key, environment or product",
                    "See that the app has this product in the Daraja portal, and that its key belongs to this "
                    "environment: kasoko config show --origin",
                )
            refused = token

    def _post(self, call: _Call, token: Token, deadline: Deadline) -> SortedAnswer:
        self._remember(token)
        at = self._clock()
        headers = {"Authorization": f"Bearer {token.value}", "Content-Type": "application/json"}
        came = self._wire.exchange(
            "POST",
            call.path,
            headers=headers,
            deadline=deadline,
            content=call.content,
            hold_back=lambda: call.why_held_back(deadline),
        )
        if isinstance(came, Broken):
            if came.held_back:
                answer = SortedAnswer(Verdict.NOT_SENT, "", came.what, f"it was held back: {came.what}", _NOTHING_SENT)
            elif came.never_left:
                answer = SortedAnswer(Verdict.NOT_SENT, "", came.what, f"it never left: {came.what}", _NOTHING_SENT)
            else:
                answer = SortedAnswer(Verdict.UNKNOWN, "", came.what, f"M-Pesa may have it: {came.what}", _ASK)
        else:
            answer = sort_answer(came.http_status, came.body)
        self._note(call.log, call.kind, at, came, call.shown, f"{answer.verdict}: {answer.meaning}")
        return answer

    # --- The token ---------------------------------------------------------------------------------------------------

    def _token(self, refused: Token | None, log: list[ExchangeRecord], deadline: Deadline) -> Token | TokenAnswer:
        """The token to use: the shared one, or a new one if that is stale or was refused.

        One thread here fetches while the others wait for it; one process of all that share the shelf
        fetches while the others go on with the old token as long as it lives.
        """
        shared = self._usable(self._held(), refused)
        if shared is not None and shared.is_fresh(self._clock()):
            return shared
        try:
            return self._new_token(refused, log, deadline)
        except KasokoError as error:
            # The row of the token cannot be read or claimed now. Nothing has left.
            return _no_token(f"the shared token cannot be looked up ({error.kind})")

    def _held(self) -> Token | None:
        """The shared token, looked up at most once a second: another host may have put a new one there."""
        looked_at, token = self._looked_up
        if token is None or not 0 <= time.monotonic() - looked_at < HELD_SECONDS:
            try:
                token = self._shelf.current()
            except KasokoError:
                return token  # the row cannot be read now; what we have may still be good
            self._looked_up = (time.monotonic(), token)
        return token

    def _new_token(self, refused: Token | None, log: list[ExchangeRecord], deadline: Deadline) -> Token | TokenAnswer:
        if not self._refreshing.acquire(timeout=max(0.001, deadline.remaining())):
            return _no_token("another thread took too long to fetch one")
        try:
            while True:
                now = self._clock()
                token = self._shelf.current()
                self._looked_up = (time.monotonic(), token)
                usable = self._usable(token, refused)
                if usable is not None and usable.is_fresh(now):
                    return usable
                if self._shelf.claim_refresh(token):
                    return self._fetch_token(log, deadline)
                if usable is not None and usable.fetched_at <= now < usable.expires_at:
                    return usable
                if deadline.remaining() <= _TOKEN_POLL_SECONDS:
                    return _no_token("another process took too long to fetch one")
                time.sleep(_TOKEN_POLL_SECONDS)
        finally:
            self._refreshing.release()

    @staticmethod
    def _usable(token: Token | None, refused: Token | None) -> Token | None:
        """The token, unless it is the one that M-Pesa has just refused."""
        return None if token is None or (refused is not None and token.value == refused.value) else token

    def _fetch_token(self, log: list[ExchangeRecord], deadline: Deadline) -> Token | TokenAnswer:
        """Fetch a token under a claim, which ends here whatever happens."""
        kept = False
        try:
            at = self._clock()
            path = f"{messages.OAUTH_PATH}?grant_type={messages.GRANT_TYPE}"
            pair = f"{self.account.consumer_key}:{self.account.consumer_secret}".encode()
            came = self._wire.exchange(
                "GET",
                path,
                headers={"Authorization": "Basic " + base64.b64encode(pair).decode("ascii")},
                deadline=deadline,
            )
            if isinstance(came, Broken):
                answer = _no_token(came.what)
            else:
                answer = sort_token_answer(came.http_status, came.body)
            if answer.verdict is not Verdict.TAKEN:
                self._note(log, "oauth", at, came, f"GET {path}", f"{answer.verdict}: {answer.meaning}")
                return answer
            token = new_token(answer.value, answer.expires_in, at)
            self._remember(token)
            self._note(log, "oauth", at, came, f"GET {path}", "a token")
            # Where it cannot be kept, this process uses it all the same, and the claim on a new one ends by itself.
            with contextlib.suppress(KasokoError):
                self._shelf.keep(token)
                kept = True
            self._looked_up = (time.monotonic(), token)
            return token
        finally:
            if not kept:
                with contextlib.suppress(KasokoError):
                    self._shelf.give_up()

    # --- What is kept ------------------------------------------------------------------------------------------------

    def _note(
        self,
        log: list[ExchangeRecord],
        kind: Literal["oauth", "b2c", "status", "balance"],
        at: datetime,
        came: Reply | Broken,
        request: str,
        outcome: str,
    ) -> None:
        body = came.body.decode("utf-8", "replace") if isinstance(came, Reply) else ""
        log.append(
            ExchangeRecord(
                kind=kind,
                at=at,
                latency_ms=came.latency_ms,
                http_status=came.http_status,
                outcome=self._clean(outcome),
                request=_storable(_without(request, self._secrets)),
                response=_storable(redaction.redact_answer(_without(body, self._secrets))),
            )
        )

    def _remember(self, token: Token) -> None:
        if token.value not in self._seen_tokens:
            self._seen_tokens = (*self._seen_tokens[-3:], token.value)
            self._secrets = self._known_secrets()

    def _known_secrets(self) -> tuple[str, ...]:
        """Our secrets by value, as they are and as JSON spells them."""
        account = self.account
        known = [account.security_credential, account.consumer_secret, account.consumer_key, *self._seen_tokens]
        # A value of a few characters is no secret, and would blot out half of the text.
        spelt = [spelling for secret in known if len(secret) >= 4 for spelling in (secret, json.dumps(secret)[1:-1])]
        return tuple(dict.fromkeys(spelt))

    def _clean(self, text: str) -> str:
        """One short line without secrets or control characters, safe on a terminal."""
        return _clean(text, self._secrets)


def _without(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, redaction.REMOVED)
    return text


@functools.lru_cache(maxsize=256)
def _clean(text: str, secrets: tuple[str, ...]) -> str:
    """Cached, since nearly all answers of a run say the same."""
    line = " ".join(redaction.redact(_without(text, secrets)).split())
    if not line.isprintable():
        line = "".join(character for character in line if character.isprintable())
    return line[:TEXT_CHARACTERS]


def _storable(text: str) -> str:
    """The first part of a text, without characters that a database refuses or a terminal obeys."""
    text = text[:KEPT_CHARACTERS]
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)


def _certainly_not_taken(answer: SortedAnswer) -> bool:
    return answer.verdict is Verdict.NOT_SENT


def _last_answer(state: RetryCallState) -> SortedAnswer:
    assert state.outcome is not None, "it is called after a try"
    answer: SortedAnswer = state.outcome.result()
    return answer


def _no_token(what: str) -> TokenAnswer:
    return TokenAnswer(Verdict.NOT_SENT, "", "", what, _NOTHING_SENT)


def _check_base_url(base_url: str) -> None:
    """Refuse an address to which secrets must not go.

    Raises:
        ConfigurationError: it is not HTTPS, unless it is this machine, or has parts that an address of M-Pesa has not.
    """
    hint = "Unset MPESA_BASE_URL for Safaricom's own, or set it to an https address (http only to this machine)."
    try:
        parts = urlsplit(base_url)
        _ = parts.port
    except ValueError:
        raise ConfigurationError("MPESA_BASE_URL is not an address.", hint=hint) from None
    if not parts.hostname or parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError("MPESA_BASE_URL is not a plain address of a host.", hint=hint)
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)):
        return
    raise ConfigurationError(f"MPESA_BASE_URL would send secrets without TLS to {parts.hostname}.", hint=hint)
