"""What M-Pesa posts back: results of payments and queries, in the usual shape and in the others.

Source: Daraja portal, B2C, transaction status and account balance pages; sandbox callbacks of July
2026 and captures of October 2026 for order of keys, lone objects, missing values and text as numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

from kasoko_cli.clock import NAIROBI
from kasoko_cli.daraja.simulator import chance
from kasoko_cli.daraja.simulator.account import Instruction, SimulatedAccount, placeholder
from kasoko_cli.daraja.simulator.answers import JSON, Wire, write_json
from kasoko_cli.daraja.simulator.people import name_of

#: The text that comes with each result code.
DESCRIPTIONS: Final = {
    "0": "The service request is processed successfully.",
    "1": "The balance is insufficient for the transaction.",
    "2": "Declined due to limit rule.",
    "3": "Declined due to limit rule: greater than the maximum transaction amount.",
    "4": "Declined due to limit rule: would exceed daily transfer limit.",
    "7": "The ReceiverParty information is invalid.",
    "8": "Declined due to limit rule: would exceed the maximum balance.",
    "11": "The DebitParty is in an invalid state.",
    "15": "Duplicate Detected.",
    "17": "System internal error.",
    "21": "The initiator is not allowed to initiate this request.",
    "26": "Traffic blocking condition in place, the system is too busy.",
    "2001": "The initiator information is invalid.",
    "2006": "Declined due to account rule: The account status does not allow this transaction.",
    "2028": "The request is not permitted according to product assignment.",
    "2032": "The transaction receipt number does not exist.",
    "2033": "The transaction receipt number is not found for the originator conversation id.",
    "2040": "Credit Party customer type (Unregistered or Registered Customer) can't be supported by the service .",
    "4001": "Insufficient balance.",
    "8006": "The security credential is locked.",
    "99999": "Unexpected condition.",
    "R000002": "The OriginalTransactionID is invalid.",
    "SFC_IC0003": "The operator does not exist.",
}

#: Where Safaricom's own parts would have sent a timeout. No use to a caller, and always there.
_INTERNAL_URL: Final = "https://internalsandbox.safaricom.co.ke/mpesa/b2cresults/v1/submit"

#: A list of result parameters: key and value, or a key alone.
Parameters = list[tuple[str, Wire] | tuple[str]]


@dataclass(frozen=True)
class Envelope:
    """A result before it takes a shape."""

    code: str
    originator_id: str | None
    conversation_id: str
    transaction_id: str
    parameters: tuple[tuple[str, Wire] | tuple[str], ...] = ()
    #: The one ReferenceItem: with the internal URL, or the word Occasion without a value.
    reference: tuple[str, Wire] | tuple[str] = ("QueueTimeoutURL", _INTERNAL_URL)
    result_type: int = 0
    #: Codes and types as text, as in balance results.
    texts: bool = False
    has_code: bool = True

    def plain(self) -> dict[str, Wire]:
        """The usual shape."""
        result: dict[str, Wire] = {"ResultType": str(self.result_type) if self.texts else self.result_type}
        if self.has_code:
            result["ResultCode"] = self.code if self.texts or not self.code.isdigit() else int(self.code)
        result["ResultDesc"] = DESCRIPTIONS[self.code]
        if self.originator_id is not None:
            result["OriginatorConversationID"] = self.originator_id
        result["ConversationID"] = self.conversation_id
        result["TransactionID"] = self.transaction_id
        if self.parameters:
            items: list[Wire] = [_item(parameter) for parameter in self.parameters]
            # One parameter alone is an object: the XML behind it knows no lists of one.
            result["ResultParameters"] = {"ResultParameter": items if len(items) > 1 else items[0]}
        result["ReferenceData"] = {"ReferenceItem": _item(self.reference)}
        return result


def _item(parameter: tuple[str, Wire] | tuple[str]) -> dict[str, Wire]:
    if len(parameter) == 1:
        return {"Key": parameter[0]}
    return {"Key": parameter[0], "Value": parameter[1]}


def payment(instruction: Instruction, *, originator_id: str | None, code: str | None = None) -> Envelope:
    """How a payment ended: the truth, or that it ended with another code."""
    code = instruction.code if code is None else code
    parameters: Parameters = []
    if code == "0":
        parameters = [
            ("TransactionAmount", instruction.amount_cents // 100),
            ("TransactionReceipt", instruction.transaction_id),
            ("ReceiverPartyPublicName", f"{instruction.phone} - {name_of(instruction.phone)}"),
            ("TransactionCompletedDateTime", instruction.at.astimezone(NAIROBI).strftime("%d.%m.%Y %H:%M:%S")),
            ("B2CUtilityAccountAvailableFunds", kes(instruction.utility_cents)),
            ("B2CWorkingAccountAvailableFunds", kes(instruction.working_cents)),
            ("B2CRecipientIsRegisteredCustomer", "Y"),
            ("B2CChargesPaidAccountAvailableFunds", kes(instruction.charges_cents)),
        ]
    shown = instruction.transaction_id
    if code != "0" and instruction.paid and code != instruction.code:
        # A failure that is not true must not carry the receipt of the payment.
        shown = placeholder(instruction.at)
    return Envelope(code, originator_id, instruction.conversation_id, shown, tuple(parameters))


def status(
    instruction: Instruction,
    *,
    shortcode: str,
    originator_id: str,
    conversation_id: str,
    at: datetime,
    word: str | None,
) -> Envelope:
    """How a payment stands. The envelope's ids are the query's, the parameters' are the payment's.

    `word` is the TransactionStatus, or None to leave it out.
    """
    charge = f"Fee For B2C Payment|KES|{kes(instruction.charge_cents)}"
    parameters: Parameters = [
        ("DebitPartyName", f"{shortcode} - Example Markets"),
        ("CreditPartyName", f"{instruction.phone} - {name_of(instruction.phone).title()}"),
        ("OriginatorConversationID", instruction.originator_id),
        ("InitiatedTime", int(_digits(instruction.at))),
        ("DebitAccountType", "Utility Account"),
        ("DebitPartyCharges", charge) if instruction.charge_cents else ("DebitPartyCharges",),
        ("TransactionReason",),
        ("ReasonType", "Business Payment to Customer via API"),
    ]
    if word is not None:
        parameters.append(("TransactionStatus", word))
    parameters += [
        ("FinalisedTime", int(_digits(instruction.at))),
        ("Amount", str(kes(instruction.amount_cents))),
        ("ConversationID", instruction.conversation_id),
        ("ReceiptNo", instruction.transaction_id),
    ]
    return Envelope("0", originator_id, conversation_id, placeholder(at), tuple(parameters), reference=("Occasion",))


def no_status(code: str, *, originator_id: str, conversation_id: str, at: datetime) -> Envelope:
    """A status query without an answer: nothing found, or the query itself refused."""
    return Envelope(code, originator_id, conversation_id, placeholder(at), reference=("Occasion",))


def balance(
    account: SimulatedAccount, *, originator_id: str, conversation_id: str, at: datetime, has_utility: bool = True
) -> Envelope:
    """The accounts in one packed text, `ActionType` first, every code as text."""
    accounts = [("Working Account", account.working_cents, 0)]
    if has_utility:
        accounts.append(("Utility Account", account.utility_cents, account.reserved_cents))
    accounts += [
        ("Charges Paid Account", account.charges_cents, 0),
        ("Merchant Account", 0, 0),
        ("Organization Settlement Account", 0, 0),
    ]
    packed = "&".join(
        f"{name}|KES|{kes(current)}|{kes(current - reserved)}|{kes(reserved)}|0.00"
        for name, current, reserved in accounts
    )
    said = ("AccountBalance", packed)
    return _balance_envelope("0", said, originator_id=originator_id, conversation_id=conversation_id, at=at)


def no_balance(code: str, *, originator_id: str, conversation_id: str, at: datetime) -> Envelope:
    """A balance query that failed: it has parameters all the same, and says why with a space at its end."""
    words = {"8006": "API Password is locked. ", "2001": "Initiator information is invalid. "}
    said = ("ErrorMsg", words.get(code, DESCRIPTIONS[code] + " "))
    return _balance_envelope(code, said, originator_id=originator_id, conversation_id=conversation_id, at=at)


def _balance_envelope(
    code: str, said: tuple[str, Wire], *, originator_id: str, conversation_id: str, at: datetime
) -> Envelope:
    parameters = (("ActionType", "AccountBalance"), said, ("BOCompletedTime", int(_digits(at))))
    ids = (originator_id, conversation_id, placeholder(at))
    return Envelope(code, *ids, parameters, reference=("QueueTimeoutURL",), texts=True)


def top_up(amount_cents: int, code: str, *, originator_id: str, conversation_id: str, receipt: str) -> Envelope:
    """A top-up: text everywhere, and an amount inside a structure that is no JSON."""
    amount = f"{{Amount={{CurrencyCode=KES, MinimumAmount={amount_cents}, BasicAmount={kes(amount_cents)}}}}}"
    said = (("Amount", str(kes(amount_cents))), ("DebitAccountBalance", amount))
    return Envelope(code, originator_id, conversation_id, receipt, said if code == "0" else (), texts=True)


def kes(cents: int) -> Decimal:
    """Cents as shillings with two decimals, exactly."""
    return Decimal(cents).scaleb(-2)


def _digits(at: datetime) -> str:
    return at.astimezone(NAIROBI).strftime("%Y%m%d%H%M%S")


# --- Other shapes ----------------------------------------------------------------------------------------------------


def _all_text(result: dict[str, Wire]) -> None:
    """Numbers as text: `"0"`, `"1250.00"`."""
    for name in ("ResultType", "ResultCode"):
        if name in result:
            result[name] = str(result[name])
    for item in _parameter_items(result):
        if isinstance(item.get("Value"), int | Decimal):
            item["Value"] = str(item["Value"])


def _amount_with_decimals(result: dict[str, Wire]) -> None:
    """The amount as 1250.00."""
    for item in _parameter_items(result):
        if item["Key"] == "TransactionAmount" and isinstance(item["Value"], int):
            item["Value"] = Decimal(item["Value"]).quantize(Decimal("0.01"))


def _parameters_are_a_list(result: dict[str, Wire]) -> None:
    """ResultParameters itself a list."""
    if _parameter_items(result):
        result["ResultParameters"] = list(_parameter_items(result))


def _names_swapped(result: dict[str, Wire]) -> None:
    """The two names nested the other way round."""
    if _parameter_items(result):
        result["ResultParameter"] = {"ResultParameters": list(_parameter_items(result))}
        del result["ResultParameters"]


def _parameters_null(result: dict[str, Wire]) -> None:
    """ResultParameters null on a failure."""
    if "ResultParameters" not in result:
        result["ResultParameters"] = None


def _lone_object(result: dict[str, Wire]) -> None:
    """One parameter, as an object, on a failure."""
    if "ResultParameters" not in result:
        result["ResultParameters"] = {"ResultParameter": {"Key": "CreditPartyName", "Value": "SOMEBODY"}}


def _item_without_value(result: dict[str, Wire]) -> None:
    """Parameters that have a key and no value, in between the others."""
    parameters = result.get("ResultParameters")
    if isinstance(parameters, dict) and isinstance(parameters["ResultParameter"], list):
        parameters["ResultParameter"].insert(1, {"Key": "TransactionReason"})


def _reference_list(result: dict[str, Wire]) -> None:
    """ReferenceItem a list whose last one has no value."""
    result["ReferenceData"] = {
        "ReferenceItem": [{"Key": "QueueTimeoutURL", "Value": _INTERNAL_URL}, {"Key": "Occassion"}]
    }


def _no_reference(result: dict[str, Wire]) -> None:
    """No ReferenceData at all."""
    del result["ReferenceData"]


def _name_masked(result: dict[str, Wire]) -> None:
    """The receiver masked, as C2B notifications have it."""
    _rename(result, lambda name: f"{name[:4]} ***** {name[9:12]}")


def _name_local(result: dict[str, Wire]) -> None:
    """The receiver in local form, two spaces and an en dash."""
    _rename(result, lambda name: f"0{name[3:12]} \u2013  {name[15:]} ")


def _name_empty(result: dict[str, Wire]) -> None:
    """The receiver an empty text."""
    _rename(result, lambda _: "")


def _no_transaction_id(result: dict[str, Wire]) -> None:
    """TransactionID empty on a failure."""
    if result.get("ResultCode") not in (0, "0"):
        result["TransactionID"] = ""


def _spaced_names(result: dict[str, Wire]) -> None:
    """Identifiers with spaces in their names, as in 2017."""
    result["Originator Conversation ID"] = result.pop("OriginatorConversationID", None)
    result["Conversation ID"] = result.pop("ConversationID")


def _digits_as_numbers(result: dict[str, Wire]) -> None:
    """Text of digits only comes back as a number."""
    for key, value in result.items():
        if isinstance(value, str) and value.isdigit() and len(value) < 19:
            result[key] = int(value)


def _rename(result: dict[str, Wire], change: Callable[[str], str]) -> None:
    for item in _parameter_items(result):
        if item["Key"] == "ReceiverPartyPublicName":
            item["Value"] = change(str(item["Value"]))


def _parameter_items(result: dict[str, Wire]) -> list[dict[str, Wire]]:
    parameters = result.get("ResultParameters")
    found = parameters.get("ResultParameter") if isinstance(parameters, dict) else None
    return [item for item in (found if isinstance(found, list) else [found]) if isinstance(item, dict)]


#: Everything that a result can look like besides the usual.
SHAPES: Final[tuple[Callable[[dict[str, Wire]], None], ...]] = (
    _all_text,
    _amount_with_decimals,
    _parameters_are_a_list,
    _names_swapped,
    _parameters_null,
    _lone_object,
    _item_without_value,
    _reference_list,
    _no_reference,
    _name_masked,
    _name_local,
    _name_empty,
    _no_transaction_id,
    _spaced_names,
    _digits_as_numbers,
)

#: Content types that results have come with.
_CONTENT_TYPES: Final = (JSON, "application/json;charset=utf-8")


def body_of(envelope: Envelope) -> bytes:
    """The usual body."""
    return write_json({"Result": envelope.plain()})


def varied_body_of(envelope: Envelope, seed: int, *about: object) -> tuple[bytes, str]:
    """A body in one of the other shapes with its keys in another order, and its content type; by the seed."""
    result = envelope.plain()
    chance.choice(SHAPES, seed, "shape", *about)(result)
    parameters = result.get("ResultParameters")
    if isinstance(parameters, dict) and isinstance(items := parameters["ResultParameter"], list):
        parameters["ResultParameter"] = chance.shuffled(items, seed, "parameters", *about)
    body = write_json({"Result": dict(chance.shuffled(list(result.items()), seed, "keys", *about))})
    if chance.fraction(seed, "slashes", *about) < 0.5:
        body = body.replace(b"/", b"\\/")
    return body, chance.choice(_CONTENT_TYPES, seed, "content type", *about)
