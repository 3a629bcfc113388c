"""Tag the customer of a conversation: age, gender, region, crowd; from metadata and plain statements, never from style.

Precision before recall: others' properties (我妈七十了), negations, hypotheses (如果我是学生), quotations and
destinations (我要去北京) give no tag. Metadata beats statements; a residence beats an origin.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from typing import Any, Literal

import orjson
import polars as pl

from curation.operator import TAGS, ConversationProposals, Dialogues, OperatorConfig, Resources, operator
from curation.regions import CHINA, Region, gazetteer

Field = Literal["age", "gender", "province", "city", "country", "crowd"]
FIELDS: tuple[Field, ...] = ("age", "gender", "province", "city", "country", "crowd")
BANDS = ((0, 17), (18, 24), (25, 34), (35, 44), (45, 54), (55, 64), (65, 120))
MAX_AGE = 120

METADATA_KEYS = {
    "age": ("age", "年龄"),
    "birth_year": ("birth_year", "出生年份", "出生年"),
    "gender": ("gender", "sex", "性别"),
    "province": ("province", "省份", "省"),
    "city": ("city", "城市", "市"),
    "country": ("country", "国家"),
    "crowd": ("crowd", "人群"),
}
GENDERS = {
    **dict.fromkeys(("female", "f", "woman", "girl", "女", "女性", "女士", "女生", "女的"), "female"),
    **dict.fromkeys(("male", "m", "man", "boy", "男", "男性", "先生", "男士", "男生", "男的"), "male"),
}
CROWDS = (
    "student", "parent", "senior", "office_worker", "self_employed", "blue_collar", "farmer", "job_seeker",
    "homemaker", "pregnant", "disabled", "veteran", "new_customer", "vip",
)  # fmt: skip
CROWDS_ZH = {
    "学生": "student", "家长": "parent", "宝妈": "parent", "老人": "senior", "退休": "senior", "白领": "office_worker",
    "上班族": "office_worker", "个体户": "self_employed", "工人": "blue_collar", "农民": "farmer", "求职者": "job_seeker",
    "家庭主妇": "homemaker", "孕妇": "pregnant", "残疾人": "disabled", "退伍军人": "veteran", "新客户": "new_customer",
    "新用户": "new_customer", "会员": "vip",
}  # fmt: skip

HYPOTHESIS = re.compile(
    r"如果|假如|要是|假设|倘若|万一|比如说?|好像|\bif\b|\bsuppose\b|\bwhen i was\b|\bimagine\b", re.IGNORECASE
)
QUOTED = re.compile(r"[“「『\"][^”」』\"]*[”」』\"]")
CLAUSE_END = re.compile(r"[。！？!?；;，,.\n]")
NUMBER_ZH = "零一二三四五六七八九"
AGE = r"(?P<age>\d{1,3}|[一二三四五六七八九]?十[一二三四五六七八九]?)"
I_AM_NOW = r"(?:我|本人|俺)(?:自己)?(?:今年|现在|目前|都|已经|刚|刚满|也|才|就|是|有|，|,)*"
AGES = [
    re.compile(rf"{I_AM_NOW}{AGE}(?:周)?岁(?!的?(?:儿子|女儿|孩子|宝宝|小孩|娃|老人|时|那年|以前|之前))"),
    re.compile(rf"(?:^|[，,。！!？?\s])(?:今年|年龄)(?:是)?{AGE}(?:周)?岁"),
    re.compile(r"\bi(?:'m| am) (?P<age>\d{1,3})(?: years? old|-year-old| yrs? old)\b", re.IGNORECASE),
    re.compile(r"\bi(?:'m| am) (?P<age>\d{2})(?=[,.!]| and\b)", re.IGNORECASE),
]
BIRTH_YEARS = [
    re.compile(r"(?:我|本人)(?:是)?(?P<year>19[2-9]\d|20[01]\d)年(?:\d{1,2}月)?(?:\d{1,2}[日号])?(?:出生|生)?的"),
    re.compile(r"\bi was born in (?P<year>19[2-9]\d|20[01]\d)\b", re.IGNORECASE),
]
DECADE = re.compile(r"(?:我|本人)(?:是)?(?:一个|个|一名|名)?(?P<decade>[5-9]0|[0-9]5|[01]0)后")
WOMAN, MAN = r"女生|女孩子?|女的|女士|女性|妈妈|宝妈|孕妇|家庭主妇", r"男生|男孩子?|男的|男士|男性|爸爸|宝爸|奶爸"
GENDER = [
    re.compile(
        rf"(?:我|本人)(?:就|也)?是(?:一个|个|一名|名|位)?[\u4e00-\u9fff]{{0,3}}?(?:(?P<female>{WOMAN})|(?P<male>{MAN}))(?!的?(?:朋友|同学|老公|老婆))"
    ),
    re.compile(
        r"\bi(?:'m| am) a (?:\w+ )?(?:(?P<female>woman|girl|female|mother|mom)|(?P<male>man|guy|male|father|dad))\b",
        re.IGNORECASE,
    ),
]
ADDRESS = re.compile(
    r"(?:^|[，,。！!？?\s])(?:尊敬的|好的)?(?!我|您|你|他|她|的)[\u4e00-\u9fff]{0,2}(?:(?P<female>女士|小姐)|(?P<male>先生))(?=[，,。！!？?：:\s]|您|你好|请|麻烦|$)"
)
RESIDENCE = r"(?:我|本人)(?:现在|目前|人|家|就|一直|是|也|常年|平时)*(?:住在|住|家在|家住|人在|在)(?P<place>{places})"
ORIGIN = r"(?:我|本人)(?:就|也)?(?:是|来自)(?P<place>{places})(?:人|的|这边的|这边|那边的|本地人|用户)"
TRIP = re.compile(
    r"^(?:[\u4e00-\u9fff]{0,6}?)(?:出差|旅游|旅行|玩|转机|中转|机场|火车站|西站|南站|东站|北站|度假|开会|订)"
)
CROWD_RULES = {
    "student": r"我(?:现在|目前|也)?(?:是|还是)(?:一名|一个|个|名)?(?:大|高中|初中|中|小|在校|在读|研究|博士)*(?:学生|研究生|博士生)|我还?在(?:上|读)(?:大学|高中|初中|研究生)|\bi(?:'m| am) (?:still )?a (?:\w+ )?student\b",
    "parent": r"我(?:是)?(?:一个|个)?(?:宝妈|宝爸|奶爸|孩子妈|孩子爸)|我(?:家)?(?:的)?(?:孩子|儿子|女儿|宝宝|娃)|我是(?:一个|个)?[\u4e00-\u9fff]{0,4}(?:妈妈|爸爸|家长)|\bmy (?:son|daughter|kids?|children|baby)\b",
    "senior": r"我(?:已经|都|早就|刚)*退休|我是(?:一个|个|一名|名)?退休|\bi(?:'m| am) retired\b",
    "office_worker": r"我是(?:一个|个|一名|名)?(?:上班族|白领|公务员|公司职员|职员|程序员|会计|文员)|\bi work in an office\b|\bi(?:'m| am) an office worker\b",
    "self_employed": r"我(?:是)?(?:一个|个|自己)?(?:个体户|自由职业者?|开店的|开了?一?(?:家|个)(?:小)?(?:店|公司|饭店|餐馆))|我自己(?:开|做)(?:店|生意|小生意)|\bi(?:'m| am) self[- ]employed\b|\bi run my own\b",
    "blue_collar": r"我是(?:一个|个|一名|名)?(?:[\u4e00-\u9fff]{0,3})?(?:工人|外卖员|外卖骑手|骑手|快递员|司机|保安|保洁|电工|焊工|服务员)|我(?:是)?(?:送外卖|送快递|开货车|跑网约车)的?",
    "farmer": r"我(?:是)?(?:在家)?(?:务农|种地|种田|养殖)的?|我是(?:一个|个)?农民|\bi(?:'m| am) a farmer\b",
    "job_seeker": r"我(?:现在|目前|正|还|最近)*(?:在)?(?:找工作|待业|失业)|我(?:刚|最近|现在|已经)*失业|\bi(?:'m| am) (?:currently )?(?:unemployed|looking for (?:a )?(?:job|work))\b",
    "homemaker": r"我是(?:一个|个|一名|名)?(?:全职(?:妈妈|太太|主妇|爸爸)|家庭主妇)|\bi(?:'m| am) a (?:stay-at-home|homemaker|housewife)\b",
    "pregnant": r"我(?:现在|已经|刚|是)*(?:怀孕|孕妇|怀着孕|有身孕)|\bi(?:'m| am) (?:\w+ (?:months|weeks) )?pregnant\b",
    "disabled": r"我(?:是)?(?:一个|个|一名|名)?(?:残疾人|残障人士|视障|听障)|我(?:有|持有)残疾证",
    "veteran": r"我(?:是)?(?:一个|个|一名|名)?(?:退伍军人|退役军人|老兵)|\bi(?:'m| am) a (?:\w+ )?veteran\b",
    "new_customer": r"我(?:是)?(?:一个|个)?新(?:用户|客户|顾客|人用户)|我(?:是)?第一次(?:在你们|来你们|用你们|买|下单|办)|\bi(?:'m| am) a new customer\b|\bfirst[- ]time customer\b",
    "vip": r"我(?:也)?是(?:你们的?|你家的?)?(?:[\u4e00-\u9fff]{0,3})?(?:VIP|vip|贵宾|会员|金卡|白金卡|钻石卡)|\bi(?:'m| am) a (?:\w+ )?(?:vip|gold|platinum) (?:member|customer)\b",
}
CROWD_PATTERNS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in CROWD_RULES.items()}
QUOTES = r"[“「『\"]"
"""What is quoted is blanked out before the rules are tried, so these texts are always looked at."""
MAY_ADDRESS = r"先生|女士|小姐"
OF_OTHERS = re.compile(r"(?:不是|没有|不算|并非)[\u4e00-\u9fff]{0,2}$")


class TagUsers(OperatorConfig):
    """Tags the customer by age, gender, region and crowd, from metadata and plain statements."""

    fields: tuple[Field, ...] = FIELDS
    """Which tags to set; age sets age_band too."""
    as_of: date | None = None
    """Date that ages are counted to; default: the conversation's time (`meta.time`), else the version's date."""


@dataclass(frozen=True)
class Tag:
    """A tag's value, its source (code) and its evidence."""

    field: str
    value: str
    code: str
    turn: int | None
    start: int | None
    end: int | None
    before: str


@operator(
    kind="tag_users",
    version=1,
    scope="conversation",
    config=TagUsers,
    codes={
        "metadata": "the conversation's user object says so",
        "statement": "the user says so of themselves",
        "form_of_address": "the agent addresses the user so, and the user lets it stand",
        "origin": "where the user says to come from, when no residence is told",
        "derived": "follows from another tag: the band from the age, the province from the city",
    },
)
def tag_users(dialogues: Dialogues, config: TagUsers, resources: Resources) -> ConversationProposals:
    """Proposes the tags of each conversation's user."""
    text = pl.col("text")
    states = (pl.col("role") == "user") & text.str.contains(_may_state())
    addresses = (pl.col("role") == "assistant") & text.str.contains(MAY_ADDRESS)
    telling = dialogues.turns.filter(states | addresses).select("conversation", "turn", "role", "text")
    turns: dict[int, list[tuple[int, str, str]]] = {}
    for conversation, turn, role, content in telling.iter_rows():
        turns.setdefault(conversation, []).append((turn, role, content))
    rows = []
    for conversation, user, meta in dialogues.conversations.select("conversation", "user", "meta").iter_rows():
        if user is None and conversation not in turns:
            continue
        as_of = config.as_of or _time_of(meta) or resources.as_of
        rows += [
            (conversation, *astuple(tag))
            for tag in _tags(orjson.loads(user) if user else {}, turns.get(conversation, []), as_of)
            if tag.field in config.fields or (tag.field == "age_band" and "age" in config.fields)
        ]
    return ConversationProposals(tags=pl.DataFrame(rows, TAGS, orient="row"))


@lru_cache(maxsize=1)
def _may_state() -> str:
    """A sign that a turn states something: the rules as one expression of Rust's engine, which needs no look-around."""
    rules = [*AGES, *BIRTH_YEARS, DECADE, *GENDER, *CROWD_PATTERNS.values()]
    patterns = [rule.pattern for rule in rules]
    patterns += [place.format(places=r"[\u4e00-\u9fff]+") for place in (RESIDENCE, ORIGIN)]
    signs = [re.sub(r"\(\?P<\w+>", "(?:", _without_looking(pattern)) for pattern in patterns]
    return f"(?i){QUOTES}|" + "|".join(f"(?:{sign})" for sign in signs)


def _without_looking(pattern: str) -> str:
    """The pattern without look-around and word boundaries: it matches wherever the pattern does, and more."""
    kept, depth, index = [], 0, 0
    while index < len(pattern):
        if depth == 0 and pattern.startswith(("(?!", "(?="), index):
            depth = 1
            index += 3
        elif depth:
            depth += (pattern[index] == "(") - (pattern[index] == ")")
            index += 1
        elif pattern.startswith((r"\b", r"\s"), index):
            kept.append(r"\s\x1c-\x1f" if pattern[index + 1] == "s" else "")
            index += 2
        else:
            kept.append(pattern[index])
            index += 1
    return "".join(kept)


def age_band(age: int) -> str:
    """The band of an age in years."""
    low, high = next((low, high) for low, high in BANDS if low <= age <= high)
    return "65+" if low == 65 else f"{low}-{high}"


def _tags(user: Mapping[str, Any], turns: list[tuple[int, str, str]], as_of: date) -> Iterator[Tag]:
    """All tags of one user; of several sources for one field the best wins, of equals the latest statement."""
    stated = [tag for turn, role, text in turns for tag in _stated(turn, role, text, as_of)]
    order = {"statement": 2, "form_of_address": 1, "origin": 1}
    told = list(_from_metadata(user, as_of))
    best: dict[str, Tag] = {}
    for tag in sorted(stated, key=lambda tag: order[tag.code]):
        if tag.field != "crowd":
            best[tag.field] = tag
    metadata = {tag.field: tag for tag in told if tag.field != "crowd"}
    if "age" in best and "age_band" in metadata:
        del best["age"]
    best |= metadata
    yield from _consistent(best)
    crowds = {tag.value: tag for tag in [*stated, *told] if tag.field == "crowd"}
    yield from (crowds[name] for name in sorted(crowds))


def _consistent(best: dict[str, Tag]) -> Iterator[Tag]:
    """Adds what follows from a tag (band from age, province from city) and leaves out what contradicts."""
    places = gazetteer()
    if (age := best.get("age")) is not None:
        best["age_band"] = Tag("age_band", age_band(int(age.value)), "derived", None, None, None, f"age={age.value}")
    city, province = best.get("city"), best.get("province")
    region = places.find(city.value) if city else None
    if region is not None and city is not None:
        if province is None:
            best["province"] = Tag("province", region.province, "derived", None, None, None, f"city={city.value}")
        elif province.value != region.province:
            del best["city"]
    elif province is not None and (region := places.find(province.value)) and region.city:
        best["city"] = Tag("city", region.city, "derived", None, None, None, f"province={province.value}")
    if (province := best.get("province")) is not None and "country" not in best and places.find(province.value):
        best["country"] = Tag("country", CHINA, "derived", None, None, None, f"province={province.value}")
    yield from (best[name] for name in sorted(best))


def _from_metadata(user: Mapping[str, Any], as_of: date) -> Iterator[Tag]:
    """Tags of a user object; values that make no sense are unknown."""
    values = {name: user[key] for name, keys in METADATA_KEYS.items() for key in keys if user.get(key) is not None}

    def tag(field: str, value: str) -> Tag:
        shown = orjson.dumps(values.get(field, value)).decode()
        return Tag(field, value, "metadata", None, None, None, f"{field}={shown}")

    age = _integer(values.get("age"))
    birth_year = _integer(values.get("birth_year"))
    if age is None and birth_year is not None:
        age = as_of.year - birth_year
    if age is not None and 0 <= age <= MAX_AGE:
        yield tag("age", str(age))
    if (gender := GENDERS.get(str(values.get("gender", "")).strip().lower())) is not None:
        yield tag("gender", gender)
    city, province = values.get("city"), values.get("province")
    region = gazetteer().find(city) if isinstance(city, str) else None
    if isinstance(city, str) and city.strip():
        yield tag("city", region.city if region and region.city else city.strip())
    if isinstance(province, str) and province.strip():
        found = gazetteer().find(province)
        yield tag("province", found.province if found else province.strip())
    if isinstance(country := values.get("country"), str) and country.strip():
        yield tag("country", country.strip())
    crowds = values.get("crowd")
    for name in crowds if isinstance(crowds, list) else [crowds]:
        if isinstance(name, str) and (known := name if name in CROWDS else CROWDS_ZH.get(name.strip())):
            yield tag("crowd", known)


def _stated(turn: int, role: str, text: str, as_of: date) -> Iterator[Tag]:
    """Tags that one turn states."""
    plain = QUOTED.sub(lambda match: " " * len(match.group()), text)
    if role == "assistant":
        for match in ADDRESS.finditer(plain):
            yield _tag("gender", _gender(match), "form_of_address", turn, text, match)
        return
    for field, value, code, match in _statements(plain, as_of):
        clause = CLAUSE_END.split(plain[: match.start()])[-1] + match.group()
        following = CLAUSE_END.split(plain[match.end() :])[0]
        if HYPOTHESIS.search(_sentence(plain, match.start())) or OF_OTHERS.search(clause[: -len(match.group())]):
            continue
        if code == "statement" and field in ("province", "city") and TRIP.match(following):
            continue
        yield _tag(field, value, code, turn, text, match)


def _statements(text: str, as_of: date) -> Iterator[tuple[str, str, str, re.Match[str]]]:
    for match in (match for pattern in AGES for match in pattern.finditer(text)):
        age = _number(match.group("age"))
        if 1 <= age <= MAX_AGE:
            yield "age", str(age), "statement", match
    for match in (match for pattern in BIRTH_YEARS for match in pattern.finditer(text)):
        yield "age", str(as_of.year - int(match.group("year"))), "statement", match
    for match in DECADE.finditer(text):
        if (band := _band_of_decade(int(match.group("decade")), as_of.year)) is not None:
            yield "age_band", band, "statement", match
    for match in (match for pattern in GENDER for match in pattern.finditer(text)):
        yield "gender", _gender(match), "statement", match
    for code, pattern in zip(("statement", "origin"), _place_patterns(), strict=True):
        for match in pattern.finditer(text):
            region: Region | None = gazetteer().find(match.group("place"))
            if region is not None:
                yield "province", region.province, code, match
                if region.city is not None:
                    yield "city", region.city, code, match
    for name, pattern in CROWD_PATTERNS.items():
        for match in pattern.finditer(text):
            yield "crowd", name, "statement", match


def _place_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    names = gazetteer().pattern
    places = rf"(?:(?:{names})[省市]?)?(?:{names})"
    return re.compile(RESIDENCE.format(places=places)), re.compile(ORIGIN.format(places=places))


def _tag(field: str, value: str, code: str, turn: int, text: str, match: re.Match[str]) -> Tag:
    return Tag(field, value, code, turn, match.start(), match.end(), text[match.start() : match.end()])


def _gender(match: re.Match[str]) -> str:
    return "female" if match.group("female") else "male"


def _sentence(text: str, position: int) -> str:
    return re.split(r"[。！？!?；;\n]", text[:position])[-1]


def _band_of_decade(decade: int, year: int) -> str | None:
    """The band of people born in the five or ten years that a word such as 85后 names, if they share one."""
    first = decade + (1900 if decade >= 30 else 2000)
    last = first + (4 if decade % 10 == 5 else 9)
    bands = {age_band(age) for age in (year - first, year - last) if 0 <= age <= MAX_AGE}
    return bands.pop() if len(bands) == 1 else None


def _number(text: str) -> int:
    if text.isdecimal():
        return int(text)
    tens, _, ones = text.partition("十")
    return (NUMBER_ZH.index(tens) if tens else 1) * 10 + (NUMBER_ZH.index(ones) if ones else 0)


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if value == int(value) else None
    return int(value) if isinstance(value, str) and value.strip().isdecimal() and len(value) <= 4 else None


def _time_of(meta: str | None) -> date | None:
    """The date of a conversation, from `meta.time`: ISO 8601 or Unix seconds."""
    time = orjson.loads(meta).get("time") if meta else None
    try:
        if isinstance(time, str):
            return datetime.fromisoformat(time).date()
        if isinstance(time, int | float) and not isinstance(time, bool):
            return datetime.fromtimestamp(time, UTC).date()
    except (ValueError, OverflowError, OSError):
        return None
    return None
