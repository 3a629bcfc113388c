"""Characters and their spellings: one for all widths, styles and cases, and for traditional and simplified Chinese."""

import sys
import unicodedata
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from opencc import OpenCC

HAN_DIGITS = dict(zip("零〇一二三四五六七八九壹贰叁肆伍陆柒捌玖两", "001234567891234567892", strict=True))


class Spellings(Protocol):
    """Which spellings of a character are one."""

    @property
    def ignore_case(self) -> bool: ...
    @property
    def ignore_width(self) -> bool: ...
    @property
    def ignore_traditional(self) -> bool: ...
    @property
    def ignore_digit_style(self) -> bool: ...
    @property
    def ignore_letter_style(self) -> bool: ...


class Folding(dict[int, str]):
    """A translation table, filled as characters turn up, that maps each to one that stands for all its spellings."""

    def __init__(self, options: Spellings) -> None:
        super().__init__()
        self._options = options
        self._table = np.zeros(sys.maxunicode + 1, dtype=np.uint32)

    def fold(self, points: npt.NDArray[np.uint32]) -> str:
        """What `str.translate` makes of a text given as code points; several times as fast for a long one."""
        folded = self._table[points]
        unknown = np.unique(points[folded == 0]).tolist()
        for code in unknown:
            self._table[code] = ord(self[code])
        return str((self._table[points] if unknown else folded).tobytes(), "utf-32-le")

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = self._folded(character)
        self[code] = folded
        return folded

    def _folded(self, character: str) -> str:
        options = self._options
        kind = unicodedata.decomposition(character).partition(" ")[0]
        plain = "".join(c for c in unicodedata.normalize("NFKC", character) if c.isalnum())
        if len(plain) == 1:
            styled = (plain.isdigit() and options.ignore_digit_style) or (
                plain.isalpha() and options.ignore_letter_style
            )
            if (kind in ("<wide>", "<narrow>") and options.ignore_width) or (
                kind not in ("", "<wide>", "<narrow>") and styled
            ):
                character = plain
        if options.ignore_traditional and character >= "\u3400":
            simplified = to_simplified(character)
            character = simplified if len(simplified) == 1 else character
        if options.ignore_digit_style:
            character = HAN_DIGITS.get(character, character)
        lower = character.lower()
        return lower if options.ignore_case and len(lower) == 1 else character


def to_simplified(text: str) -> str:
    """Traditional Chinese as simplified, by OpenCC's t2s, which looks at phrases (乾隆 stays, 乾淨 becomes 干净)."""
    simplified: str = _opencc().convert(text)
    return simplified


@lru_cache(maxsize=1)
def _opencc() -> "OpenCC":
    from opencc import OpenCC

    return OpenCC("t2s")
