"""The simulator as a server: Daraja's paths, and a few of its own that begin with `/_`.

    with Simulator(SimulatorSettings(seed=7)).serving() as url:
        ...  # pay through `url`, then compare with GET {url}/_ledger

| path | what it does |
| --- | --- |
| `GET /_ledger` | the money that really moved, and what was asked |
| `GET /_phones` | the table of test numbers |
| `GET /_fault` | every fault there is, and the rules in force |
| `POST /_fault` | `{"rules": [{"fault": "drop_after", "nth": 3}], "replace": false}` |
| `POST /_top_up` | `{"amount_cents": 100000}` into the utility account |
| `POST /_unlock` | unlocks the operator after five wrong passwords |
| `POST /_kill_tokens` | every access token dies |
| `GET /_certificate` | the certificate that the operator's password is encrypted with |
| `GET /_health` | answers 200 |
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from kasoko_cli.clock import Clock, system_clock
from kasoko_cli.daraja.serve import AsgiApp, Message, Receive, Scope, Send, Server, bound
from kasoko_cli.daraja.simulator import credential
from kasoko_cli.daraja.simulator.answers import JSON, GatewayReply, Manner
from kasoko_cli.daraja.simulator.checks import MAX_BODY_BYTES
from kasoko_cli.daraja.simulator.gateway import Request, SimulatedGateway
from kasoko_cli.daraja.simulator.people import PEOPLE
from kasoko_cli.daraja.simulator.postman import DeliveryTally, Postman
from kasoko_cli.daraja.simulator.script import STAGE_OF, Endpoint, Fault, Rule
from kasoko_cli.daraja.simulator.settings import SimulatorSettings

__all__ = ["Endpoint", "Fault", "Rule", "Running", "Simulator", "SimulatorSettings"]


class Simulator:
    """A Daraja that pays out of its own ledger.

    Its money, ids and faults live as long as this object: it can be started again after a stop and
    remembers. `gateway` can be called without a server, from any thread.
    """

    def __init__(self, settings: SimulatorSettings | None = None, clock: Clock = system_clock) -> None:
        self.settings = settings or SimulatorSettings()
        self.gateway = SimulatedGateway(self.settings, clock)
        self._tally = DeliveryTally()
        self._postman = self._new_postman()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def certificate_pem(self) -> str:
        """The certificate that callers encrypt the operator's password with."""
        return credential.certificate_pem()

    def security_credential(self, password: str | None = None) -> str:
        """A SecurityCredential for the operator's password, or for another one."""
        return credential.encrypt(self.settings.initiator_password if password is None else password)

    def ledger(self) -> dict[str, object]:
        """The money that really moved, as `GET /_ledger` serves it."""
        return {
            **self.gateway.ledger(),
            "results_posted": self._tally.posted,
            "results_accepted": self._tally.accepted,
            "results_undelivered": self._tally.undelivered,
            "results_dropped": self._tally.dropped,
            "results_owed": self._postman.owed,
        }

    # --- Running -----------------------------------------------------------------------------------------------------

    def start(self, host: str = "127.0.0.1", port: int = 0) -> Running:
        """Serve in a thread of its own; port 0 takes any free one.

        Raises:
            ConfigurationError: the address cannot be bound.
        """
        server = Server(self.app, sockets=[bound(host, port)])
        self._postman = self._new_postman()
        server.start()
        return Running(self, server)

    @contextlib.contextmanager
    def serving(self, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
        """Serve while the block runs; gives the URL, without a trailing slash."""
        running = self.start(host, port)
        try:
            yield running.url
        finally:
            running.stop()

    def let_go(self) -> None:
        """Drop the results that are still owed and every answer that is held back. From any thread."""
        if self._loop is None or self._stopping is None or self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._stopping.set)
        asyncio.run_coroutine_threadsafe(self._postman.close(), self._loop).result(timeout=30)

    def _new_postman(self) -> Postman:
        return Postman(
            self._tally,
            callback_map=self.settings.callback_map,
            post_anywhere=self.settings.post_anywhere,
            timeout_seconds=self.settings.post_timeout_seconds,
            tries=self.settings.post_tries,
            post_from=self.settings.post_from,
        )

    # --- ASGI --------------------------------------------------------------------------------------------------------

    @property
    def app(self) -> AsgiApp:
        """The ASGI callable: a plain function, since uvicorn takes a bound method for an ASGI 2 class."""

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await self._answer(scope, receive, send)

        return app

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        if self._loop is not asyncio.get_running_loop():
            self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        body = await _read(receive)
        path: str = scope["path"]
        if path.startswith("/_"):
            await _send_whole(send, self._control(scope["method"], path, body))
            return
        reply = self.gateway.handle(
            Request(
                method=scope["method"],
                path=path,
                query=scope["query_string"].decode("latin-1"),
                headers={name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]},
                body=body,
            )
        )
        await self._give(reply, receive, send)

    async def _give(self, reply: GatewayReply, receive: Receive, send: Send) -> None:
        """Answer, and hand in what is owed because of it: an answer that takes long does not hold results up."""
        for notice in reply.notices:
            if notice.before_answer:
                await self._postman.post_now(notice)
        is_prompt = reply.manner is Manner.WHOLE and not reply.wait_seconds
        if is_prompt:
            await _send_whole(send, reply)
        for notice in reply.notices:
            if not notice.before_answer:
                self._postman.hand_in(notice)
        if not is_prompt:
            await self._give_badly(reply, receive, send)

    async def _give_badly(self, reply: GatewayReply, receive: Receive, send: Send) -> None:
        """Every way to answer but at once and whole."""
        match reply.manner:
            case Manner.WHOLE:
                await self._pause(receive, reply.wait_seconds)
                await _send_whole(send, reply)
            case Manner.NEVER:
                await self._pause(receive, self.settings.hang_seconds)
                await _hang_up(send)
            case Manner.DROPPED:
                await _hang_up(send)
            case Manner.RESET:
                await _hang_up(send, reset=True)
            case Manner.HALF:
                await send(_head(reply))
                half = reply.body[: len(reply.body) // 2]
                await send({"type": "http.response.body", "body": half, "more_body": True})
                await _hang_up(send)
            case Manner.DRIPPED:
                await send(_head(reply))
                for index in range(len(reply.body)):
                    await send({"type": "http.response.body", "body": reply.body[index : index + 1], "more_body": True})
                    if await self._pause(receive, self.settings.drip_seconds):
                        await _hang_up(send)
                        return
                await send({"type": "http.response.body", "body": b""})

    async def _pause(self, receive: Receive, seconds: float) -> bool:
        """Wait; True if the caller went away or the simulator stops before the time is over."""
        assert self._stopping is not None
        waits: set[asyncio.Task[Any]] = {asyncio.ensure_future(receive()), asyncio.ensure_future(self._stopping.wait())}
        done, pending = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return bool(done)

    # --- The paths of its own ----------------------------------------------------------------------------------------

    def _control(self, method: str, path: str, body: bytes) -> GatewayReply:
        """What is not Daraja: for tests and for people who try things out."""
        match method, path:
            case "GET", "/_health":
                return _json({"ok": True})
            case "GET", "/_ledger":
                return _json(self.ledger())
            case "GET", "/_phones":
                return _json({"phones": _phones()})
            case "GET", "/_certificate":
                return GatewayReply(200, self.certificate_pem.encode(), "application/x-pem-file")
            case "GET", "/_fault":
                return _json(
                    {"faults": {fault.value: STAGE_OF[fault].value for fault in Fault}, "rules": self._rules()}
                )
            case "POST", "/_unlock":
                self.gateway.unlock()
                return _json({"ok": True})
            case "POST", "/_kill_tokens":
                self.gateway.kill_tokens()
                return _json({"ok": True})
            case "POST", "/_fault" | "/_top_up":
                try:
                    return self._set(path, json.loads(body or b"null"))
                except ValueError as error:
                    return _json({"error": str(error)}, status=400)
        return _json({"error": f"there is no {method} {path}"}, status=404)

    def _set(self, path: str, wish: object) -> GatewayReply:
        """Change faults or funds while it runs.

        Raises:
            ValueError: it says what is wrong with the wish.
        """
        if not isinstance(wish, dict):
            raise ValueError("the body is a JSON object")  # noqa: TRY004 - the caller's data, not a type of ours
        if path == "/_top_up":
            cents = wish.get("amount_cents")
            if not isinstance(cents, int) or isinstance(cents, bool) or not 0 < cents < 2**63:
                raise ValueError("amount_cents is a whole number above 0")
            self.gateway.top_up(cents)
            return _json({"utility_cents": self.gateway.ledger()["utility_cents"]})
        rules = wish.get("rules")
        if not isinstance(rules, list):
            raise ValueError("rules is a list of rules")  # noqa: TRY004
        self.gateway.add_faults(tuple(map(Rule.from_json, rules)), replace_all=wish.get("replace") is True)
        return _json({"rules": self._rules()})

    def _rules(self) -> list[dict[str, object]]:
        return [asdict(rule) | {"endpoint": rule.where} for rule in self.gateway.rules()]


class Running:
    """A simulator that serves in a thread."""

    def __init__(self, simulator: Simulator, server: Server) -> None:
        self._simulator = simulator
        self._server = server

    @property
    def url(self) -> str:
        """Where it listens: `http://127.0.0.1:8321`, without a trailing slash."""
        return self._server.url

    @property
    def host(self) -> str:
        """The address that it is bound to."""
        return self._server.host

    @property
    def port(self) -> int:
        """The port that it is bound to."""
        return self._server.port

    def stop(self) -> None:
        """Drop the results that are still owed, take no more requests, then return."""
        self._simulator.let_go()
        self._server.stop()

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


async def _read(receive: Receive) -> bytes:
    """The request's body; what is longer than a body may be is thrown away, one byte excepted."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        if len(body) <= MAX_BODY_BYTES:
            body += message.get("body", b"")
    return body


def _head(reply: GatewayReply) -> Message:
    return {
        "type": "http.response.start",
        "status": reply.status,
        "headers": [
            (b"content-type", reply.content_type.encode("ascii")),
            (b"content-length", str(len(reply.body)).encode("ascii")),
        ],
    }


async def _send_whole(send: Send, reply: GatewayReply) -> None:
    await send(_head(reply))
    await send({"type": "http.response.body", "body": reply.body})


async def _hang_up(send: Send, *, reset: bool = False) -> None:
    """Close the connection under an unfinished answer.

    ASGI has no word for this, so it reaches for uvicorn's transport, behind the `send` that it gave us.
    """
    transport = getattr(getattr(send, "__self__", None), "transport", None)
    if transport is None:
        raise RuntimeError("This server cannot drop a connection; run the simulator under uvicorn.")
    if reset:
        # A linger time of zero makes the kernel send a reset instead of an orderly end.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    else:
        transport.close()
    # uvicorn must have seen the end before we return, or it would answer 500 in our place.
    for _ in range(3):
        await asyncio.sleep(0)


def _json(value: object, *, status: int = 200) -> GatewayReply:
    return GatewayReply(status, json.dumps(value).encode(), JSON)


def _phones() -> list[dict[str, object]]:
    return [
        {
            "phone": person.phone,
            "what": person.title,
            "paid": person.paid,
            "code": person.code,
            "faults": [fault.value for fault in person.faults],
            "first": person.first,
        }
        for person in PEOPLE.values()
    ]
