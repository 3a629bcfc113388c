"""Bring a text to one form: Unicode width, invisible characters, white space, runs of punctuation, HTML remains.

The rules, each of them idempotent:

- width: full-width ASCII letters, digits and symbols become half width, half-width katakana and hangul full width.
  Chinese punctuation （，！？：；（）～￥） is right as it is and stays; only ： and ． between digits become : and . there.
- control: control and zero-width characters go. ZWJ stays inside emoji, ZWJ and ZWNJ after letters of scripts that
  are written with them, direction marks in texts of right-to-left scripts, variation selectors where they select.
- whitespace: one kind of space and of line break; no runs of spaces, none at the ends of lines, no more than one empty
  line. Line breaks are never joined, and the indentation of later lines stays.
- punctuation: a mark said many times is said once; ellipses (……, ...) and dashes (——) stay.
- html: entities are decoded, also those encoded twice; real elements go, block elements leave a line break.
- simplified: traditional characters become simplified by OpenCC's t2s; Japanese is left alone.

Code between back quotes keeps its width, spaces, marks and tags; addresses keep their marks. A text that does not
settle after a few passes, such as tags nested in tags without end, is left as it is.
"""

import html
import re
import unicodedata
from collections.abc import Callable
from difflib import SequenceMatcher

import polars as pl

from curation.draft import Draft, Edit
from curation.folding import to_simplified
from curation.operator import PROPOSALS, OperatorConfig, Resources, operator

MAX_PASSES = 8
CODE = r"```.*?(?:```|\Z)|`[^`\n]+`"
PROTECTED = re.compile(CODE, re.DOTALL)
PROTECTED_MARKS = re.compile(rf"{CODE}|(?:https?|ftp)://[!-~]+", re.DOTALL)

WIDE = "\uff02-\uff07\uff0a\uff0b\uff0d\uff0f-\uff19\uff1c-\uff1e\uff20-\uff5d\uffa1-\uffdc\uffe0\uffe1\uffe8-\uffee"
WIDTH = re.compile(rf"[\uff61-\uff9f]+|[{WIDE}]|(?<=[0-9０-９])[：．](?=[0-9０-９])")

INVISIBLE = "\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
SELECTORS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"
TAGS = "\U000e0000-\U000e007f"
PICTURE = "\u00a9\u00ae\u203c-\u3299\U0001f000-\U0001fbff"
JOINED_SCRIPTS = "\u0600-\u08ff\u0900-\u0dff\u0e00-\u109f\u1780-\u18af\ua840-\uabff\ufb50-\ufdff\ufe70-\ufefc"
CONTROL = re.compile(
    rf"[{INVISIBLE}]"
    rf"|(?<![{PICTURE}\u3400-\u9fff\U00020000-\U0003ffff\u1000-\u109f\u1800-\u18af\ua840-\ua87f#*0-9])[{SELECTORS}]"
    rf"|(?<![\U0001f3f4{TAGS}])[{TAGS}]"
    rf"|\u200c(?<![{JOINED_SCRIPTS}]\u200c)"
    rf"|\u200d(?<![{JOINED_SCRIPTS}]\u200d)(?!(?<=[{PICTURE}{SELECTORS}]\u200d)[{PICTURE}])"
)
DIRECTION = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
RIGHT_TO_LEFT = re.compile(r"[\u0590-\u07bf\u0860-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")

BREAKS = "\r\x0b\x0c\x85\u2028\u2029"
ODD_SPACES = "\t\xa0\u1680\u2000-\u200a\u202f\u205f\u3000"
SPACE = rf"[ {ODD_SPACES}]"
BREAK = re.compile(rf"\r\n|[{BREAKS}]")
SPACES = re.compile(rf"{SPACE}+")
EMPTY_LINES = re.compile(r"\n{3,}")

REPEATED = re.compile(
    r"[！!？?]{2,}|([，、；：～])\1+|(?<=\w),{2,}(?=\s|\Z)|(?<=[^\s~])~{3,}|。{2,}|…{3,}|—{3,}|(?<![./\\0-9])\.{4,}(?![./\\0-9])"
)

BLOCKS = "blockquote br dd div dl dt h1 h2 h3 h4 h5 h6 hr li ol p pre table tbody tfoot thead tr ul"
INLINE = "em font iframe img nobr small span strike strong sub sup td th video wbr"
WORDS = (
    "a abbr address article aside audio b big body button canvas center cite code del figure footer form head header html "
    "i input ins kbd label link main mark meta nav option q s script section select source style summary svg textarea "
    "time title tt u var"
)
"""Elements named like words or letters: as text they may be a placeholder, so they need an attribute or a partner."""
NAME = "|".join(sorted(f"{BLOCKS} {INLINE} {WORDS}".split(), key=len, reverse=True))
ATTRIBUTE = r"""\s+[A-Za-z_:@][\w:.-]*\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)"""
ELEMENT = re.compile(
    rf"<!--[^<>]*-->|<(?P<raw>script|style)\b[^<>]*>[^<]*</(?P=raw)\s*>|<(?P<close>/?)(?P<name>{NAME})(?P<attributes>(?:{ATTRIBUTE})*)\s*/?>",
    re.IGNORECASE,
)
ENTITY = re.compile(r"&(?:(?:amp|#38|#x26);)*(?:[A-Za-z][A-Za-z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")

MAY_NEED_WORK = (
    rf"[{WIDE}\uff61-\uff9f{INVISIBLE}{SELECTORS}{TAGS}{BREAKS}{ODD_SPACES}\u200c\u200d]|[0-9０-９][：．][0-9０-９]"
    r"|^\s|\s$|  | \n|\n\n\n|[！!？?]{2}|，，|、、|；；|：：|～～|,,|~~~|。。|\.{4}|………|———|<[A-Za-z/!]|&[#A-Za-z]"
)


class NormalizeText(OperatorConfig):
    """Brings texts to one form: width, invisible characters, white space, runs of punctuation, HTML remains."""

    to_simplified: bool = False
    """Turn traditional Chinese characters into simplified ones."""


@operator(
    kind="normalize_text",
    version=2,
    scope="turn",
    config=NormalizeText,
    reads=("text",),
    codes={
        "width": "full-width letters, digits and symbols to half width, half-width katakana and hangul to full width",
        "control": "a control or zero-width character that shows nothing",
        "whitespace": "odd spaces and line breaks to usual ones, runs of them shortened",
        "punctuation": "a mark said many times, said once",
        "html": "an entity decoded, an element taken out",
        "simplified": "a traditional character to its simplified one",
        "nothing_left": "a turn of which nothing stays",
    },
)
def normalize_text(turns: pl.DataFrame, config: NormalizeText, resources: Resources) -> pl.DataFrame:
    """Proposes the edits of each turn; a turn of which nothing is left is dropped."""
    may_need_work = turns["text"].str.contains(MAY_NEED_WORK)
    if config.to_simplified:
        may_need_work |= pl.Series([to_simplified(text) != text for text in turns["text"]], dtype=pl.Boolean)
    rows: list[tuple[int, str, int | None, int | None, str | None, str, None]] = []
    for row, text in turns.filter(may_need_work).select("row", "text").iter_rows():
        edits = normalize(text, to_simplified=config.to_simplified)
        if sum(end - start for start, end, _, _ in edits) == len(text) and not any(new for _, _, new, _ in edits):
            rows.append((row, "drop_turn", None, None, None, "nothing_left", None))
        else:
            rows += [(row, "edit", start, end, new, code, None) for start, end, new, code in edits]
    return pl.DataFrame(rows, PROPOSALS, orient="row")


def normalize(text: str, *, to_simplified: bool = False) -> list[Edit]:
    """Edits (start, end, replacement, code) that bring a text to its one form; offsets into `text`."""
    draft = Draft(text)
    passes = [_width, _html, _control, _whitespace, _punctuation, *([_simplify] if to_simplified else [])]
    for _ in range(MAX_PASSES):
        before = draft.text
        for change in passes:
            change(draft)
        if draft.text == before:
            return draft.edits()
    return []


def _substitute(
    draft: Draft, pattern: re.Pattern[str], new: str | Callable[[re.Match[str]], str], code: str,
    protected: re.Pattern[str] = PROTECTED,
) -> None:  # fmt: skip
    """Replaces matches outside of what is protected."""
    spans = (
        [match.span() for match in protected.finditer(draft.text)] if "`" in draft.text or "://" in draft.text else []
    )
    changes, index = [], 0
    for match in pattern.finditer(draft.text):
        while index < len(spans) and spans[index][1] <= match.start():
            index += 1
        if index == len(spans) or spans[index][0] >= match.end():
            changes.append((*match.span(), new if isinstance(new, str) else new(match)))
    draft.rewrite(changes, code)


def _width(draft: Draft) -> None:
    _substitute(draft, WIDTH, _in_usual_width, "width")


def _in_usual_width(match: re.Match[str]) -> str:
    text = match.group()
    if "\uff61" <= text[0] <= "\uff9f":
        return unicodedata.normalize("NFKC", text)
    form = unicodedata.decomposition(text).split()
    return chr(int(form[1], 16)) if len(form) == 2 and form[1] != "3164" else text


def _control(draft: Draft) -> None:
    kept = DIRECTION if RIGHT_TO_LEFT.search(draft.text) else ""
    marks = re.compile(f"[{kept}]") if kept else None
    draft.substitute(CONTROL, lambda match: match.group() if marks and marks.match(match.group()) else "", "control")


def _whitespace(draft: Draft) -> None:
    _substitute(draft, BREAK, "\n", "whitespace")
    _substitute(draft, SPACES, _space, "whitespace")
    _substitute(draft, EMPTY_LINES, "\n\n", "whitespace")
    length, first, last = len(draft.text), len(draft.text.lstrip("\n")), len(draft.text.rstrip("\n"))
    draft.rewrite([(0, length - first, ""), (max(last, length - first), length, "")], "whitespace")


def _space(match: re.Match[str]) -> str:
    text, start, end = match.string, match.start(), match.end()
    before, after = text[start - 1 : start], text[end : end + 1]
    if before == "\n" and after not in ("", "\n") and not match.group().strip(" \t"):
        return match.group()
    return "" if {before, after} & {"", "\n"} else " "


def _punctuation(draft: Draft) -> None:
    _substitute(draft, REPEATED, _said_once, "punctuation", PROTECTED_MARKS)


def _said_once(match: re.Match[str]) -> str:
    run = match.group()
    match run[0]:
        case "。":
            return "。" if len(run) == 2 else "……"
        case "…":
            return "……"
        case "—":
            return "——"
        case ".":
            return "..."
    return "".join(dict.fromkeys(run))


def _html(draft: Draft) -> None:
    if "&" in draft.text:
        _substitute(draft, ENTITY, _decoded, "html")
    if "<" in draft.text:
        tags = [(bool(m["close"]), m["name"].lower()) for m in ELEMENT.finditer(draft.text) if m["name"]]
        paired = {name for close, name in tags if close} & {name for close, name in tags if not close}
        _substitute(draft, ELEMENT, lambda match: _instead_of(match, paired), "html")


def _decoded(match: re.Match[str]) -> str:
    entity = re.sub(r"^&(?:(?:amp|#38|#x26);)*", "&", match.group())
    return html.unescape(entity)


def _instead_of(match: re.Match[str], paired: set[str]) -> str:
    if match["name"] is None:
        return ""
    name = match["name"].lower()
    if name in WORDS.split() and name not in paired and not match["attributes"]:
        return match.group()
    return "\n" if name in BLOCKS.split() else " " if name in ("td", "th") and match["close"] else ""


def _simplify(draft: Draft) -> None:
    text = draft.text
    if re.search(r"[\u3041-\u30fa]{2}", text):
        return
    new = to_simplified(text)
    if len(new) == len(text):
        pairs = enumerate(zip(text, new, strict=True))
        draft.rewrite([(index, index + 1, to) for index, (old, to) in pairs if old != to], "simplified")
    else:
        codes = SequenceMatcher(None, text, new, autojunk=False).get_opcodes()
        draft.rewrite([(a, b, new[c:d]) for tag, a, b, c, d in codes if tag != "equal" and a < b], "simplified")
