"""Everything about a simulator that can be set; what is not set behaves like a healthy M-Pesa."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from kasoko_cli.daraja.simulator.script import Rule


@dataclass(frozen=True)
class SimulatorSettings:
    """One organisation, its accounts, its limits, and what goes wrong.

    Amounts are integer cents, delays seconds. A limit of None is switched off.
    """

    #: Every draw (ids, receipts, delays, faults by rate) is a function of this and the request's id.
    seed: int = 0

    #: The organisation that pays; a request for another one is refused.
    shortcode: str = "600999"
    #: The app's key and secret for the access token.
    consumer_key: str = "simulator-key"
    consumer_secret: str = field(default="simulator-secret", repr=False)
    #: The API operator and its password, which requests carry encrypted.
    initiator_name: str = "testapi"
    initiator_password: str = field(default="Simulator999#", repr=False)

    #: Money in the utility account at the start: this is what pays.
    utility_cents: int = 1_000_000_00
    #: Of the utility account, what is reserved for something else: it is in the balance and does not pay.
    reserved_cents: int = 0
    #: Money in the working account at the start: this does not pay.
    working_cents: int = 0
    #: Whether payments are charged for, to the Charges Paid account (tariff of August 2023).
    tariff: bool = True

    #: The least and the most that one payment may carry (codes 2 and 3).
    min_cents: int = 1000
    max_cents: int = 25_000_000
    #: The most that one customer may receive in one Nairobi day (code 4), or None.
    daily_cents: int | None = 50_000_000
    #: The most that one customer may hold (code 8), or None. Off, because customers here never spend.
    balance_cap_cents: int | None = None

    #: How long a result takes, drawn evenly between the two.
    result_delay_seconds: tuple[float, float] = (0.05, 0.3)
    #: (https prefix, loopback prefix): where a result for a public address really goes.
    callback_map: tuple[tuple[str, str], ...] = ()
    #: Whether results go to other hosts than this machine. A request names the host, and anybody may send one.
    post_anywhere: bool = False
    #: Whether a request is refused whose addresses have a word that C2B forbids. Production was seen to do both.
    refuse_url_words: bool = False
    #: The loopback address that results come from, such as 127.0.0.2; None leaves it to the system.
    post_from: str | None = None
    #: How often a result is posted before it is given up. Daraja posts once.
    post_tries: int = 1
    #: How long one post may take.
    post_timeout_seconds: float = 10.0

    #: How long an access token lives.
    token_seconds: int = 3599
    #: Whether a new token kills the one before it.
    old_token_dies: bool = True
    #: Whether `expires_in` is a number instead of text.
    token_life_as_number: bool = False
    #: Whether a wrong key is answered with no body at all.
    wrong_key_has_no_body: bool = False

    #: Requests that the gateway takes in one second of the clock before spike arrest, or None.
    requests_per_second: int | None = None

    #: What goes wrong, in order: the first rule that fits wins. The test numbers come after these.
    faults: tuple[Rule, ...] = ()
    #: Whether the test numbers of `people.py` do what their rows say.
    people: bool = True
    #: Whether each result takes one of the shapes and key orders that were seen live.
    vary_shapes: bool = False
    #: Letters in a conversation id.
    conversation_ids: Literal["base36", "hex"] = "base36"
    #: Whether v3 answers with the caller's OriginatorConversationID, as Daraja does.
    echoes_originator_id: bool = True
    #: A repeated id is refused at once, or taken and answered by a result with code 15.
    duplicates: Literal["refuse", "result"] = "refuse"
    #: How long a payment stays invisible to status queries.
    status_lag_seconds: float = 0.0

    #: How late a late result is, and how long the second of two contradicting results waits.
    late_seconds: float = 5.0
    contradiction_seconds: float = 0.0
    #: How long a slow answer takes, how long no answer is held open, and the pause between dripped bytes.
    slow_seconds: float = 3.0
    hang_seconds: float = 120.0
    drip_seconds: float = 0.5
