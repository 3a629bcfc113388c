"""Where users live: residence, own addresses, origin; a journey's destination is nobody's home."""

import re
from collections.abc import Iterator

from curation.regions import Region, gazetteer
from curation.tagging.claims import BEGIN, SELF

Found = tuple[Region, str, int, int, bool]
"""Region, code, start, end of the evidence, whether it names the speaker."""

NOW = r"(?:现在|目前|如今|就|人就?|家就?|一直|平时|常年|长期|也|还|都|刚|已经|毕业后|辞职后|本人|户口|于\d{4}年|这|和对象|和家人|人目前就|人现在|在)*"
LIVE = r"(?:居住在|定居在?于?|定居|现居住?[在于]?|居住于|常住|长住|住在|住|家住|家在|家里在|家是|人在|生活在|租房住?在|安家在|搬到|搬来|搬去了|落户在?|留在了?|扎根)"
LABEL = (
    r"(?:(?:收货|收件|送货|寄件|家庭|安装|报修|上门|邮寄|联系|取件|配送|我的?|家里|家)(?:地址|住址)|住址|地址(?=[：:\s])|(?:目前)?(?:所在地区?|所在城市|现居地|现居|居住地|常住地|坐标|base|定位|ip|所在省份|城市))"
    r"(?:是|在|为|：|:|\s|填|改成|改到|换成|改为|就是|，)*"
)
HOME = r"(?:[寄送发邮到回]+(?:我们?)?|我们?)(?:家里?|公司|单位)(?:吧|里)?[，,：:\s]+(?:地址[是：:]?)?"
STRONG = re.compile(
    rf"(?P<own>{SELF}{NOW}{LIVE}(?:的?是)?)|(?P<label>{LABEL})|(?P<home>{HOME})|(?P<begin>{BEGIN}(?:{LIVE}|人就?在|现在?在|目前在|我?现在住?))|"
    rf"(?P<ours>(?:我|咱|俺)们?(?:家|这边|这里|这儿|单位|公司)(?:就)?(?:是|在|住)?|{BEGIN}这边是)|(?P<moved>(?:搬到|搬来|搬去)(?:了)?)|(?P<now>(?:现在|如今|目前)(?:就|住|人)?在?)|(?P<moved_in>嫁到了?|移居到?了?)",
    re.IGNORECASE,
)
"""What a residence or an own address follows."""
CUE = re.compile(r"[住址居搬嫁家司位落留扎移标定]|现在|目前|如今|base|城市|所在|人|生活|这[边里儿]|ip", re.IGNORECASE)
"""What every match of STRONG holds; it is cheaper to look for."""
STAY = re.compile(rf"{SELF}{NOW}在|{BEGIN}在|我住|俺在", re.IGNORECASE)
"""Being somewhere: a residence only with what follows."""
ORIGIN = re.compile(
    rf"{SELF}(?:就|也|都|家)?(?:是|来自)|来自|{SELF}?(?:的)?(?:老家|籍贯|户籍|户口|祖籍)(?:就)?(?:是|在)?|(?:出生|生)[在于]|{BEGIN}(?:我们?|本人|俺|咱)|农村，|人，(?=[\u4e00-\u9fff])",
    re.IGNORECASE,
)
FROM = re.compile(
    r"(?:的|人|本地|户口|这边的?|那边的?|土著|用户)(?![\u4e00-\u9fff])|(?:的|本地的?)?(?:用户|客户|老客户|本地人|人|户口)|这边|本地|[，,。！!\s现]|$"
)
STAYING = re.compile(
    r"[^\w]|[，,。！!？?；;、\s]|$|这边|那边|本地|市?区|城区|没出|农村|乡下|老家|上班|工作|打工|上大学|上学|读|念|开(?!会)|做|住|生活|定居|租|当(?!过)|有套房|种|养|带娃|干|的?一家|[\u4e00-\u9fff]{1,6}(?:区|县|镇|乡|村|街道)|[\u4e00-\u9fff]{1,6}(?:租房|上班|住)"
)
TRIP = re.compile(
    r"出差|旅游|旅行|玩|转机|中转|转车|机场|火车站|西站|南站|东站|北站|站台|虹桥|度假|开会|订|逛|路过|酒店|有个|有一?个|有套(?!房)|没有|时间|买房|吃|看病|亚运|当过|待过|买的"
)
NOT_PLACE = re.compile(
    r"(?:[东西南北中]?路|街|大道|大学|学院|银行|站(?!街)|机场|火锅|烤鸭|大厦|饭店|酒家|酒店|啤酒|小笼|拉面|小吃|同仁|家化|时间|滩|卫视|户口的)"
)
ADVERBIAL = re.compile(r"(?:想|要|打算|准备|去|到|飞|从|往|明年|可能|考虑|没|不|曾|过)$")
ASKS = (
    r"(?:您|你|亲|现在|目前|常住|居住|家)[^。？?]{0,10}(?:哪个城市|哪里|哪儿|哪个省|什么地方|哪个地区|所在地|坐标)|(?:收货|收件|安装|报修|家庭|送货|您的?)地址(?:是|在|[？?]|麻烦|说|填|发|给|呢)|(?:提供|告知|说|留|填)[^。？]{0,6}地址|所在(?:城市|地区?)|哪里人|送到哪里|"
    r"which city are you|where do you live|where are you (?:based|located)|your address"
)
NOT_ASKED = re.compile(
    r"目的地|出发|到达|要去|想去|想订|查询|天气|意向|想看|寄到哪|发到哪|工作城市|孩子|父母|老人|酒店|房子|票|fly|travel|go to",
    re.IGNORECASE,
)
ANSWER = re.compile(r"^(?:嗯|哦|就|我们?|在|是|住|常住|人在|送到|我家|家|这边|那边|[，,\s])*")
ENGLISH = re.compile(
    r"\b(?i:i(?:'|’)?m (?:currently )?(?:based|living|located) in|i (?:currently |still )?(?:live|reside) in|i(?:'|’)ve moved to|i moved to|my (?:home )?address is in|(?:to )?my home in|we live in) ([A-Z][\w']+(?: [A-Z]\w+)?)|"
    r"\b(?i:i(?:'|’)?m|i am|i come) (?P<from>from) ([A-Z][\w']+)"
)


def stated(text: str) -> Iterator[Found]:  # noqa: PLR0912  (four kinds of cues, one after the other)
    """Places that a user's turn tells as home; residences first, so that an origin counts only beside none."""
    places = gazetteer()
    for match in STRONG.finditer(text) if CUE.search(text) else ():
        read = places.read(text, match.end())
        if read is None or NOT_PLACE.match(text, read[1]):
            continue
        rest = re.split(r"[。！？!?；;，,\n]", text[read[1] :])[0]
        if match.lastgroup not in ("label", "home") and TRIP.search(rest):
            continue
        if match.lastgroup == "ours" and not re.match(
            r"的?[，,。！!？?；;、\s]|的?$|这边|市|农村|停电|[\u4e00-\u9fff]{1,6}(?:区|县|镇|村)", text[read[1] :]
        ):
            continue
        yield read[0], "statement", match.start(), read[1], match.lastgroup in ("own", "ours")
    for match in STAY.finditer(text):
        read = places.read(text, match.end())
        if read is None or NOT_PLACE.match(text, read[1]) or STAYING.match(text, read[1]) is None:
            continue
        if TRIP.search(re.split(r"[。！？!?；;，,\n]", text[read[1] :])[0]):
            continue
        elided = match.group() == "在"
        if elided and not re.match(r"[，,。！!\s]|$|这边|上班|工作|打工", text[read[1] :]):
            continue  # 在北京市通州区… may be the address of anything
        yield read[0], "statement", match.start(), read[1], not elided
    for match in ORIGIN.finditer(text):
        read = places.read(text, match.end())
        if read is not None and FROM.match(text, read[1]) and not NOT_PLACE.match(text, read[1]):
            begins = match.start() == 0 or text[match.start() - 1] in "，,。！!？?；; ：:"
            if match.group()[0] in "我本俺咱" or (begins and not match.group().startswith(("祖", "出", "生"))):
                yield read[0], "origin", match.start(), read[1], match.group()[0] in "我本俺咱"
    for english in ENGLISH.finditer(text):
        name = english.group(1) or english.group(3)
        region = places.romanised.get(name.lower().replace("'", ""))
        if region is not None:
            yield region, "origin" if english.group("from") else "statement", *english.span(), True


def answered(text: str) -> Iterator[Found]:
    """The place that answers a question for the user's home."""
    begin = ANSWER.match(text)
    start = begin.end() if begin else 0
    read = gazetteer().read(text, start)
    if read is not None and not re.search(r"朋友|客户|同学|孩子|爸|妈|寄给", text):
        yield read[0], "statement", start, read[1], True
    elif (word := re.match(r"[A-Z][a-z']+", text)) and (region := gazetteer().romanised.get(word.group().lower())):
        yield region, "statement", *word.span(), True


def tags_of(region: Region) -> Iterator[tuple[str, str]]:
    """The fields that a region gives."""
    yield "province", region.province
    if region.city is not None:
        yield "city", region.city


def sign_of_places() -> str:
    """Matches every text that `stated` reads: a cue and the beginning of a place right behind it; English cues."""
    beginnings: dict[str, set[str]] = {}
    for name in gazetteer().places:
        beginnings.setdefault(name[0], set()).add(name[1])
    names = "|".join(f"{first}[{''.join(sorted(seconds))}]" for first, seconds in sorted(beginnings.items()))
    return rf"(?i)(?:[住在到来址标地市家里边儿司位是自籍贯口祖于我们人俺咱居落了ep份：:现前今为填成根搬去号]|[址家里吧司位市地标：:e住村人]了?[，,：:\s]+(?:地址)?)(?:{names})|based in|living in|located in|live in|reside in|moved to|address is in|home in|from "
