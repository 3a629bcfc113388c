"""Which stretches are numbers of identity or bank cards. Sources: GB 11643 (identity), ISO/IEC 7812 (Luhn, issuers)."""

import re
from datetime import date

from curation.personal.stretches import Stretch

IDENTIFIED = re.compile(r"身份证|证件|\bid\b|identity", re.IGNORECASE)
PAID_WITH = re.compile(
    r"银行卡|储蓄卡|信用卡|借记卡|(?<!会员)卡号|账号|账户|帐号|visa|master ?card|amex|\b(?:card|account)", re.IGNORECASE
)
PROVINCES = re.compile(r"1[1-5]|2[1-3]|3[1-7]|4[1-6]|5[0-4]|6[1-5]|71|8[1-3]")
ISSUERS = re.compile(
    r"62\d{14,17}|4\d{15}|5[1-5]\d{14}|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)\d{12,13}|3[47]\d{13}|6(?:011|5)\d{12,13}"
    r"|35(?:2[89]|[3-8])\d{12,13}|9[0-9]{15,18}|6[0378]\d{14,17}|81\d{14,17}"
)
LIKELY_ISSUERS = re.compile(r"[3-69]\d{12,18}")
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)


def is_identity_card(stretch: Stretch) -> bool:
    """18 digits with a birthday and a checksum, or 15 with a birthday."""
    digits = stretch.digits
    if len(digits) not in (15, 18) or PROVINCES.match(digits) is None or stretch.is_counted(IDENTIFIED):
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


def is_bank_card(stretch: Stretch) -> bool:
    """A number that passes Luhn's check and begins as an issuer's; more lengths where a card is spoken of."""
    digits = stretch.digits
    if len(stretch.groups) > 1 and min(stretch.sizes[:-1]) < 3 and set(stretch.sizes) != {1}:
        return False
    said = PAID_WITH.search(stretch.clause) is not None
    plausible = ISSUERS.fullmatch(digits) or (said and LIKELY_ISSUERS.fullmatch(digits))
    return bool(plausible) and _passes_luhn(digits) and not stretch.is_counted(PAID_WITH)


def _passes_luhn(digits: str) -> bool:
    doubled = [sum(divmod(2 * int(digit), 10)) for digit in digits[-2::-2]]
    return (sum(doubled) + sum(map(int, digits[::-2]))) % 10 == 0
