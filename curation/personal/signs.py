"""Signs of personal data, found natively: a text without any holds none of what the rules look for."""

import polars as pl

from curation.personal.folded import DASHES, HAN_DIGITS

NUMERAL = rf"[\d{HAN_DIGITS}]"
LETTER = r"[A-Za-zＡ-Ｚａ-ｚ]"
SIGNS = [
    rf"{NUMERAL}(?:[^\d\n]{{0,7}}{NUMERAL}){{6}}",
    r"[@＠]|艾特|圈a",
    r"(?i)(?: at |\(at\)|\[at\])",
    r"\d[.．]\d{1,3}[.．]\d{1,3}[.．]\d",
    r"[:：][0-9A-Fa-f０-９]{0,4}[:：]",
    rf"[京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼]\s?{LETTER}\s?[·•.．\-{DASHES}－]?\s?[A-Za-z\dＡ-Ｚａ-ｚ{HAN_DIGITS}]",
    r"使\s?\d{6}|\d{6}使",
    r"(?i)plate|passport|护照",
    r"[\d零〇两一二三四五六七八九十百东西南北A-Za-zＡ-Ｚａ-ｚ]\s?[号弄栋幢座室塔单组队社#＃]",
    r"(?i) (?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|place|pl|way|terrace|ter|circle|cir|parkway|pkwy|highway|hwy|square|sq|trail|crescent|close)",
    r"(?i)o\.? ?box ",
]
"""Each a necessary condition of some rules, as an expression for Rust's engine."""


def may_hold(texts: pl.Series) -> pl.Series:
    """Which texts may hold personal data."""
    found = pl.Series([False]).new_from_index(0, len(texts))
    for sign in SIGNS:  # one after another: together they make an automaton that does not fit its cache
        found |= texts.str.contains(sign)
    return found
