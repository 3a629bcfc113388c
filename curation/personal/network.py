"""E-mail and IP addresses, as typed and as spoken; software versions, file names and handles are none."""

import ipaddress
import re
from collections.abc import Iterator

from curation.personal.finding import Finding

LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
EMAIL = re.compile(
    rf"(?<![A-Za-z0-9._%+/-])[A-Za-z0-9](?:[A-Za-z0-9._%+-]*[A-Za-z0-9_+-])? ?@ ?(?:{LABEL}\.)+[A-Za-z]{{2,24}}(?![A-Za-z0-9-]|\.[A-Za-z0-9]|:[A-Za-z])"
)
FILES = ("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "js", "ts", "py", "html", "mp4", "pdf")
TOP = "com|net|org|edu|cn|io|co|uk|gov"
SPOKEN_EMAIL = re.compile(
    rf"(?<![A-Za-z0-9])(?:[a-z0-9]+(?: (?:dot|underscore|dash) |[._-]))*[a-z0-9]+(?: at |\(at\)|\[at\]| ?艾特 ?|圈a)(?:{LABEL}(?: dot |\(dot\)|\[dot\]| ?点 ?|\.))+(?:{TOP})(?![A-Za-z])",
    re.IGNORECASE,
)
IPV4 = re.compile(r"(?:(?<![\w.-])|(?<=[iI][pP]))(?:\d{1,3}\.){3}\d{1,3}(?![A-Za-z_-]|\.?\d)", re.ASCII)
IPV6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:[0-9A-Fa-f]{1,4}|(?:\d{1,3}\.){3}\d{1,3})?(?![\w:])", re.ASCII
)
VERSION_BEFORE = re.compile(
    r"(?:版本?|固件|驱动|系统|补丁|升级|更新|第|章节|\bv|ver|version|firmware|build|driver|release|update|patch|android|ios|chrome|firefox|windows|edge|section|chapter)[^，。,;；!？?\n]{0,8}$",
    re.IGNORECASE,
)
VERSION_AFTER = re.compile(r" ?(?:版|version|节|章|条|款)", re.IGNORECASE)
ENUMERATED = re.compile(r"\d(?:\.\d){3}")
"""Four single digits; where more than two of them differ, they are an address only if something says so."""
NETWORKED = re.compile(r"\bip|ip地址|服务器|网关|dns|\bhost|server|ping|登录", re.IGNORECASE)
CONTEXT_CHARS = 16


def find_network(text: str) -> Iterator[Finding]:
    """E-mail and IP addresses of a folded text."""
    for match in EMAIL.finditer(text):
        if not match.group().lower().endswith(tuple(f".{name}" for name in FILES)):
            yield Finding(*match.span(), "email", match.group().replace(" ", "").lower())
    for match in SPOKEN_EMAIL.finditer(text):
        yield Finding(*match.span(), "email", _typed(match.group().lower()))
    for match in IPV4.finditer(text):
        if _is_address(match.group()) and not _is_version(text, match):
            yield Finding(*match.span(), "ip", match.group())
    for match in IPV6.finditer(text):
        if _is_address(match.group()) and re.match(
            r"[0-9A-Fa-f]{3,4}:|(?:[0-9A-Fa-f]+:){7}|::(?:1$|ffff:)", match.group()
        ):
            yield Finding(*match.span(), "ip", match.group().lower())


def _typed(said: str) -> str:
    """A spoken e-mail address as it would be typed."""
    signs = {"dot": ".", "点": ".", "underscore": "_", "dash": "-", "at": "@", "艾特": "@", "圈a": "@"}
    words = re.split(r"[ \[\]()]+|(点|艾特|圈a)", said)
    return "".join(signs.get(word, word) for word in words if word)


def _is_address(written: str) -> bool:
    try:
        address = ipaddress.ip_address(written)
    except ValueError:
        return False
    return address.version == 6 or not written.startswith("0.")


def _is_version(text: str, match: re.Match[str]) -> bool:
    before = text[max(0, match.start() - CONTEXT_CHARS) : match.start()]
    if VERSION_AFTER.match(text, match.end()):
        return True
    if ENUMERATED.fullmatch(match.group()) and len(set(match.group())) > 3 and not NETWORKED.search(before):
        return True
    said = VERSION_BEFORE.search(before)
    return said is not None and not NETWORKED.search(said.group())
