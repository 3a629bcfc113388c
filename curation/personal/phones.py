"""Which stretches are phone numbers. Sources: the numbering plans of China and North America, ITU-T E.164."""

import re

from curation.personal.stretches import Stretch

CALLED = re.compile(
    r"电话|手机|座机|固话|固定|联系|致电|拨|打给|传真|\b(?:tel|phone|mobile|cell|call|text|contact|reach|fax|whatsapp)\b",
    re.IGNORECASE,
)
CALLED_JUST_NOW = re.compile(
    r"(?:电话|手机号?|座机|固话|联系方式|(?<!单)号码|tel|phone|mobile|cell|number|call|text|dial|me|at)[号码是为：:吧 就]*(?:is|at|me|on)?[：: ]*$",
    re.IGNORECASE,
)
AREA = re.compile(r"0(?:10|2\d|[3-9]\d\d)")
MOBILE_SIZES = frozenset(
    [(11,), (3, 4, 4), (4, 3, 4), (3, 8), (7, 4), (5, 6), (3, 3, 5), (3, 4, 2, 2), (3, 2, 2, 2, 2), (1,) * 11]
)
NATIONAL_SIZES: dict[str, tuple[tuple[int, ...], ...]] = {
    "09": ((4, 3, 3), (4, 6)),
    "07": ((5, 6), (5, 3, 3)),
    "02": ((3, 4, 4),),
}
"""Numbers of Taiwan and Britain as they are written at home, by their beginning."""


def is_phone(stretch: Stretch) -> bool:
    """Whether it is a phone number of any sort."""
    return any(rule(stretch) for rule in RULES)


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
    return fits and re.match(r"1[3-9]", stretch.digits) is not None and not stretch.is_counted(CALLED)


def _is_landline(stretch: Stretch) -> bool:
    """A landline with its area code, perhaps with an extension."""
    area = AREA.match(stretch.digits)
    if area is None or "," in stretch.gaps or stretch.is_counted(CALLED):
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
    return bool(fits) and len(stretch.groups) <= 4 and "," not in stretch.gaps and not stretch.is_counted(CALLED)


def _is_north_american(stretch: Stretch) -> bool:
    """Area code, exchange and line apart; in one piece where a phone is spoken of."""
    if stretch.digits.startswith("1") and len(stretch.digits) == 11 and stretch.sizes[0] == 1:
        stretch = stretch.without(1)
    if len(stretch.digits) != 10 or stretch.digits[0] not in "23456789" or stretch.is_counted(CALLED):
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
            and not stretch.is_counted(CALLED)
        )
    return stretch.sizes in NATIONAL_SIZES.get(stretch.digits[:2], ()) and not stretch.is_counted(CALLED)


def _is_local(stretch: Stretch) -> bool:
    """Seven or eight digits right after the word phone."""
    fits = stretch.sizes in ((7,), (8,), (4, 4), (3, 4), (3, 5)) and stretch.digits[0] in "23456789"
    return fits and CALLED_JUST_NOW.search(stretch.clause) is not None and not stretch.counts_something


RULES = (_is_mobile, _is_landline, _is_service_line, _is_north_american, _is_international, _is_local)
