"""What a payout's bettor is told, in English and in Swahili: sentences that can be read aloud as they stand.

Every figure comes from `operations/settlement/explanation.py`; here are only words, in both languages side by side,
so that neither is forgotten. Swahili is that of Kenya; the time of day is told both as people say it (saa tisa is
three o'clock) and as a clock shows it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

from kasoko_cli.clock import NAIROBI
from kasoko_cli.domain.money import format_kes

if TYPE_CHECKING:
    from kasoko_cli.operations.settlement.explanation import DividendFact, PayoutExplanation, SendFact

Language = Literal["en", "sw"]

#: The most decimals of a share that are read out.
PLACES = 6


def spoken(found: PayoutExplanation, language: Language) -> list[str]:
    """The whole story of the number, a sentence or two a step."""
    return [text for text in _Speaker(found, language).story() if text]


#: How a payout stands, where nothing more is to be said of it than that: in English and in Swahili.
_STANDING = {
    "SENDING": ("M-Pesa has not told us yet how it ended.", "Bado tunasubiri jibu la M-PESA."),
    "SENT": ("M-Pesa has not told us yet how it ended.", "Bado tunasubiri jibu la M-PESA."),
    "UNKNOWN": (
        "We do not know yet whether it arrived, and are asking M-Pesa. Until we know, it is not sent a second time.",
        "Bado hatujui kama pesa zilifika, na tunaiuliza M-PESA. Hatutazituma mara ya pili kabla ya kupata uhakika.",
    ),
    "HELD": (
        "It is held back until a person here has looked at it.",
        "Malipo haya yamezuiliwa kwa muda hadi mhudumu wetu ayakague.",
    ),
    "AWAITING_APPROVAL": (
        "A second person here still has to approve it.",
        "Malipo haya yanasubiri kuidhinishwa na mtu wa pili.",
    ),
    "RETURNED": ("It had arrived, and the money came back to us.", "Pesa zilifika, kisha zikarudi kwetu."),
    "CANCELED": (
        "It is not owed any longer: the result of the market was corrected.",
        "Malipo haya yalifutwa kwa sababu matokeo ya soko yalirekebishwa.",
    ),
}


class _Speaker:
    """Tells one payout in one language."""

    def __init__(self, found: PayoutExplanation, language: Language) -> None:
        self.found, self.language = found, language

    def say(self, english: str, swahili: str) -> str:
        return swahili if self.language == "sw" else english

    def kes(self, cents: int) -> str:
        return f"{self.say('KES', 'KSh')} {format_kes(cents)}"

    def names(self, names: Sequence[str]) -> str:
        quoted = [f"“{name}”" for name in names]
        together = self.say(" and ", " na ")
        return together.join([", ".join(quoted[:-1]), quoted[-1]]) if len(quoted) > 1 else quoted[0]

    def when(self, moment: datetime) -> str:
        return swahili_time(moment) if self.language == "sw" else english_time(moment)

    # --- The story, in order ----------------------------------------------------------------------

    def story(self) -> Iterator[str]:
        """Every step, from the question to the phone."""
        yield from self.outcome()
        if self.found.kind == "REFUND":
            yield from self.refund()
        else:
            yield from self.pool()
            yield from self.stakes()
            yield from self.share()
        yield from self.carried()
        yield from self.sent()

    def outcome(self) -> Iterator[str]:
        found = self.found
        yield self.say(f"The question was: “{found.question}”", f"Swali lilikuwa: “{found.question}”")
        if found.void:
            return
        if found.weights:
            parts = ", ".join(f"“{name}” {weight}" for name, weight in found.weights)
            yield self.say(f"It was decided in parts of the pool: {parts}.", f"Soko liliamuliwa kwa mafungu: {parts}.")
        elif len(found.winners) > 1:
            yield self.say(
                f"{self.names(found.winners)} won together, which is called a dead heat.",
                f"Majibu {self.names(found.winners)} yalishinda kwa pamoja.",
            )
        else:
            yield self.say(
                f"The answer that won is {self.names(found.winners)}.",
                f"Jibu lililoshinda ni {self.names(found.winners)}.",
            )
        if found.withdrawn:
            yield self.say(
                f"{self.names(found.withdrawn)} fell away; the stakes on it went back and took no part.",
                ("Jibu" if len(found.withdrawn) == 1 else "Majibu")
                + f" {self.names(found.withdrawn)} "
                + ("liliondolewa" if len(found.withdrawn) == 1 else "yaliondolewa")
                + "; madau yaliyowekwa hapo yalirudishwa na hayakushiriki.",
            )

    def pool(self) -> Iterator[str]:
        found, rules = self.found, self.found.rules
        percent = percent_of(int(rules["fee_bps"]))
        yield self.say(
            f"All the stakes that count came to {self.kes(found.gross_cents)}.",
            f"Jumla ya madau yote halali ilikuwa {self.kes(found.gross_cents)}.",
        )
        if not rules["fee_bps"]:
            yield self.say("No fee is taken.", "Hakuna ada inayotozwa.")
        elif found.full_fee_cents != found.fee_cents:
            least = times_of(int(rules["min_dividend_bps"]))
            yield self.say(
                f"The fee is {percent}% of that, {self.kes(found.full_fee_cents)}; but this market promises each winner"
                f" at least {least} times the stake, so the fee was cut to {self.kes(found.fee_cents)}.",
                f"Ada ni asilimia {percent} ya jumla hiyo, yaani {self.kes(found.full_fee_cents)}; lakini soko hili"
                f" linaahidi kila mshindi angalau mara {least} ya dau lake, kwa hiyo ada ilipunguzwa hadi"
                f" {self.kes(found.fee_cents)}.",
            )
        else:
            yield self.say(
                f"The fee is {percent}% of that, rounded down to the cent: {self.kes(found.fee_cents)}.",
                f"Ada ni asilimia {percent} ya jumla hiyo, ikipunguzwa hadi senti kamili: {self.kes(found.fee_cents)}.",
            )
        if found.top_up_cents:
            least = times_of(int(rules["min_dividend_bps"]))
            yield self.say(
                f"This market promises each winner at least {least} times the stake, so we added"
                f" {self.kes(found.top_up_cents)} of our own.",
                f"Soko hili linaahidi kila mshindi angalau mara {least} ya dau lake, kwa hiyo tuliongeza"
                f" {self.kes(found.top_up_cents)} kutoka kwetu.",
            )
        yield self.say(
            f"What is left for the winners to share is {self.kes(found.net_cents)}.",
            f"Kiasi kilichobaki cha kugawiwa washindi ni {self.kes(found.net_cents)}.",
        )

    def stakes(self) -> Iterator[str]:
        for one in self.found.stakes:
            name, cents = self.names([one.outcome]), self.kes(one.stake_cents)
            many = self.say(f", in {one.bets} bets", f" (madau {one.bets})") if one.bets > 1 else ""
            if one.became == "won":
                yield self.say(f"You put {cents} on {name}{many}.", f"Wewe uliweka {cents} kwa {name}{many}.")
            elif one.became == "lost":
                yield self.say(
                    f"You also put {cents} on {name}{many}, which did not win.",
                    f"Pia uliweka {cents} kwa {name}{many}, jibu ambalo halikushinda.",
                )
            else:
                yield self.apart(one.became, name, cents)

    def apart(self, became: str, name: str, cents: str) -> str:
        """A stake that took no part in the dividing."""
        closed = self.when(self.found.closed_at)
        return {
            "cancelled": self.say(
                f"Your stake of {cents} on {name} you took back before the close, and had it back then.",
                f"Dau lako la {cents} kwa {name} ulilifuta kabla ya soko kufungwa, na ulirudishiwa wakati huo.",
            ),
            "late": self.say(
                f"Your stake of {cents} on {name} came after the market had closed ({closed}), so it took no part"
                " and goes back to you in full.",
                f"Dau lako la {cents} kwa {name} liliwekwa baada ya soko kufungwa ({closed}), kwa hiyo halikushiriki"
                " na unarudishiwa lote.",
            ),
            "withdrawn": self.say(
                f"Your stake of {cents} on {name} goes back to you in full, since that answer fell away.",
                f"Unarudishiwa dau lako lote la {cents} kwa {name}, kwa sababu jibu hilo liliondolewa.",
            ),
            "refunded": self.say(
                f"Your stake of {cents} on {name} goes back to you in full.",
                f"Unarudishiwa dau lako lote la {cents} kwa {name}.",
            ),
        }[became]

    def refund(self) -> Iterator[str]:
        found = self.found
        if found.void:
            yield self.say(
                "The market was called off, so everybody gets the whole stake back, and no fee is taken.",
                "Soko hili lilifutwa, kwa hiyo kila mtu anarudishiwa dau lake lote bila kutozwa ada.",
            )
        elif any(one.became == "refunded" for one in found.stakes):
            if found.withdrawn and found.gross_cents:
                yield self.say(
                    "After that no contest was left, so everybody gets the whole stake back, and no fee is taken.",
                    "Baada ya hapo hapakubaki ushindani, kwa hiyo kila mtu anarudishiwa dau lake lote"
                    " bila kutozwa ada.",
                )
            else:
                yield self.say(
                    "Nobody had backed the answer that won, so everybody gets the whole stake back, and no fee is"
                    " taken.",
                    "Hakuna aliyeweka dau kwa jibu lililoshinda, kwa hiyo kila mtu anarudishiwa dau lake lote bila"
                    " kutozwa ada.",
                )
        for one in found.stakes:
            if one.became in ("late", "withdrawn", "refunded", "cancelled"):
                yield self.apart(one.became, self.names([one.outcome]), self.kes(one.stake_cents))
        if found.had_cents:
            yield from self.corrected()
            return
        yield self.say(
            f"So {self.kes(found.owed_cents)} goes back to you.", f"Kwa hiyo unarudishiwa {self.kes(found.owed_cents)}."
        )

    def share(self) -> Iterator[str]:
        found, rules = self.found, self.found.rules
        mine = {one.outcome: one.stake_cents for one in found.stakes if one.became == "won"}
        if len(found.dividends) > 1 or found.weights:
            yield self.how_parts_are_made()
        for one in found.dividends:
            if one.outcome in mine:
                yield self.dividend(one)
        terms = " + ".join(
            f"{format_kes(mine[one.outcome])} × {self.part(one)} ÷ {format_kes(one.staked_cents)}"
            for one in found.dividends
            if one.outcome in mine
        )
        exact = Fraction(found.entitlement)
        shown = decimal(exact / 100)
        yield self.say(f"Your share is {terms} = {shown}.", f"Fungu lako ni {terms} = {shown}.")
        unit = int(rules["break_unit_cents"])
        if unit == 1 and exact != found.floored_cents:
            yield self.say(
                f"A part of a cent cannot be paid, so it is rounded down to the cent: {self.kes(found.floored_cents)}.",
                "Sehemu ya senti haiwezi kulipwa, kwa hiyo inapunguzwa hadi senti kamili:"
                f" {self.kes(found.floored_cents)}.",
            )
        elif unit > 1:
            yield self.say(
                f"In this market shares are rounded down to whole {self.kes(unit)}: {self.kes(found.floored_cents)}.",
                f"Katika soko hili mafungu hupunguzwa hadi {self.kes(unit)} kamili: {self.kes(found.floored_cents)}.",
            )
        if rules["rounding"] == "largest":
            got = self.kes(found.extra_cents)
            yield self.say(
                "What rounding leaves is handed out one unit at a time, beginning with whoever lost most by it; "
                + (f"you got {got} of it." if found.extra_cents else "none of it came to you."),
                "Kinachobaki baada ya kupunguza hugawiwa kidogo kidogo, kuanzia kwa aliyepunguziwa zaidi; "
                + (f"wewe ulipata {got}." if found.extra_cents else "wewe hukuongezewa kitu."),
            )
        yield from self.kept_back()
        if found.had_cents:
            yield from self.corrected()
            return
        yield self.say(
            f"So you are owed {self.kes(found.owed_cents)}.",
            f"Kwa hiyo unastahili kulipwa {self.kes(found.owed_cents)}.",
        )

    def kept_back(self) -> Iterator[str]:
        """The duty on winnings."""
        tax = self.found.tax
        if tax is None:
            return
        percent, base, kept = percent_of(tax.rate_bps), self.kes(tax.base_cents), self.kes(tax.kept_cents)
        if tax.base == "profit":
            yield self.say(
                f"Of what you won above your stake, {base}, {percent}% is kept back as tax ({tax.name}): {kept}.",
                f"Kwenye faida uliyopata juu ya dau lako, {base}, asilimia {percent} inakatwa kama kodi"
                f" ({tax.name}): {kept}.",
            )
        else:
            yield self.say(
                f"Of that {percent}% is kept back as tax ({tax.name}): {kept}.",
                f"Asilimia {percent} ya kiasi hicho inakatwa kama kodi ({tax.name}): {kept}.",
            )

    def corrected(self) -> Iterator[str]:
        """A payout of the difference, after another outcome was named."""
        found = self.found
        yield self.say(
            f"The result was corrected after payments had been made: {self.kes(found.had_cents)} of that was yours"
            f" before, and this payment is the rest, {self.kes(found.owed_cents)}.",
            f"Matokeo yalirekebishwa baada ya malipo kufanyika: {self.kes(found.had_cents)} zilikuwa zako tayari,"
            f" na malipo haya ni ya kiasi kilichobaki, {self.kes(found.owed_cents)}.",
        )

    def how_parts_are_made(self) -> str:
        """How several winning answers share what there is."""
        found, rule = self.found, self.found.rules["dead_heat"]
        net, won = self.kes(found.net_cents), self.kes(found.winning_stake_cents)
        if found.weights:
            return self.say(
                f"Each of them gets its part of {net}; the part of an answer that nobody backed goes to the others.",
                f"Kila jibu linapata fungu lake la {net}; fungu la jibu lisilo na madau huenda kwa mengine.",
            )
        if rule == "pool":
            return self.say(
                f"Each winning answer that somebody backed gets an equal part of {net}.",
                f"Kila jibu lililoshinda na lenye madau linapata sehemu sawa ya {net}.",
            )
        if rule == "profit" and found.profit_cents >= 0:
            return self.say(
                f"First all winners get back what they staked, {won} together; the profit that is left,"
                f" {self.kes(found.profit_cents)}, is shared in equal parts, one for each winning answer.",
                f"Kwanza washindi wote wanarudishiwa madau yao, jumla {won}; faida iliyobaki,"
                f" {self.kes(found.profit_cents)}, inagawanywa kwa sehemu sawa, moja kwa kila jibu lililoshinda.",
            )
        return self.say(
            f"All who backed one of them share {net} together, by what they staked.",
            f"Wote walioweka madau kwa majibu hayo wanagawana {net} kwa pamoja, kulingana na madau yao.",
        )

    def part(self, one: DividendFact) -> str:
        """What all who backed one answer share, in shillings."""
        return decimal(Fraction(one.part_cents) / 100)

    def dividend(self, one: DividendFact) -> str:
        name, each = self.names([one.outcome]), decimal(Fraction(one.dividend))
        part, staked = self.part(one), self.kes(one.staked_cents)
        return self.say(
            f"Those who backed {name} had put {staked} on it together, and share {self.say('KES', 'KSh')} {part}:"
            f" each shilling brings {each}.",
            f"Walioweka madau kwa {name} waliweka jumla ya {staked}, na wanagawana KSh {part}:"
            f" kila shilingi moja inaleta {each}.",
        )

    def carried(self) -> Iterator[str]:
        found = self.found
        if not found.wire_cents:
            if found.status == "WALLET" and not found.sends:
                yield self.say(
                    f"M-Pesa does not carry so little, so all of it, {self.kes(found.amount_cents)}, is in your"
                    " wallet.",
                    f"M-PESA haitumi kiasi kidogo hivyo, kwa hiyo {self.kes(found.amount_cents)} zote ziko kwenye"
                    " pochi yako.",
                )
            return
        if len(found.legs) > 1:
            yield self.say(
                f"M-Pesa carries only so much in one payment, so it comes in {len(found.legs)} payments; this is"
                f" number {found.leg}, of {self.kes(found.amount_cents)}.",
                f"M-PESA ina kikomo kwa kila muamala, kwa hiyo pesa zinatumwa kwa miamala {len(found.legs)};"
                f" huu ni muamala wa {found.leg}, wa {self.kes(found.amount_cents)}.",
            )
        if found.withheld is not None and found.status != "WALLET":
            tax = found.withheld
            percent, kept = percent_of(tax.rate_bps), self.kes(tax.kept_cents)
            yield self.say(
                f"Of what is sent to a phone {percent}% is kept back as tax ({tax.name}), here {kept} of"
                f" {self.kes(tax.base_cents)}: {self.kes(found.wire_cents)} goes to your phone.",
                f"Kwa pesa zinazotumwa kwenye simu, asilimia {percent} inakatwa kama kodi ({tax.name}), hapa"
                f" {kept} ya {self.kes(tax.base_cents)}: {self.kes(found.wire_cents)} zinatumwa kwenye simu yako.",
            )
            if found.stays_cents:
                yield self.say(
                    f"{self.kes(found.stays_cents)} stays in your wallet, as yours.",
                    f"{self.kes(found.stays_cents)} zinabaki kwenye pochi yako, na ni zako.",
                )
        elif found.stays_cents and found.status != "WALLET":
            yield self.say(
                f"M-Pesa carries whole shillings only: {self.kes(found.wire_cents)} goes to your phone, and"
                f" {self.kes(found.stays_cents)} stays in your wallet, as yours.",
                f"M-PESA hutuma shilingi kamili pekee: {self.kes(found.wire_cents)} zinatumwa kwenye simu yako, na"
                f" {self.kes(found.stays_cents)} zinabaki kwenye pochi yako, na ni zako.",
            )

    def sent(self) -> Iterator[str]:
        for number, one in enumerate(self.found.sends, start=1):
            last = number == len(self.found.sends)
            yield self.one_send(one, number)
            if not last and one.status in ("FAILED", "REJECTED"):
                yield self.say("That did not work, and no money moved.", "Haikufaulu, na hakuna pesa zilizotoka.")
        yield self.standing()

    def one_send(self, one: SendFact, number: int) -> str:
        amount, when = self.kes(one.wire_cents), self.when(one.at)
        return self.say(
            f"We asked M-Pesa{' again' if number > 1 else ''} to send {amount} to {one.phone} on {when}.",
            f"Tuliiomba M-PESA{' tena' if number > 1 else ''} itume {amount} kwa {one.phone} {when}.",
        )

    def standing(self) -> str:
        """How it stands now."""
        found = self.found
        last = found.sends[-1] if found.sends else None
        match found.status:
            case "COMPLETED" if last is not None and last.ended_at is not None:
                return self.say(
                    f"It arrived on {self.when(last.ended_at)}; M-Pesa's receipt is {last.receipt}.",
                    f"Pesa zilifika {self.when(last.ended_at)}; nambari ya risiti ya M-PESA ni {last.receipt}.",
                )
            case "WALLET" if found.wire_cents:
                return self.say(
                    f"All of it, {self.kes(found.amount_cents)}, was put into your wallet instead of your phone.",
                    f"{self.kes(found.amount_cents)} zote ziliwekwa kwenye pochi yako badala ya kutumwa kwenye simu.",
                )
            case "PENDING":
                later = found.not_before
                return self.say(
                    "It is waiting to be sent" + (f"; not before {self.when(later)}." if later else "."),
                    "Inasubiri kutumwa" + (f"; haitatumwa kabla ya {self.when(later)}." if later else "."),
                )
            case "FAILED":
                return self.failed()
        return self.say(*_STANDING.get(found.status, ("", "")))

    def failed(self) -> str:
        """Whose matter the failure is; what is wrong on our own side is not the bettor's."""
        told = {
            "number": self.say(
                "It did not arrive, and no money moved: M-Pesa cannot pay to this number. Please give us another one"
                " that is registered with M-Pesa.",
                "Pesa hazikufika, na hakuna pesa zilizotoka: M-PESA haiwezi kutuma pesa kwa nambari hii. Tafadhali"
                " tupe nambari nyingine iliyosajiliwa kwa M-PESA.",
            ),
            "limit": self.say(
                "It did not arrive, and no money moved: your M-Pesa account has reached a limit. We can send it again"
                " later.",
                "Pesa hazikufika, na hakuna pesa zilizotoka: akaunti yako ya M-PESA imefikia kikomo. Tunaweza"
                " kuzituma tena baadaye.",
            ),
            "busy": self.say(
                "It did not arrive, and no money moved: M-Pesa was busy. We can send it again.",
                "Pesa hazikufika, na hakuna pesa zilizotoka: M-PESA ilikuwa na shughuli nyingi. Tunaweza"
                " kuzituma tena.",
            ),
            "ours": self.say(
                "It did not arrive, and no money moved. The cause is on our side; we will mend it and see that you are"
                " paid.",
                "Pesa hazikufika, na hakuna pesa zilizotoka. Tatizo liko upande wetu; tutalirekebisha na kuhakikisha"
                " umelipwa.",
            ),
        }
        return told[self.found.at_fault or "ours"]


# --- Numbers and times ----------------------------------------------------------------------------


def decimal(value: Fraction) -> str:
    """A fraction in decimals, exactly where that is possible within six places, else cut off with dots.

    At least two places, since it is shillings.
    """
    scaled, rest = divmod(value.numerator * 10**PLACES, value.denominator)
    whole, part = divmod(scaled, 10**PLACES)
    digits = f"{part:0{PLACES}d}"
    return f"{whole:,}.{digits}…" if rest else f"{whole:,}.{digits[:2]}{digits[2:].rstrip('0')}"


def percent_of(bps: int) -> str:
    """`5` or `2.5`, of basis points."""
    return f"{bps // 100}.{bps % 100:02d}".rstrip("0").rstrip(".")


def times_of(bps: int) -> str:
    """`1.05`, of basis points."""
    return f"{bps // 10_000}.{bps % 10_000:04d}".rstrip("0").ljust(4, "0")


def english_time(moment: datetime) -> str:
    """`24 November 2026 at 15:04 Nairobi time`."""
    local = moment.astimezone(NAIROBI)
    return f"{local.day} {_MONTHS_EN[local.month - 1]} {local.year} at {local:%H:%M} Nairobi time"


def swahili_time(moment: datetime) -> str:
    """`tarehe 24 Novemba 2026, saa tisa na dakika nne alasiri (15:04)`: the hours are counted from six."""
    local = moment.astimezone(NAIROBI)
    hour = _HOURS_SW[(local.hour - 6) % 12 - 1]
    minutes = {0: "kamili", 15: "na robo", 30: "na nusu"}.get(local.minute, f"na dakika {local.minute}")
    part = next(name for until, name in _PARTS_SW if local.hour < until)
    month = _MONTHS_SW[local.month - 1]
    return f"tarehe {local.day} {month} {local.year}, saa {hour} {minutes} {part} ({local:%H:%M})"


_MONTHS_EN = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MONTHS_SW = (
    *("Januari", "Februari", "Machi", "Aprili", "Mei", "Juni"),
    *("Julai", "Agosti", "Septemba", "Oktoba", "Novemba", "Desemba"),
)
#: Seven in the morning is saa moja; six is saa kumi na mbili.
_HOURS_SW = (
    *("moja", "mbili", "tatu", "nne", "tano", "sita", "saba"),
    *("nane", "tisa", "kumi", "kumi na moja", "kumi na mbili"),
)
_PARTS_SW = (
    (4, "usiku"),
    (6, "alfajiri"),
    (12, "asubuhi"),
    (15, "mchana"),
    (17, "alasiri"),
    (19, "jioni"),
    (24, "usiku"),
)
