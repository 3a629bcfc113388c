"""Which encoding a text is in: UTF-8, or GB18030, which contains GBK and GB2312."""

ENCODINGS = {"utf-8": "UTF-8", "gb18030": "GB18030"}
SURELY_CHARS = 4
"""So many characters beyond ASCII do not decode as UTF-8 by chance."""


class RecordError(ValueError):
    """A record that cannot be read; the message is its reason in the quarantine."""


def encoding_of(sample: bytes) -> str:
    """The encoding in which more of the sample's lines can be read; only lines beyond ASCII have a say."""
    lines = [line for line in sample.splitlines() if not line.isascii()]
    as_utf8 = sum(_decodes(line, "utf-8") for line in lines)
    as_gb18030 = sum(not _decodes(line, "utf-8") and _decodes(line, "gb18030") for line in lines)
    return "gb18030" if as_gb18030 > as_utf8 else "utf-8"


def decoded(content: bytes, encoding: str) -> str:
    """A line's text in the file's encoding; a line in another one is a bad record, not a guess.

    Raises:
        RecordError: the bytes are no text of that encoding.
    """
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        name = ENCODINGS[encoding]
        raise RecordError(f"not valid {name} at byte {error.start}: save the whole file as UTF-8") from None
    if encoding != "utf-8" and _is_surely_utf8(content):
        raise RecordError("UTF-8 text in a GB18030 file: save the whole file as UTF-8")
    return text


def _decodes(content: bytes, encoding: str) -> bool:
    try:
        content.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _is_surely_utf8(content: bytes) -> bool:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return sum(character > "\x7f" for character in text) >= SURELY_CHARS
