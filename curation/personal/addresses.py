"""Precise addresses: a road with a number, a building with a unit or room, an English street address.

A city, a district or a road alone is no personal data. An address is taken whole, with the regions before it.
"""

import re
from collections.abc import Iterator

from curation.personal.finding import Finding

HAN = r"\u4e00-\u9fff"
COUNT = r"(?:\d{1,5}|[一二三四五六七八九十百零〇两]{1,6})"
UNIT_NAME = r"(?:[A-Za-z]?\d{1,4}[A-Za-z]?|[A-Za-z]|[一二三四五六七八九十]{1,3}|[东西南北])"
NOT_A_NUMBER = r"(?!线|店|乐[队团]|台|机|文件|之?[前后]|以[前后]|开始|早|上午|下午|晚|中午|凌晨|发货|到[货达账]|那天|当天|出发|前|通车|封|修|[周星礼]|才|都|就要|要|左右)"
ROAD = re.compile(
    r"(?P<kind>大道|大街|交[叉汇][口处]|路|街|巷|胡同|弄堂|道|里弄)(?:[东西南北中]?[一二三四五六七八九\d]?段|[东西南北中])? ?"
    rf"[甲乙丙丁附新]?{COUNT}(?:-\d{{1,4}}|之{COUNT})? ?(?:号|弄){NOT_A_NUMBER}(?:之\d{{1,3}}|附\d{{1,3}}号)?(?:院|楼(?![下上道梯])|大院)?"
)
NO_ROADS = re.compile(
    r"(?:^|[省市区县镇乡着])(?:这条|那条|哪条|条|公|马|半|铁|走|顺|线|网|思|套|出|高速|小|水|陆|岔|弯|山|一)路$"
    r"|(?:知|味|频|渠|通|轨|报|管|隧|难|街|跑|赛|行|车|地|霸|打交)道$|(?:^|[省市区县镇乡着])(?:逛|上|这条|那条|步行)街$"
)
BUILDING = rf"(?:{UNIT_NAME} ?(?:号楼|栋|幢|座|塔|#楼?))"
UNIT = rf"(?:{UNIT_NAME} ?(?:单元|门(?!口)))"
FLOOR = rf"(?:[东西南北]{{0,2}}{UNIT_NAME} ?(?:层|楼))"
ROOM = (
    rf"(?:{UNIT_NAME} ?(?:室|房|户)|[A-Za-z]?\d{{3,4}}[A-Za-z]?(?:号(?!线|楼)(?:房间?)?)?(?![\dA-Za-z元块个年月分点.]))"
)
HOUSE = re.compile(
    rf"(?<![A-Za-z0-9])(?:(?P<building>{BUILDING})[ ,，-]?(?P<unit>{UNIT})?[ ,，-]?{FLOOR}?[ ,，-]?(?P<room>{ROOM})?"
    rf"|(?P<lone_unit>{UNIT})[ -]?{FLOOR}?(?P<its_room>{ROOM})?|(?P<lone_room>[A-Za-z]?\d{{3,4}}室))"
)
VILLAGE = re.compile(
    rf"(?:村|屯|庄|社区|寨|弄)(?:{COUNT}(?:组|队|社))?(?:{COUNT}号{NOT_A_NUMBER}|(?<=[组队社]))(?:院)?"
)
ESTATES = r"小区|花园|花苑|家园|公寓|大厦|广场|新村|山庄|别墅|大楼|中心|写字楼|工业园|产业园|科技园|工业区|园区|宿舍|[城府苑园庭湾居邸邨村里区厦院厂寓坊轩阁]|学校|大学|中学|小学|[一二三四五六七八九\d]期"
ESTATE_END = re.compile(rf"(?:{ESTATES})[,， ]?$")
TAIL = re.compile(
    rf"[,， ]?[^\W的在到了是有去来你我他和与跟旁对附门边面之_]{{1,14}}?(?:小区|花园|花苑|家园|公寓|大厦|广场|新村|山庄|大楼|中心|写字楼|工业园|产业园|科技园|工业区|园区|国际|现代城|大学|学院|医院|城|苑|府)+"
    rf"|(?<=弄){COUNT}号(?:楼(?![下上道梯]))?"
    rf"|[,， ]?{BUILDING}|[,， -]?{UNIT}|{FLOOR}|[,， -]?{ROOM}|[ -]?\d{{1,3}}-\d{{1,2}}-\d{{3,4}}|\d{{1,3}}-\d{{3,4}}"
)
CUES = re.compile(
    r"在|到|去过?|是|往|位于|从|给|寄|住|址|找|就|叫|请|问|我们?家?|你们?家?|他们?家?|她|您|这|那个|那里|那边|的|了|家里|家住|一下|公司|单位|地点|位置|发[往货]|送|改成|换成|来自|收[货件]|详细"
)
MAX_ESTATE_CHARS = 12
LEFT_CHARS = 28
LEFT = re.compile(rf"[{HAN}A-Za-z0-9]*$")
STREET = r"(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Way|Terrace|Ter|Circle|Cir|Parkway|Pkwy|Highway|Hwy|Square|Sq|Trail|Crescent|Close)"
INSIDE = r"(?:,? (?:Apt|Apartment|Suite|Ste|Unit|Room|Rm|Flat|#)\.? ?#?[A-Z]?\d{0,5}[A-Z]?(?![A-Za-z0-9]))?"
PLACE = r"(?:,? [A-Z][a-z]+(?: [A-Z][a-z]+){0,2},? [A-Z]{2},? \d{5}(?:-\d{4})?|,? [A-Z][a-z]+,? [A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2})?"
ENGLISH = [
    re.compile(
        rf"(?<![A-Za-z0-9.,$-])\d{{1,6}}[A-Z]?(?:-\d{{1,4}})? (?:[NSEW]\.? |North |South |East |West )?(?:(?:[A-Z][\w'.]*|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}{STREET}\b\.?(?: (?:NW|NE|SW|SE|[NSEW]|Central|North|South|East|West)\b)?{INSIDE}{PLACE}"
    ),
    re.compile(
        r"(?<![A-Za-z0-9.,$-])\d{1,6}[a-z]? (?!(?:way|more|of|the|a|in|on|to|min|minutes?|hours?|hr|miles?|blocks?|people|days?|km)\b)(?:[nsew]\.? )?(?:(?!(?:the|a|an|of|in|on|to|from|down|up|off|away|my|your|this|that|minutes?|miles?|hours?|blocks?|people|way|and|or|at|by|with)\b)[a-z][\w']*|\d{1,3}(?:st|nd|rd|th)) (?:(?!(?:the|a|of|in|on|to|from|down|my|this|that|at|way)\b)[a-z][\w']* ){0,2}?(?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln)\b(?:,? (?:apt|apartment|suite|unit|#) ?#?\w{1,5})?"
    ),
    re.compile(
        r"(?:\bat|address(?: is)?:?|(?:ship|send|deliver|move|moved)(?: it)? to) (?P<place>\d{1,6}[a-z]? (?:[a-z][\w']* ){1,2}(?:drive|dr|court|ct|place|pl|way|terrace|circle|cir|parkway|square|trail)\b)"
    ),
    re.compile(r"\bP\.? ?O\.? Box \d{1,6}\b", re.IGNORECASE),
]


def find_addresses(text: str) -> Iterator[Finding]:
    """Precise addresses of a folded text."""
    position = 0
    for match in sorted(_anchors(text), key=re.Match.start):
        if match.start() < position or (start := _beginning(text, match, position)) is None:
            continue
        end = match.end()
        while (tail := TAIL.match(text, end)) is not None and tail.end() > end:
            end = tail.end()
        position = end
        yield Finding(start, end, "address", re.sub(r"[ ,，-]", "", text[start:end]).lower())
    for pattern in ENGLISH:
        for match in pattern.finditer(text):
            place = "place" if "place" in match.groupdict() else 0
            yield Finding(*match.span(place), "address", re.sub(r"[ ,.]", "", match.group(place)).lower())


def _anchors(text: str) -> Iterator[re.Match[str]]:
    for pattern in (ROAD, VILLAGE, HOUSE):
        yield from pattern.finditer(text)


def _beginning(text: str, match: re.Match[str], after: int) -> int | None:
    """Where the address begins whose certain part matched; None if that part makes none."""
    left = LEFT.search(text[max(after, match.start() - LEFT_CHARS) : match.start()])
    assert left is not None
    stretch = left.group()
    for cue in CUES.finditer(stretch):
        stretch = left.group()[cue.end() :]
    stretch = re.sub(r"^(?:[与跟为]|和(?!平|谐|义))", "", stretch)
    start = match.start() - len(stretch)
    if match.re is ROAD:
        name = stretch + match.group("kind")
        known = len(stretch) >= 2 or (match.group("kind") != "道" and stretch[-1:] in set("东西南北中正新老前后横"))
        return start if known and not NO_ROADS.search(name) else None
    if match.re is VILLAGE:
        return start if len(stretch) >= 1 else None
    in_estate = len(stretch) >= 2 and ESTATE_END.search(stretch) is not None
    parts = match.groupdict()
    alone = (parts["building"] and (parts["unit"] or parts["room"])) or (parts["lone_unit"] and parts["its_room"])
    if in_estate and (alone or parts["building"] or parts["lone_room"]):
        return start
    if alone:  # a name before it that is not too long is the estate's
        return start if 2 <= len(stretch) <= MAX_ESTATE_CHARS else match.start()
    return None
