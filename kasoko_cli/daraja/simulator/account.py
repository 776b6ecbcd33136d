"""The money that really moved: the organisation's accounts, and who was paid.

This is the judge of every test: what a caller believes is compared with this.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kasoko_cli.clock import NAIROBI, iso
from kasoko_cli.daraja.simulator import chance
from kasoko_cli.daraja.simulator.settings import SimulatorSettings
from kasoko_cli.daraja.simulator.tariff import AUGUST_2023

#: Days of a month in a receipt: 1 to 9, then A to V.
_DAYS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUV"


@dataclass(frozen=True)
class Instruction:
    """A request to pay that was taken, and how it ended. Its originator id is spent for ever."""

    originator_id: str
    conversation_id: str
    #: A receipt if it was paid; on some failures a real-looking id that proves nothing, on others a placeholder.
    transaction_id: str
    phone: str
    amount_cents: int
    charge_cents: int
    reference: str
    #: The result code.
    code: str
    #: Whether money moved, whatever the code says.
    paid: bool
    #: Whether it waited too long and was never looked at.
    expired: bool
    at: datetime
    #: The three accounts just after it.
    utility_cents: int
    working_cents: int
    charges_cents: int


@dataclass(frozen=True)
class Order:
    """What a request asks for: which payment, to whom and how much."""

    originator_id: str
    conversation_id: str
    phone: str
    amount_cents: int
    reference: str
    at: datetime


class SimulatedAccount:
    """Working, utility and charges, in integer cents. Not thread-safe: its owner holds the lock."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._settings = settings
        self.utility_cents = settings.utility_cents
        self.reserved_cents = settings.reserved_cents
        self.working_cents = settings.working_cents
        #: Below zero by all that was charged, as Safaricom shows it.
        self.charges_cents = 0
        self._taken: dict[str, Instruction] = {}
        self._by_transaction_id: dict[str, Instruction] = {}
        self._paid: list[Instruction] = []
        self._issued: set[str] = set()
        self._received_today: Counter[tuple[str, str]] = Counter()
        self._held: Counter[str] = Counter()

    @property
    def available_cents(self) -> int:
        """What of the utility account can pay."""
        return self.utility_cents - self.reserved_cents

    def find(self, originator_id: str) -> Instruction | None:
        """The instruction with this id, if one was ever taken."""
        return self._taken.get(originator_id)

    def find_receipt(self, receipt: str) -> Instruction | None:
        """The payment with this receipt."""
        return self._by_transaction_id.get(receipt)

    def take(self, order: Order, *, code: str, paid_anyway: bool = False, expired: bool = False) -> Instruction:
        """Pay, or write down why not. `code` other than "0" is a refusal that was already found.

        With `paid_anyway` the money moves although the result says that code.
        """
        originator_id, phone, amount_cents, at = order.originator_id, order.phone, order.amount_cents, order.at
        assert originator_id not in self._taken, "an id is taken once"
        if code == "0" and not expired:
            code = self._refusal(phone, amount_cents, at)
        paid = not expired and (code == "0" or (paid_anyway and amount_cents <= self.available_cents))
        charge_cents = AUGUST_2023.charge_cents(amount_cents) if paid and self._settings.tariff else 0
        if paid:
            self.utility_cents -= amount_cents
            self.charges_cents -= charge_cents
            self._received_today[phone, _day(at)] += amount_cents
            self._held[phone] += amount_cents
        instruction = Instruction(
            originator_id=originator_id,
            conversation_id=order.conversation_id,
            transaction_id=self.new_receipt(originator_id, at)
            if paid or code in REAL_LOOKING_FAILURES
            else placeholder(at),
            phone=phone,
            amount_cents=amount_cents,
            charge_cents=charge_cents,
            reference=order.reference,
            code=code,
            paid=paid,
            expired=expired,
            at=at,
            utility_cents=self.utility_cents,
            working_cents=self.working_cents,
            charges_cents=self.charges_cents,
        )
        self._taken[originator_id] = instruction
        if paid:
            self._paid.append(instruction)
            self._by_transaction_id[instruction.transaction_id] = instruction
        return instruction

    def top_up(self, amount_cents: int) -> None:
        """Money from outside arrives in the utility account."""
        self.utility_cents += amount_cents

    def move_to_utility(self, amount_cents: int) -> bool:
        """Move money from the working account; False, and nothing moves, if it is not there."""
        if amount_cents > self.working_cents:
            return False
        self.working_cents -= amount_cents
        self.utility_cents += amount_cents
        return True

    def payments(self) -> list[dict[str, object]]:
        """Every payment that moved money, in the order in which it did."""
        return [
            {
                "originator_conversation_id": one.originator_id,
                "conversation_id": one.conversation_id,
                "receipt": one.transaction_id,
                "phone": one.phone,
                "amount_cents": one.amount_cents,
                "charge_cents": one.charge_cents,
                "reference": one.reference,
                "at": iso(one.at),
            }
            for one in self._paid
        ]

    def new_receipt(self, about: str, at: datetime) -> str:
        """A receipt that nobody else has, the same for the same seed and id on the same day."""
        for attempt in range(100):
            receipt = _date_part(at) + chance.letters(
                7, chance.RECEIPT_LETTERS, self._settings.seed, "receipt", about, attempt
            )
            if receipt not in self._issued and not receipt.endswith("0000000"):
                self._issued.add(receipt)
                return receipt
        raise AssertionError("a hundred receipts in a row were taken")

    def _refusal(self, phone: str, amount_cents: int, at: datetime) -> str:
        """The code of the first rule that this payment breaks, or "0"."""
        settings = self._settings
        if amount_cents < settings.min_cents:
            return "2"
        if amount_cents > settings.max_cents:
            return "3"
        daily, cap = settings.daily_cents, settings.balance_cap_cents
        if daily is not None and self._received_today[phone, _day(at)] + amount_cents > daily:
            return "4"
        if cap is not None and self._held[phone] + amount_cents > cap:
            return "8"
        if amount_cents > self.available_cents:
            return "1"
        return "0"


#: Failures whose TransactionID looks like a receipt; the others carry the placeholder.
#: Source: sandbox callbacks of July 2026 and Safaricom's own tutorial.
REAL_LOOKING_FAILURES: Final = frozenset({"2001", "8006", "7", "17"})


def placeholder(at: datetime) -> str:
    """What stands in for a receipt where there is none: the date and seven zeros."""
    return f"{_date_part(at)}0000000"


def _date_part(at: datetime) -> str:
    """Year, month and day of a receipt, in Nairobi: U is 2026, K November, N the 23rd."""
    local = at.astimezone(NAIROBI)
    return chr(ord("A") + (local.year - 2006) % 26) + chr(ord("A") + local.month - 1) + _DAYS[local.day]


def _day(at: datetime) -> str:
    return at.astimezone(NAIROBI).date().isoformat()
