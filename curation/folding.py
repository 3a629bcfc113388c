"""Characters and their spellings: one for all widths, styles and cases, and for traditional and simplified Chinese."""

import sys
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from opencc import OpenCC

HAN_DIGITS = dict(zip("零〇一二三四五六七八九壹贰叁肆伍陆柒捌玖两貳叄陸兩", "0012345678912345678922362", strict=True))
"""With the forms that banks write, and their traditional ones for where those are told apart otherwise."""
NEGATIVE_LETTERS = {base + n: chr(65 + n) for base in (0x1F150, 0x1F170) for n in range(26)}
"""Letters in black circles and squares, of which Unicode does not say which letter they are."""
WIDTHS = ("<wide>", "<narrow>")
FIRST_HAN, LAST_HAN = "\u3400", "\u9fff"
"""Most Chinese characters; a few thousand rare ones lie far behind them."""
SEVERAL = sys.maxunicode + 1
"""Numbers from here on are no code points: they stand for several symbols."""
UNMET = (1 << 32) - 1


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


def numbers(end: int) -> npt.NDArray[np.int64]:
    """The numbers from 0 to `end`, exclusive; not to be written to."""
    return _numbers(1 << end.bit_length())[:end]


@lru_cache(maxsize=1)
def _numbers(end: int) -> npt.NDArray[np.int64]:
    made = np.arange(end)
    made.flags.writeable = False
    return made


class CharacterMap:
    """What each character becomes: nearly always one, but any number of others; each is asked about once."""

    def __init__(self, of: Callable[[str], str]) -> None:
        self._of = of
        self._codes = np.full(sys.maxunicode + 1, UNMET, dtype=np.uint32)
        """By code point: its symbol, a number from SEVERAL on, or UNMET."""
        self._several: list[npt.NDArray[np.uint32]] = []

    def symbols(self, points: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """The symbols of code points, and which of the points each is of."""
        codes, places = self._codes[points], numbers(len(points))
        highest = codes.max(initial=0)
        if highest == UNMET:
            for code in np.unique(points[codes == UNMET]).tolist():
                self._learn(code)
            codes = self._codes[points]
            highest = codes.max()
        if highest < SEVERAL:
            return codes, places
        long = np.flatnonzero(codes >= SEVERAL)
        parts = [self._several[number] for number in (codes[long] - SEVERAL).tolist()]
        lengths = np.ones(len(points), dtype=np.int64)
        lengths[long] = [len(part) for part in parts]
        made, of = np.repeat(codes, lengths), np.repeat(places, lengths)
        made[lengths[of] > 1] = np.concatenate(parts)
        return made, of

    def _learn(self, code: int) -> None:
        symbols = [ord(symbol) for symbol in self._of(chr(code))]
        if len(symbols) != 1:
            self._several.append(np.array(symbols, dtype=np.uint32))
            symbols = [SEVERAL + len(self._several) - 1]
        self._codes[code] = symbols[0]


class Folding:
    """Maps each character to one that stands for all its spellings; a ligature to the several that it is made of."""

    def __init__(self, options: Spellings) -> None:
        self._options = options
        self.symbols = CharacterMap(self.fold).symbols

    def fold(self, character: str) -> str:
        """The symbols of a character: nearly always one."""
        if FIRST_HAN <= character <= LAST_HAN:
            return self._han(character)
        options = self._options
        kind = unicodedata.decomposition(character).partition(" ")[0]
        digits = _digits(character)
        styled = _styled(character) if kind not in ("", *WIDTHS) or ord(character) in NEGATIVE_LETTERS else ""
        if kind in WIDTHS and options.ignore_width:
            character = unicodedata.normalize("NFKC", character)
        elif digits and options.ignore_digit_style:
            character = digits
        elif styled and (options.ignore_digit_style if styled.isdigit() else options.ignore_letter_style):
            character = styled
        character = "".join(map(self._han, character))
        return _lower(character) if options.ignore_case else character

    def _han(self, character: str) -> str:
        """A Chinese character without its traditional form, and as a digit where it is one."""
        if self._options.ignore_traditional and character >= FIRST_HAN:
            simplified = to_simplified(character)
            character = simplified if len(simplified) == 1 else character
        return HAN_DIGITS.get(character, character) if self._options.ignore_digit_style else character


def _styled(character: str) -> str:
    """The letters or digits of which a character is a form (Ⓕ, ⑩, ㈠, ﬁ, 𝐟); empty where it is more (℃, ½) or none."""
    plain = NEGATIVE_LETTERS.get(ord(character)) or unicodedata.normalize("NFKC", character).strip("().,")
    return plain if plain.isalnum() else ""


def _digits(character: str) -> str:
    """The digits that a character stands for by itself (٣, ❸, ❿); empty where it does not."""
    digit = unicodedata.digit(character, None)
    number = unicodedata.numeric(character, 0.5) if unicodedata.category(character) == "No" else 0.5
    if digit is None and number.is_integer() and not unicodedata.decomposition(character):
        return str(int(number))
    return "" if digit is None else str(digit)


def _lower(text: str) -> str:
    """As for caseless comparison, without the dot that stays of İ."""
    folded = "".join(c for c in text.casefold() if not unicodedata.combining(c))
    return folded or text


def to_simplified(text: str) -> str:
    """Traditional Chinese as simplified, by OpenCC's t2s, which looks at phrases (乾隆 stays, 乾淨 becomes 干净)."""
    simplified: str = _opencc().convert(text)
    return simplified


@lru_cache(maxsize=1)
def _opencc() -> "OpenCC":
    from opencc import OpenCC

    return OpenCC("t2s")
