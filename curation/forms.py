"""Numbers, web and e-mail addresses and IP addresses, found by their form."""

import re
from collections.abc import Iterator
from typing import Literal

from curation.folding import Folding
from curation.symbols import decoded
from curation.text_blocks import Block

Form = Literal["number", "url", "email", "ipv4"]
TOP_LEVEL = (
    "com|cn|net|org|edu|gov|info|biz|xyz|top|vip|shop|club|site|online|app|dev|io|co|cc|me|tv|ai|uk|de|jp|kr|hk|tw"
)
OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
ADDRESSES = {
    "url": re.compile(
        r"(?:(?<![a-z])(?:https?|ftp)://|(?<![\w.@-])www\.)[!-;=?-~]+(?<![.,;:!?)\]'])"
        rf"|(?<![\w.@-])(?:[a-z0-9-]{{1,63}}\.){{1,8}}(?:{TOP_LEVEL})(?![\w@-]|\.\w)(?:/[!-;=?-~]*(?<![.,;:!?)\]']))?",
        re.IGNORECASE | re.ASCII,
    ),
    "email": re.compile(
        r"(?<![\w.%+-])[\w.%+-]{1,64}@(?:[a-z0-9-]{1,63}\.){1,8}[a-z]{2,24}(?![\w-])", re.IGNORECASE | re.ASCII
    ),
    "ipv4": re.compile(rf"(?<![\d.])(?:{OCTET}\.){{3}}{OCTET}(?!\.?\d)", re.ASCII),
}  # fmt: skip
FULL_WIDTH = {
    code: code - 0xFEE0
    for first, last in ("．．", "－－", "＠＠", "＿＿", "０９", "ＡＺ", "ａｚ")
    for code in range(ord(first), ord(last) + 1)
}
"""Characters that addresses are made of; not ，and ：, which end one in Chinese text."""


class Forms:
    """What is looked for, and in which spellings."""

    def __init__(self, kinds: tuple[Form, ...], folding: Folding, *, ignore_width: bool, number_length: int) -> None:
        self.kinds = tuple(dict.fromkeys(kinds))
        self._folding = folding
        self._narrowed = FULL_WIDTH if ignore_width else {}
        self._number = re.compile(rf"\d{{{number_length},}}", re.ASCII)

    def find(self, block: Block) -> Iterator[tuple[int, int, int]]:
        """Start and end of each form in a block of texts, and which of `kinds` it is; none spans a line break."""
        for index, kind in enumerate(self.kinds):
            if kind == "number":
                codes, places = self._folding.symbols(block.points)
                spans = (match.span() for match in self._number.finditer(decoded(codes)))
                yield from ((int(places[start]), int(places[end - 1]) + 1, index) for start, end in spans)
            else:
                text = block.text.translate(self._narrowed)
                yield from ((*match.span(), index) for match in ADDRESSES[kind].finditer(text))
