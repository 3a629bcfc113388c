"""One spelling for all widths of a text, character by character, so that offsets stay true."""

import unicodedata

DASHES = "‐‑‒–—―−"
HAN_DIGITS = "零〇一二三四五六七八九幺两壹贰叁肆伍陆柒捌玖"
SPOKEN = str.maketrans(HAN_DIGITS, "00" + "123456789" + "12" + "123456789")


class _Folding(dict[int, str]):
    """A translation table that is filled as characters turn up."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            folded = str(digit)
        elif character in DASHES:
            folded = "-"
        elif character != "\n" and character.isspace():
            folded = " "
        else:
            wide = unicodedata.decomposition(character).startswith("<wide>")
            folded = unicodedata.normalize("NFKC", character) if wide else character
        self[code] = folded if len(folded) == 1 else character
        return self[code]


_FOLDING = _Folding()


def folded(text: str) -> str:
    """The text with plain digits, half-width letters and signs, one kind of dash and of blank; as long as it was."""
    return text.translate(_FOLDING)


def spoken(text: str) -> str:
    """A folded text with digits for Chinese numerals that are read one by one; as long as it was."""
    return text.translate(SPOKEN)
