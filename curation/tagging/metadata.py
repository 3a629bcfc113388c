"""Tags of the user object that came with a conversation; values that make no sense are unknown, and said to be."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import orjson

from curation.phones import region_of_phone
from curation.regions import CHINA, gazetteer
from curation.tagging.ages import BANDS, MAX_AGE, age_band
from curation.tagging.claims import Tag
from curation.tagging.crowds import CROWDS

KEYS = {
    "age": ("age", "年龄"),
    "age_band": ("age_band", "年龄段"),
    "birth_year": ("birth_year", "出生年份", "出生年", "birthday", "生日", "出生日期"),
    "gender": ("gender", "sex", "性别"),
    "province": ("province", "省份", "省"),
    "city": ("city", "城市", "市"),
    "country": ("country", "国家"),
    "crowd": ("crowd", "人群", "标签"),
    "phone": ("phone", "手机", "手机号", "电话", "mobile"),
}
GENDERS = {
    **dict.fromkeys(("female", "f", "woman", "girl", "女", "女性", "女士", "女生", "女的"), "female"),
    **dict.fromkeys(("male", "m", "man", "boy", "男", "男性", "先生", "男士", "男生", "男的"), "male"),
}
COUNTRIES = dict.fromkeys(("中国", "china", "cn", "中华人民共和国", "prc", "中国大陆"), CHINA)
CROWDS_ZH = {
    "学生": "student", "大学生": "student", "家长": "parent", "宝妈": "parent", "宝爸": "parent", "老人": "senior", "老年人": "senior",
    "退休": "senior", "退休人员": "senior", "白领": "office_worker", "上班族": "office_worker", "个体户": "self_employed", "自由职业": "self_employed",
    "工人": "blue_collar", "蓝领": "blue_collar", "农民": "farmer", "求职者": "job_seeker", "家庭主妇": "homemaker", "全职妈妈": "homemaker", "孕妇": "pregnant",
    "残疾人": "disabled", "退伍军人": "veteran", "退役军人": "veteran", "新客户": "new_customer", "新用户": "new_customer", "会员": "vip", "贵宾": "vip",
}  # fmt: skip


def told_by_metadata(user: Mapping[str, Any], as_of: date, own_crowds: frozenset[str] = frozenset()) -> Iterator[Tag]:
    """Tags of a user object; `own_crowds` are names that the recipe's rules add."""
    values = {name: user[key] for name, keys in KEYS.items() for key in keys if user.get(key) not in (None, "", [])}

    def tag(field: str, value: str, code: str = "metadata", name: str | None = None) -> Tag:
        shown = orjson.dumps(values[name or field]).decode()
        return Tag(field, value, code, None, None, None, f"{name or field}={shown}")

    yield from _age(values, as_of, tag)
    if "gender" in values:
        gender = GENDERS.get(str(values["gender"]).strip().lower())
        yield tag("gender", gender or "", "metadata" if gender else "unreadable")
    yield from _region(values, tag)
    crowds = values.get("crowd")
    names = crowds if isinstance(crowds, list) else str(crowds).replace("，", ",").split(",") if crowds else []
    for one in names:
        name = one.strip() if isinstance(one, str) else ""
        known = name if name in CROWDS or name in own_crowds else CROWDS_ZH.get(name)
        yield tag("crowd", known or "", "metadata" if known else "unreadable")


def told_by_phone(user: Mapping[str, Any]) -> Iterator[Tag]:
    """The region of the user's own phone number."""
    phone = next((user[key] for key in KEYS["phone"] if user.get(key) not in (None, "")), None)
    if phone is None:
        return
    shown = "phone=[…]"  # the number itself is nothing that a trace should show
    region = region_of_phone(phone)
    if region is None:
        yield Tag("province", "", "unreadable", None, None, None, shown)
    else:
        yield Tag("province", region.province, "phone", None, None, None, shown)
        if region.city is not None:
            yield Tag("city", region.city, "phone", None, None, None, shown)


def _age(values: Mapping[str, Any], as_of: date, tag: Any) -> Iterator[Tag]:
    if "age" in values:
        age = _integer(values["age"])
        if age is not None and 0 <= age <= MAX_AGE:
            yield tag("age", str(age))
            return
        yield tag("age", "", "unreadable")
    if "birth_year" in values:
        born = _integer(str(values["birth_year"])[:4]) if values["birth_year"] is not True else None
        if born is not None and 0 <= as_of.year - born <= MAX_AGE:
            yield tag("age", str(as_of.year - born), name="birth_year")
            return
        yield tag("age", "", "unreadable", "birth_year")
    if "age_band" in values:
        band = str(values["age_band"]).strip()
        known = any(band == age_band(low) for low, _ in BANDS)
        yield tag("age_band", band if known else "", "metadata" if known else "unreadable")


def _region(values: Mapping[str, Any], tag: Any) -> Iterator[Tag]:
    """Official names for China, else as given."""
    for field in ("province", "city"):
        value = values.get(field)
        if value is None:
            continue
        if not isinstance(value, str) or not value.strip() or value.strip().isdecimal():
            yield tag(field, "", "unreadable")
            continue
        region = gazetteer().find(value) or gazetteer().romanised.get(value.strip().lower())
        if field == "province":
            yield tag("province", region.province if region else value.strip())
        else:
            yield tag("city", region.city if region and region.city else value.strip())
    country = values.get("country")
    if isinstance(country, str) and country.strip():
        yield tag("country", COUNTRIES.get(country.strip().lower(), country.strip()))
    elif country is not None:
        yield tag("country", "", "unreadable")


def _integer(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return int(value) if abs(value) < 1e6 and value == int(value) else None
    text = value.strip().removesuffix("周岁").removesuffix("岁").removesuffix("年") if isinstance(value, str) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 4 else None
