"""The core of the simulator: one request in, one reply and the results that are owed out.

Nothing here touches a socket or waits. `app.py` puts replies on the wire, `postman.py` posts results.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, TypedDict
from urllib.parse import parse_qs

from kasoko_cli.clock import NAIROBI, Clock
from kasoko_cli.daraja.simulator import chance, results
from kasoko_cli.daraja.simulator.account import Instruction, Order, SimulatedAccount
from kasoko_cli.daraja.simulator.answers import JSON, GatewayReply, Notice, Refusal, Wire, acknowledgement, spoil
from kasoko_cli.daraja.simulator.checks import MAX_BODY_BYTES, Body, check_fields, read_body, shillings
from kasoko_cli.daraja.simulator.credential import Operator
from kasoko_cli.daraja.simulator.people import ORDINARY, PEOPLE, Person
from kasoko_cli.daraja.simulator.results import Envelope
from kasoko_cli.daraja.simulator.script import Endpoint, Fault, FaultStage, Rule, Script
from kasoko_cli.daraja.simulator.settings import SimulatorSettings
from kasoko_cli.daraja.simulator.tokens import Tokens

#: Every path that is answered, and what it asks for.
PATHS: Final[Mapping[str, Endpoint]] = {
    "/oauth/v1/generate": Endpoint.TOKEN,
    "/mpesa/b2c/v3/paymentrequest": Endpoint.B2C,
    "/mpesa/b2c/v1/paymentrequest": Endpoint.B2C,
    "/mpesa/transactionstatus/v1/query": Endpoint.STATUS,
    "/mpesa/accountbalance/v1/query": Endpoint.BALANCE,
    "/mpesa/b2b/v1/paymentrequest": Endpoint.TOP_UP,
    "/mpesa/reversal/v1/request": Endpoint.REVERSAL,
}
_V3: Final = "/mpesa/b2c/v3/paymentrequest"

#: How a dead token is refused; each product has its own way. `{}` is the token.
_DEAD_TOKEN: Final = {
    Endpoint.STATUS: (400, "400.003.01", "Invalid Access Token"),
    Endpoint.REVERSAL: (404, "404.001.03", "Invalid Access Token"),
}
_DEAD_TOKEN_USUAL: Final = (401, "401.002.01", "Error Occurred - Invalid Access Token - {}")

#: How many requests the log keeps.
_LOG_LENGTH: Final = 200
#: What a false failure says: a definite one, so that a caller who believes it errs.
_FALSE_FAILURE: Final = "2040"

#: Faults that post something to the timeout URL.
_TIMEOUTS: Final = frozenset(
    {Fault.TIMEOUT_UNPAID, Fault.TIMEOUT_PAID, Fault.TIMEOUT_THEN_RESULT, Fault.TIMEOUT_SAYS_0, Fault.TIMEOUT_SAYS_1}
)
#: Status queries that end without an answer, and their codes.
_REFUSED_QUERIES: Final = {Fault.STATUS_LAGS: "2033", Fault.STATUS_REFUSED: "21", Fault.STATUS_UNKNOWN_CODE: "99999"}
#: What a status query says of a payment that is not final.
_PENDING_WORDS: Final = {
    Fault.STATUS_INITIATED: "Initiated",
    Fault.STATUS_AUTHORIZED: "Authorized",
    Fault.STATUS_PENDING_AUTHORIZED: "Pending Authorized",
}
#: Other words for a payment that never moved money.
_UNPAID_WORDS: Final = {Fault.STATUS_CANCELLED: "Cancelled", Fault.STATUS_EXPIRED: "Expired"}


@dataclass(frozen=True)
class Request:
    """One HTTP request. Header names are in lower case."""

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] | None = None
    body: bytes = b""

    def header(self, name: str) -> str:
        """A header's value, or the empty text."""
        return (self.headers or {}).get(name, "")


@dataclass(frozen=True)
class _Call:
    """A request that came past the token check: what the handlers need to know about it."""

    endpoint: Endpoint
    path: str
    body: Body
    raw: bytes
    nth: int
    request_id: str
    token: str
    at: datetime


class Ids(TypedDict):
    """What the gateway calls a request by."""

    originator_id: str
    conversation_id: str


class SimulatedGateway:
    """One organisation's M-Pesa. Any thread may call it; one request is handled at a time."""

    def __init__(self, settings: SimulatorSettings, clock: Clock) -> None:
        self.settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._account = SimulatedAccount(settings)
        self._operator = Operator(settings.initiator_name, settings.initiator_password)
        self._tokens = Tokens(settings)
        self._script = Script(settings.seed, settings.faults)
        self._arrivals: deque[datetime] = deque()
        self._counts: Counter[Endpoint] = Counter()
        self._requests = 0
        self._duplicates_refused = 0
        self._log: deque[dict[str, Wire]] = deque(maxlen=_LOG_LENGTH)

    # --- For tests and the control paths -----------------------------------------------------------------------------

    def ledger(self) -> dict[str, object]:
        """The money that really moved, in integer cents, and what was asked."""
        with self._lock:
            return {
                "utility_cents": self._account.utility_cents,
                "working_cents": self._account.working_cents,
                "charges_cents": self._account.charges_cents,
                "payments": self._account.payments(),
                "requests": self._requests,
                "duplicates_refused": self._duplicates_refused,
                "requests_log": list(self._log),
            }

    def top_up(self, amount_cents: int) -> None:
        """Put money into the utility account."""
        with self._lock:
            self._account.top_up(amount_cents)

    def unlock(self) -> None:
        """Unlock the operator, as the Business Administrator does on the portal."""
        with self._lock:
            self._operator.unlock()

    def add_faults(self, rules: tuple[Rule, ...], *, replace_all: bool = False) -> None:
        """Put rules before those in force, or in their place."""
        with self._lock:
            self._script.add(rules, replace=replace_all)

    def rules(self) -> tuple[Rule, ...]:
        """The rules in force."""
        with self._lock:
            return self._script.rules

    def kill_tokens(self) -> None:
        """Every access token dies at once."""
        with self._lock:
            self._tokens.kill_all()

    # --- Requests ----------------------------------------------------------------------------------------------------

    def handle(self, request: Request) -> GatewayReply:
        """Answer one request of the Daraja API."""
        with self._lock:
            self._requests += 1
            request_id = self._request_id()
            entry: dict[str, Wire] = {"n": self._requests, "path": request.path}
            try:
                reply = self._route(request, request_id, entry)
            except Refusal as refusal:
                reply = refusal.reply(request_id)
                entry["error"] = f"{refusal.code} {refusal.message}".partition(" - Invalid Access Token")[0]
            entry["status"] = reply.status
            self._log.append(entry)
            return reply

    def _route(self, request: Request, request_id: str, entry: dict[str, Wire]) -> GatewayReply:
        endpoint = PATHS.get(request.path)
        if endpoint is None:
            raise Refusal(404, "404.001.01", "Resource not found")
        if request.method != ("GET" if endpoint is Endpoint.TOKEN else "POST"):
            raise Refusal(405, "405.001", "Method Not Allowed")
        self._counts[endpoint] += 1
        nth = self._counts[endpoint]
        entry |= {"endpoint": endpoint.value, "nth": nth}
        at = self._clock()
        if endpoint is Endpoint.TOKEN:
            return self._token(request, request_id, nth, at)

        token = self._admit(request, endpoint, at)
        first_field = "InitiatorName" if endpoint is Endpoint.B2C else "Initiator"
        if len(request.body) > MAX_BODY_BYTES:
            raise Refusal(400, "400.002.05", "Invalid Request Payload")
        body = read_body(request.body, request.header("content-type"), first_field)
        check_fields(
            body, endpoint, with_originator_id=request.path == _V3, refuse_words=self.settings.refuse_url_words
        )
        call = _Call(endpoint, request.path, body, request.body, nth, request_id, token, at)
        self._check_shortcode(body, endpoint)
        match endpoint:
            case Endpoint.B2C:
                return self._b2c(call, entry)
            case Endpoint.STATUS:
                return self._status(call, entry)
            case Endpoint.BALANCE:
                return self._balance(call, entry)
            case Endpoint.TOP_UP:
                return self._top_up(call)
            case Endpoint.REVERSAL:
                return self._reversal(call)

    def _token(self, request: Request, request_id: str, nth: int, at: datetime) -> GatewayReply:
        faults = self._script.choose(Endpoint.TOKEN, nth=nth, subject="token", phone=None)
        if fault := faults.get(FaultStage.BEFORE):
            return self._spoilt(fault, None, request_id, "")
        grant_type = parse_qs(request.query).get("grant_type", [None])[0]
        reply = self._tokens.issue(request.header("authorization"), grant_type, at)
        if fault := faults.get(FaultStage.AFTER):
            return self._spoilt(fault, reply, request_id, "")
        return reply

    def _admit(self, request: Request, endpoint: Endpoint, at: datetime) -> str:
        """Let a request in by its token and the rate; the token.

        Raises:
            Refusal: it is not let in.
        """
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Refusal(404, "404.001.04", "Invalid Authentication Header")
        if not self._tokens.is_alive(token, at):
            status, code, message = _DEAD_TOKEN.get(endpoint, _DEAD_TOKEN_USUAL)
            raise Refusal(status, code, message.format(token))
        limit = self.settings.requests_per_second
        if limit is not None:
            while self._arrivals and self._arrivals[0] <= at - timedelta(seconds=1):
                self._arrivals.popleft()
            if len(self._arrivals) >= limit:
                raise Refusal(500, "500.003.02", "Error Occurred: Spike Arrest Violation")
            self._arrivals.append(at)
        return token

    def _check_shortcode(self, body: Body, endpoint: Endpoint) -> None:
        name = {Endpoint.TOP_UP: "PartyB", Endpoint.REVERSAL: "ReceiverParty"}.get(endpoint, "PartyA")
        if str(body[name]) != self.settings.shortcode:
            raise Refusal(500, "500.001.1001", "Merchant does not exist")

    # --- Payments ----------------------------------------------------------------------------------------------------

    def _b2c(self, call: _Call, entry: dict[str, Wire]) -> GatewayReply:
        """Take a payment, refuse it, or do one of the things that the script says."""
        phone = str(call.body["PartyB"])
        person = PEOPLE.get(phone, ORDINARY) if self.settings.people else ORDINARY
        is_v3 = call.path == _V3
        originator_id = str(call.body["OriginatorConversationID"]) if is_v3 else self._gateway_id("b2c", call.nth)
        entry["originator_conversation_id"] = originator_id
        # On v1 every request is a payment of its own, so its rules count by the phone.
        subject = originator_id if is_v3 else phone
        faults = self._script.choose(call.endpoint, nth=call.nth, subject=subject, phone=phone, also=person.rules)
        entry["faults"] = [fault.value for fault in faults.values()]
        if fault := faults.get(FaultStage.BEFORE):
            return self._spoilt(fault, None, call.request_id, call.token)

        if self._account.find(originator_id) is not None:
            return self._duplicate(call, originator_id)
        instruction = self._take(call, person, originator_id, faults.get(FaultStage.RESULT))
        named = originator_id if not is_v3 or self.settings.echoes_originator_id else None
        reply = acknowledgement(named, instruction.conversation_id)
        reply = replace(reply, notices=self._owed(call, instruction, named, faults.get(FaultStage.RESULT)))
        if fault := faults.get(FaultStage.AFTER):
            return self._spoilt(fault, reply, call.request_id, call.token)
        return reply

    def _duplicate(self, call: _Call, originator_id: str) -> GatewayReply:
        """The first request with this id stands; this one moves no money."""
        self._duplicates_refused += 1
        if self.settings.duplicates == "refuse":
            raise Refusal(500, "500.002.1001", "Duplicate OriginatorConversationID.")
        conversation_id = self._conversation_id(call.at, originator_id, call.nth)
        envelope = results.no_status("15", originator_id=originator_id, conversation_id=conversation_id, at=call.at)
        reply = acknowledgement(originator_id, conversation_id)
        return replace(reply, notices=self._posts(call, envelope, originator_id, "duplicate", call.nth))

    def _take(self, call: _Call, person: Person, originator_id: str, fault: Fault | None) -> Instruction:
        refusal = self._operator.refusal(call.body["InitiatorName"], call.body["SecurityCredential"])
        order = Order(
            originator_id=originator_id,
            conversation_id=self._conversation_id(call.at, originator_id),
            phone=str(call.body["PartyB"]),
            amount_cents=shillings(call.body["Amount"]) * 100,
            reference=str(call.body.get("Occassion") or call.body.get("Occasion") or call.body["Remarks"]),
            at=call.at,
        )
        return self._account.take(
            order,
            code=refusal or person.code,
            paid_anyway=refusal is None and person.paid and person.code != "0",
            expired=fault is Fault.TIMEOUT_UNPAID,
        )

    def _owed(
        self, call: _Call, instruction: Instruction, originator_id: str | None, fault: Fault | None
    ) -> tuple[Notice, ...]:
        """What is posted because of a payment: one result, unless the script says otherwise."""
        key = instruction.originator_id
        true = self._posts(call, results.payment(instruction, originator_id=originator_id), key, "result")
        if fault is None:
            return true
        if fault in _TIMEOUTS:
            return self._timeout(call, instruction, originator_id, fault, true)
        return self._spoilt_result(call, instruction, originator_id, fault, true)

    def _timeout(
        self, call: _Call, instruction: Instruction, originator_id: str | None, fault: Fault, true: tuple[Notice, ...]
    ) -> tuple[Notice, ...]:
        """A queue timeout: our own request comes back, or an envelope that others have guessed at."""
        url = str(call.body["QueueTimeOutURL"])
        if fault in (Fault.TIMEOUT_SAYS_0, Fault.TIMEOUT_SAYS_1):
            code = "0" if fault is Fault.TIMEOUT_SAYS_0 else "1"
            envelope = Envelope(code, originator_id, instruction.conversation_id, "", result_type=int(code))
            return (Notice(url, results.body_of(envelope), self._delay(instruction.originator_id, "timeout")),)
        notice = Notice(url, call.raw, true[0].delay_seconds)
        if fault is Fault.TIMEOUT_THEN_RESULT:
            later = true[0].delay_seconds + self._delay(instruction.originator_id, "after timeout")
            return (notice, replace(true[0], delay_seconds=later))
        return (notice,)

    def _spoilt_result(
        self, call: _Call, instruction: Instruction, originator_id: str | None, fault: Fault, true: tuple[Notice, ...]
    ) -> tuple[Notice, ...]:
        """Results that are lost, doubled, early or late, contradicted, or wrong."""
        key = instruction.originator_id
        second = replace(true[0], delay_seconds=true[0].delay_seconds + self.settings.contradiction_seconds)
        failure = results.payment(instruction, originator_id=originator_id, code=_FALSE_FAILURE)
        match fault:
            case Fault.RESULT_LOST:
                return ()
            case Fault.RESULT_TWICE:
                return (*true, *true)
            case Fault.RESULT_EARLY:
                return tuple(replace(notice, before_answer=True) for notice in true)
            case Fault.RESULT_LATE:
                return tuple(replace(notice, delay_seconds=self.settings.late_seconds) for notice in true)
            case Fault.FAILURE_THEN_SUCCESS if instruction.paid:
                return (*self._posts(call, failure, key, "result"), second)
            case Fault.SUCCESS_THEN_FAILURE if instruction.paid:
                (late,) = self._posts(call, failure, key, "result")
                return (*true, replace(late, delay_seconds=second.delay_seconds))
            case Fault.FORGED_FAILURE if instruction.paid:
                forged = replace(failure, conversation_id=self._invented(call, key))
                return (*self._posts(call, forged, key, "result"), second)
            case _:
                return self._wrong_result(call, instruction, originator_id, fault, true)

    def _wrong_result(
        self, call: _Call, instruction: Instruction, originator_id: str | None, fault: Fault, true: tuple[Notice, ...]
    ) -> tuple[Notice, ...]:
        """One result with a part of it other than it is."""
        key, truth = instruction.originator_id, results.payment(instruction, originator_id=originator_id)
        match fault:
            case Fault.WRONG_AMOUNT:
                dearer = replace(instruction, amount_cents=instruction.amount_cents + 100)
                wrong = results.payment(dearer, originator_id=originator_id)
            case Fault.WRONG_CONVERSATION_ID:
                wrong = replace(truth, conversation_id=self._invented(call, key))
            case Fault.WRONG_ORIGINATOR_ID:
                wrong = replace(truth, originator_id=f"other-{key}"[:64])
            case Fault.TWO_RECEIPTS if instruction.paid:
                wrong = replace(truth, transaction_id=self._account.new_receipt(f"other-{key}", call.at))
            case Fault.NO_RESULT_CODE:
                wrong = replace(truth, has_code=False)
            case Fault.RESULT_TYPE_ONE:
                wrong = replace(truth, result_type=1)
                second = replace(true[0], delay_seconds=true[0].delay_seconds + self.settings.contradiction_seconds)
                return (*self._posts(call, wrong, key, "result"), second)
            case Fault.OTHER_SHAPE:
                return self._posts(call, truth, key, "result", varied=True)
            case _:
                # A contradiction of a failure would be a success that is not true: the ledger never lies.
                return true
        return self._posts(call, wrong, key, "result")

    def _invented(self, call: _Call, key: str) -> str:
        return self._conversation_id(call.at, key, "invented")

    # --- Queries -----------------------------------------------------------------------------------------------------

    def _status(self, call: _Call, entry: dict[str, Wire]) -> GatewayReply:
        """Say how a payment stands, out of the ledger."""
        asked_id = str(call.body.get("OriginalConversationID") or "")
        receipt = str(call.body.get("TransactionID") or "")
        if not asked_id and not receipt:
            raise Refusal(400, "400.003.02", "Bad Request")
        found = self._account.find(asked_id) if asked_id else self._account.find_receipt(receipt)
        subject = found.originator_id if found else asked_id or receipt
        entry["originator_conversation_id"] = subject
        phone = found.phone if found else None
        person = PEOPLE.get(phone or "", ORDINARY) if self.settings.people else ORDINARY
        faults = self._script.choose(
            call.endpoint,
            nth=call.nth,
            subject=subject,
            phone=phone,
            also=tuple(rule for rule in person.rules if rule.where is Endpoint.STATUS),
        )
        entry["faults"] = [fault.value for fault in faults.values()]
        if fault := faults.get(FaultStage.BEFORE):
            return self._spoilt(fault, None, call.request_id, call.token)

        ids = self._ids(call)
        reply = acknowledgement(**ids)
        fault = faults.get(FaultStage.STATUS)
        if fault is not Fault.STATUS_LOST:
            refusal = self._operator.refusal(call.body["Initiator"], call.body["SecurityCredential"])
            lags = found is not None and (call.at - found.at).total_seconds() < self.settings.status_lag_seconds
            if refusal is None and found is not None and not lags:
                envelope = self._status_of(call, found, fault, ids)
            else:
                code = refusal or ("2033" if asked_id else "2032")
                envelope = results.no_status(code, at=call.at, **ids)
            reply = replace(reply, notices=self._posts(call, envelope, subject, "status", call.nth))
        if fault := faults.get(FaultStage.AFTER):
            return self._spoilt(fault, reply, call.request_id, call.token)
        return reply

    def _status_of(self, call: _Call, found: Instruction, fault: Fault | None, ids: Ids) -> Envelope:
        """The truth about a payment, or what the script makes of it."""
        if fault in _REFUSED_QUERIES:
            return results.no_status(_REFUSED_QUERIES[fault], at=call.at, **ids)
        word: str | None = "Completed" if found.paid else "Expired" if found.expired else "Declined"
        if fault is Fault.STATUS_LIES:
            word = "Declined" if found.paid else "Completed"
        elif fault in _PENDING_WORDS:
            word = _PENDING_WORDS[fault]
        elif fault in _UNPAID_WORDS and not found.paid:
            word = _UNPAID_WORDS[fault]
        elif fault is Fault.STATUS_MISSING:
            word = None
        if fault is Fault.STATUS_WRONG_AMOUNT:
            found = replace(found, amount_cents=found.amount_cents + 100)
        elif fault is Fault.STATUS_WRONG_PARTY:
            found = replace(found, phone="254700999999")
        return results.status(found, shortcode=self.settings.shortcode, at=call.at, word=word, **ids)

    def _balance(self, call: _Call, entry: dict[str, Wire]) -> GatewayReply:
        """Say what is in the accounts."""
        faults = self._script.choose(call.endpoint, nth=call.nth, subject="balance", phone=None)
        entry["faults"] = [fault.value for fault in faults.values()]
        if fault := faults.get(FaultStage.BEFORE):
            return self._spoilt(fault, None, call.request_id, call.token)
        ids = self._ids(call)
        reply = acknowledgement(**ids, full_stop=False)
        fault = faults.get(FaultStage.BALANCE)
        if fault is not Fault.BALANCE_LOST:
            code = self._operator.refusal(call.body["Initiator"], call.body["SecurityCredential"])
            if code is None and fault is Fault.BALANCE_REFUSED:
                code = "21"
            if code is None:
                has_utility = fault is not Fault.BALANCE_WITHOUT_UTILITY
                envelope = results.balance(self._account, at=call.at, has_utility=has_utility, **ids)
            else:
                envelope = results.no_balance(code, at=call.at, **ids)
            reply = replace(reply, notices=self._posts(call, envelope, "balance", call.nth))
        if fault := faults.get(FaultStage.AFTER):
            return self._spoilt(fault, reply, call.request_id, call.token)
        return reply

    def _top_up(self, call: _Call) -> GatewayReply:
        """Money for the utility account, from a paybill of ours or from the working account."""
        ids = self._ids(call)
        amount_cents = shillings(call.body["Amount"]) * 100
        code = self._operator.refusal(call.body["Initiator"], call.body["SecurityCredential"])
        if code is None and call.body["CommandID"] == "BusinessPayToBulk":
            # The paybill that pays is outside of this organisation's ledger, and never empty.
            self._account.top_up(amount_cents)
        elif code is None and not self._account.move_to_utility(amount_cents):
            code = "1"
        receipt = self._account.new_receipt(ids["originator_id"], call.at)
        envelope = results.top_up(amount_cents, code or "0", receipt=receipt, **ids)
        notices = self._posts(call, envelope, ids["originator_id"], "top_up")
        return replace(acknowledgement(**ids), notices=notices)

    def _reversal(self, call: _Call) -> GatewayReply:
        """A B2C payment cannot be reversed by API, so every reversal fails.

        Source: Daraja portal, B2C and reversal pages, FAQ.
        """
        ids = self._ids(call)
        code = self._operator.refusal(call.body["Initiator"], call.body["SecurityCredential"]) or "R000002"
        notices = self._posts(call, results.no_status(code, at=call.at, **ids), ids["originator_id"], "reversal")
        return replace(acknowledgement(**ids), notices=notices)

    # --- Small parts -------------------------------------------------------------------------------------------------

    def _posts(self, call: _Call, envelope: Envelope, *about: object, varied: bool = False) -> tuple[Notice, ...]:
        """One result on its way to the caller's ResultURL."""
        if varied or self.settings.vary_shapes:
            body, content_type = results.varied_body_of(envelope, self.settings.seed, *about)
        else:
            body, content_type = results.body_of(envelope), JSON
        return (Notice(str(call.body["ResultURL"]), body, self._delay(*about), content_type=content_type),)

    def _delay(self, *about: object) -> float:
        least, most = self.settings.result_delay_seconds
        return least + (most - least) * chance.fraction(self.settings.seed, "delay", *about)

    def _spoilt(self, fault: Fault, taken: GatewayReply | None, request_id: str, token: str) -> GatewayReply:
        if fault is Fault.TOKEN_DIES:
            self._tokens.kill_all()
        return spoil(fault, taken, request_id=request_id, token=token, slow_seconds=self.settings.slow_seconds)

    def _ids(self, call: _Call) -> Ids:
        """The ids of a request that is no payment: the gateway makes both."""
        about = (call.endpoint.value, call.nth)
        return Ids(originator_id=self._gateway_id(*about), conversation_id=self._conversation_id(call.at, *about))

    def _conversation_id(self, at: datetime, *about: object) -> str:
        """`AG_`, the Nairobi date and twenty letters."""
        alphabet = chance.BASE36 if self.settings.conversation_ids == "base36" else chance.HEX
        tail = chance.letters(20, alphabet, self.settings.seed, "conversation", *about)
        return f"AG_{at.astimezone(NAIROBI):%Y%m%d}_{tail}"

    def _gateway_id(self, *about: object) -> str:
        """An originator id that the gateway makes: for v1, and for queries."""
        tail = chance.letters(30, chance.HEX, self.settings.seed, "gateway id", *about)
        return f"{tail[:4]}-{tail[4:8]}-{tail[8:12]}-{tail[12:]}"

    def _request_id(self) -> str:
        tail = chance.letters(20, chance.HEX, self.settings.seed, "request", self._requests)
        return f"{tail[:4]}-{tail[4:8]}-{tail[8:]}"
