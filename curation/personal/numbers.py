"""Numbers of people: phones, identity cards and bank cards, told from orders, amounts and dates by shape and checksum.

A text is read as runs of digit groups with small gaps between. A stretch of a run is a number of some kind if its
digits, the sizes of its groups and what stands around it fit a rule of that kind.

Sources: GB 11643 (identity cards), ISO/IEC 7812 (Luhn), the numbering plans of China and North America, ITU-T E.164.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from itertools import pairwise

from curation.personal.finding import Finding
from curation.personal.folded import HAN_DIGITS, spoken

GROUP = re.compile(r"\d+")
GAPS = {
    "-": re.compile(r"[-.·_]"),
    " ": re.compile(r" {1,2}| - "),
    ")": re.compile(r"[- ]?\([- ]?|\)[- ]?"),
    ",": re.compile(r" ?(?:[,，、。…]|\.\.){1,3} ?|[,，、。… ]{0,2}(?:嗯|呃|啊|然后|再|接着|后面)[,，、。… ]{0,2}"),
}
"""Classes of what may stand between groups: `-` binds tightly, `,` is a pause in speech."""
CONTEXT_CHARS = 16
CLAUSE = re.compile(r"[，,。；;！!？?\n]")
CALLED = re.compile(
    r"电话|手机|座机|固话|固定|联系|致电|拨|打给|传真|\b(?:tel|phone|mobile|cell|call|text|contact|reach|fax|whatsapp)\b",
    re.IGNORECASE,
)
CALLED_JUST_NOW = re.compile(
    r"(?:电话|手机号?|座机|固话|联系方式|(?<!单)号码|tel|phone|mobile|cell|number|call|text|dial|me|at)[号码是为：:吧 就]*(?:is|at|me|on)?[：: ]*$",
    re.IGNORECASE,
)
COUNTED = re.compile(
    r"单号|订单|交易|凭证|包裹|编号|参考号|序号|版本|流水|序列号|串号|货号|条码|条形码|型号|工单|批号|发票|税号|追踪|快递号|物流号|合同|保单|验证码|取件码|密码|"
    r"一共|共计|合计|总额|总价|余额|金额|时间戳|[¥$€£￥#]|会员|积分|"
    r"\b(?:order|tracking|invoice|serial|reference|ref|sku|item|ticket|confirmation|case|imei|isbn|timestamp|qq|account)\b",
    re.IGNORECASE,
)
"""What numbers of other kinds are introduced by."""
IDENTIFIED = re.compile(r"身份证|证件|\bid\b|identity", re.IGNORECASE)
PAID_WITH = re.compile(
    r"银行卡|储蓄卡|信用卡|借记卡|(?<!会员)卡号|账号|账户|帐号|visa|master ?card|amex|\b(?:card|account)", re.IGNORECASE
)
UNIT = re.compile(
    r" ?(?:元|块|万|亿|千|美|港币|日元|欧元|人民币|积分|个|次|件|字节|[KMGT]B\b|bytes|秒|毫秒|米|公里|克|吨|%|℃|度|倍|年|股|rmb|usd|yuan|dollars|points)",
    re.IGNORECASE,
)
INTRODUCED_BY = (re.compile(r"(?:\(?\+)?$"), re.compile(r"(?:\(?\+?\(?)$"))
"""What belongs to a phone number before its first digit: without and with a closing bracket in it."""
GLUED_BEFORE = re.compile(r"[A-Za-z_]+$")
GLUED_AFTER = re.compile(r"[_@](?=[A-Za-z0-9])")
INTRODUCING = frozenset(
    {
        "tel",
        "phone",
        "mobile",
        "cell",
        "call",
        "wx",
        "vx",
        "v",
        "wechat",
        "id",
        "card",
        "visa",
        "mastercard",
        "amex",
        "no",
        "m",
        "t",
    }
)
AREA = re.compile(r"0(?:10|2\d|[3-9]\d\d)")
MOBILE_SIZES = frozenset(
    [(11,), (3, 4, 4), (4, 3, 4), (3, 8), (7, 4), (5, 6), (3, 3, 5), (3, 4, 2, 2), (3, 2, 2, 2, 2), (1,) * 11]
)
PROVINCES = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")
NATIONAL_SIZES: dict[str, tuple[tuple[int, ...], ...]] = {
    "09": ((4, 3, 3), (4, 6)),
    "07": ((5, 6), (5, 3, 3)),
    "02": ((3, 4, 4),),
}
"""Numbers of Taiwan and Britain as they are written at home, by their beginning."""
ISSUERS = re.compile(
    r"62\d{14,17}|4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)\d{12,13}|3[47]\d{13}|6(?:011|5)\d{12,13}"
    r"|35(?:2[89]|[3-8])\d{12,13}|9[0-9]{15,18}|6[0378]\d{14,17}|81\d{14,17}"
)
LIKELY_ISSUERS = re.compile(r"[3-69]\d{12,18}")
ENDS_IN_X = re.compile(r"[xX](?![A-Za-z0-9])")
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
MIN_SPOKEN = 7
"""Chinese numerals from which on a run of them is read as a number."""


@dataclass(frozen=True)
class Stretch:
    """Neighbouring digit groups and what stands around them."""

    text: str
    start: int
    end: int
    groups: tuple[str, ...]
    gaps: str
    """The class of each gap between the groups."""

    @cached_property
    def digits(self) -> str:
        """All digits."""
        return "".join(self.groups)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """Digits in each group."""
        return tuple(map(len, self.groups))

    @cached_property
    def clause(self) -> str:
        """What was said just before, in the same clause."""
        before = self.text[max(0, self.start - CONTEXT_CHARS) : self.start]
        return CLAUSE.split(before.rstrip("(+ "))[-1]

    @cached_property
    def has_plus(self) -> bool:
        """Whether it is written as an international number."""
        return self.text[: self.start].rstrip("(").endswith("+")

    @cached_property
    def counts_something(self) -> bool:
        """Whether it is introduced as another kind of number, or is an amount of something."""
        amount = len(self.groups) == 1 and not self.has_plus and UNIT.match(self.text, self.end)
        return bool(amount or COUNTED.search(self.clause))

    def without(self, num_digits: int) -> "Stretch":
        """Less the first digits; the first group must have that many, or be them."""
        first = self.groups[0][num_digits:]
        groups, gaps = ((first, *self.groups[1:]), self.gaps) if first else (self.groups[1:], self.gaps[1:])
        return Stretch(self.text, self.start, self.end, groups, gaps)


def find_numbers(text: str) -> Iterator[Finding]:
    """Phones, identity cards and bank cards of a folded text."""
    yield from _find(text)
    if sum(map(text.count, HAN_DIGITS)) >= MIN_SPOKEN:
        numerals = frozenset(HAN_DIGITS)
        for found in _find(spoken(text)):
            if len(numerals.intersection(text[found.start : found.end])) > 1:
                yield found


def _find(text: str) -> Iterator[Finding]:
    matches = list(GROUP.finditer(text))
    gaps = [_gap(text[a.end() : b.start()]) for a, b in pairwise(matches)]
    first = 0
    while first < len(matches):
        last = first
        while last < len(gaps) and gaps[last] and last - first < 18:
            last += 1
        for end in range(last, first - 1, -1):
            if (found := _classified(text, matches, gaps, first, end)) is not None:
                yield found
                first = end
                break
        first += 1


def _gap(between: str) -> str:
    return next((kind for kind, pattern in GAPS.items() if pattern.fullmatch(between)), "")


def _classified(text: str, matches: list[re.Match[str]], gaps: list[str], first: int, last: int) -> Finding | None:
    """The number that the groups from `first` to `last` make, all of them."""
    groups = tuple(match.group() for match in matches[first : last + 1])
    if not 7 <= sum(map(len, groups)) <= 25:
        return None
    bound = (first > 0 and gaps[first - 1] == "-") or (last < len(gaps) and gaps[last] == "-")
    start, end = matches[first].start(), matches[last].end()
    stretch = Stretch(text, start, end, groups, "".join(gaps[first:last]))
    if bound or not _stands_alone(stretch):
        return None
    if ENDS_IN_X.match(text, end):
        with_x = Stretch(text, start, end + 1, (*groups[:-1], groups[-1] + "X"), stretch.gaps)
        if _is_identity_card(with_x):
            return Finding(start, end + 1, "identity_card", with_x.digits)
    for kind, rules in RULES.items():
        if any(rule(stretch) for rule in rules):
            if kind == "phone":
                start -= len(INTRODUCED_BY[")" in text[start:end]].search(text[:start])[0])  # type: ignore[index]
            return Finding(start, end, kind, _canonical(kind, stretch))
    return None


def _stands_alone(stretch: Stretch) -> bool:
    """Whether no letters are glued to it but words that introduce numbers."""
    before = GLUED_BEFORE.search(stretch.text[max(0, stretch.start - CONTEXT_CHARS) : stretch.start])
    after = stretch.text[stretch.end : stretch.end + 2]
    glued = after[:1].isascii() and (after[:1].isalpha() or GLUED_AFTER.match(after)) and after[:1] not in "xX"
    decimal = after[:1] == "." and after[1:].isdigit()
    return not glued and not decimal and (before is None or before.group().lower() in INTRODUCING)


def _canonical(kind: str, stretch: Stretch) -> str:
    digits = stretch.digits
    return re.sub(r"^(?:00)?86(?=1\d{10}$)", "", digits) if kind == "phone" else digits


def _is_mobile(stretch: Stretch) -> bool:
    """A mobile number of mainland China, with or without the country's code."""
    for prefix in ("0086", "86"):
        if stretch.digits.startswith(prefix) and len(stretch.digits) >= 11 + len(prefix):
            if len(stretch.groups[0]) not in (len(prefix), len(prefix) + 3, len(prefix) + 11):
                return False
            stretch = stretch.without(len(prefix))
            break
    if stretch.sizes[:1] == (11,) and stretch.gaps == "-" and stretch.sizes[1] <= 6:  # an extension
        stretch = Stretch(stretch.text, stretch.start, stretch.end, stretch.groups[:1], "")
    fits = stretch.sizes in MOBILE_SIZES or (stretch.sizes == (4, 4, 3) and "-" not in stretch.gaps)
    return fits and re.match(r"1[3-9]", stretch.digits) is not None and not _counted(stretch, CALLED)


def _is_landline(stretch: Stretch) -> bool:
    """A landline with its area code, perhaps with an extension."""
    area = AREA.match(stretch.digits)
    if area is None or "," in stretch.gaps or _counted(stretch, CALLED):
        return False
    code = len(area.group())
    if len(stretch.groups) == 1:
        rest = stretch.digits[code:]
        return len(rest) in ((8,) if code == 3 else (7, 8)) and rest[0] in "2345678"
    sizes = stretch.sizes
    if sizes[0] != code:
        return False
    if len(sizes) > 2 and sizes[-1] <= 6 and stretch.gaps[-1] == "-" and sum(sizes[1:-1]) in (7, 8):
        sizes = sizes[:-1]
    return sum(sizes[1:]) in (7, 8) and len(sizes) <= 4 and min(sizes[1:]) >= 2


def _is_service_line(stretch: Stretch) -> bool:
    """400 and 800 numbers."""
    fits = (
        len(stretch.digits) == 10 and re.match(r"[48]00[1-9]", stretch.digits) and stretch.sizes[0] in (3, 4, 6, 7, 10)
    )
    return bool(fits) and len(stretch.groups) <= 4 and "," not in stretch.gaps and not _counted(stretch, CALLED)


def _is_north_american(stretch: Stretch) -> bool:
    """Area code, exchange and line apart; in one piece where a phone is spoken of."""
    if stretch.digits.startswith("1") and len(stretch.digits) == 11 and stretch.sizes[0] == 1:
        stretch = stretch.without(1)
    if len(stretch.digits) != 10 or stretch.digits[0] not in "23456789" or _counted(stretch, CALLED):
        return False
    if stretch.sizes == (3, 3, 4):
        return "," not in stretch.gaps and (stretch.gaps != "  " or stretch.digits[3] in "23456789")
    return stretch.sizes == (10,) and CALLED_JUST_NOW.search(stretch.clause) is not None


def _is_international(stretch: Stretch) -> bool:
    """With a plus and the country's code; or one that is known without."""
    if "," in stretch.gaps:
        return False
    if stretch.has_plus:
        glued = re.search(r"\w\(?\+\(?$", stretch.text[: stretch.start], re.ASCII)
        return 8 <= len(stretch.digits) <= 15 and stretch.digits[0] != "0" and not glued
    if re.match(r"00[1-9]", stretch.digits) and len(stretch.groups) > 2:
        begins = not stretch.text[: stretch.start].rstrip(" -")[-1:].isdigit()
        return (
            begins
            and 10 <= len(stretch.digits) <= 17
            and stretch.sizes[0] in (3, 4, 5)
            and not _counted(stretch, CALLED)
        )
    return stretch.sizes in NATIONAL_SIZES.get(stretch.digits[:2], ()) and not _counted(stretch, CALLED)


def _is_local(stretch: Stretch) -> bool:
    """Seven or eight digits right after the word phone."""
    fits = stretch.sizes in ((7,), (8,), (4, 4), (3, 4), (3, 5)) and stretch.digits[0] in "23456789"
    return fits and CALLED_JUST_NOW.search(stretch.clause) is not None and not stretch.counts_something


def _counted(stretch: Stretch, unless: re.Pattern[str]) -> bool:
    return stretch.counts_something and not unless.search(stretch.clause)


def _is_identity_card(stretch: Stretch) -> bool:
    """18 digits with a birthday and a checksum, or 15 with a birthday."""
    digits = stretch.digits
    if len(digits) not in (15, 18) or PROVINCES.match(digits) is None or _counted(stretch, IDENTIFIED):
        return False
    if len(stretch.groups) > 1 and min(stretch.sizes[:-1]) < 3 and set(stretch.sizes) != {1}:
        return False
    if len(digits) == 15:
        return len(stretch.groups) <= 3 and _is_date("19" + digits[6:12])
    total = sum(int(digit) * weight for digit, weight in zip(digits, WEIGHTS, strict=False))
    return digits[6:8] in ("18", "19", "20") and _is_date(digits[6:14]) and digits[17] == "10X98765432"[total % 11]


def _is_date(digits: str) -> bool:
    try:
        date(int(digits[:4]), int(digits[4:6]), int(digits[6:]))
    except ValueError:
        return False
    return True


def _is_bank_card(stretch: Stretch) -> bool:
    """A number that passes Luhn's check and begins as an issuer's; more lengths where a card is spoken of."""
    digits = stretch.digits
    if len(stretch.groups) > 1 and min(stretch.sizes[:-1]) < 3 and set(stretch.sizes) != {1}:
        return False
    said = PAID_WITH.search(stretch.clause) is not None
    plausible = ISSUERS.fullmatch(digits) or (said and LIKELY_ISSUERS.fullmatch(digits))
    return bool(plausible) and _passes_luhn(digits) and not _counted(stretch, PAID_WITH)


def _passes_luhn(digits: str) -> bool:
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[::-2]))) % 10 == 0


RULES: dict[str, tuple[Callable[[Stretch], bool], ...]] = {
    "identity_card": (_is_identity_card,),
    "bank_card": (_is_bank_card,),
    "phone": (_is_mobile, _is_landline, _is_service_line, _is_north_american, _is_international, _is_local),
}
