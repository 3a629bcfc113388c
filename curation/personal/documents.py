"""Vehicle plates and passports. Sources: GA 36-2018 (plates of China), the form of Chinese passports."""

import re
from collections.abc import Iterator

from curation.personal.finding import Finding
from curation.personal.folded import spoken

PROVINCES = "京津沪渝冀豫云辽黑湘皖鲁新苏浙赣鄂桂甘晋蒙陕吉闽贵粤青藏川宁琼"
PLATE = re.compile(
    rf"(?<![最全更重创崭])(?P<region>[{PROVINCES}]) ?[A-HJ-NP-Z](?P<serial> ?[·•.-]? ?(?:[A-HJ-NP-Z0-9]{{5,6}}|[A-HJ-NP-Z] [0-9]{{5}}|[A-HJ-NP-Z0-9]{{4}}[挂学警港澳]))(?![A-Za-z0-9])",
    re.IGNORECASE,
)
EMBASSY = re.compile(r"(?<![\w])使 ?\d{6}(?!\d)|(?<!\d)\d{6}使(?!用|得)")
ENGLISH_PLATE = re.compile(
    r"\b(?:licen[cs]e )?plate(?: number| no\.?| #)?(?: is|:|,)? (?:is )?(?P<plate>(?=[A-Za-z-]*\d)[A-Z0-9]{1,4}[ -]?[A-Z0-9]{2,5})(?![A-Za-z0-9])"
)
MIN_DIGITS = 3
"""At most two of a serial's characters are letters; a new-energy plate has two at most as well."""
PASSPORT = re.compile(
    r"(?:护照号?码?|passport(?: number| no\.?)?)(?:是|为|：|:| is|#)* ?(?P<number>[EGDSPHMK][A-Z]?\d{7,8}|\d{9})(?![A-Za-z0-9])",
    re.IGNORECASE,
)


def find_documents(text: str) -> Iterator[Finding]:
    """Plates and passports of a folded text."""
    for match in PLATE.finditer(spoken(text)):
        serial = match.group("serial")
        if sum(map(str.isdigit, serial)) >= MIN_DIGITS:
            yield Finding(*match.span(), "vehicle_plate", re.sub(r"[ ·•.-]", "", match.group()).upper())
    for match in EMBASSY.finditer(text):
        yield Finding(*match.span(), "vehicle_plate", match.group().replace(" ", ""))
    for match in ENGLISH_PLATE.finditer(text):
        yield Finding(*match.span("plate"), "vehicle_plate", re.sub(r"[ -]", "", match.group("plate")))
    for match in PASSPORT.finditer(text):
        yield Finding(*match.span("number"), "passport", match.group("number").upper())
