"""Official names of China's provinces and cities, and the short forms that people use."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).parent / "lexicons" / "regions.json"
ROMANISED = TABLE.with_name("romanised_regions.json")
MUNICIPALITIES = ("北京市", "天津市", "上海市", "重庆市")
_PROVINCE_ENDINGS = re.compile(r"(?:维吾尔自治区|壮族自治区|回族自治区|自治区|特别行政区|省|市)$")
_CITY_ENDINGS = re.compile(r"(?:(?:[\u4e00-\u9fff]{1,3}族)+自治州|自治州|地区|盟|市)$")
CHINA = "中国"


@dataclass(frozen=True)
class Region:
    """A place: a province, or a city in its province."""

    province: str
    city: str | None = None


@dataclass(frozen=True)
class Gazetteer:
    """Every name under which a place is known, and an expression that finds the longest of them."""

    places: dict[str, Region]
    pattern: str
    longest: int
    """Characters of the longest name."""
    firsts: frozenset[str]
    """The characters that names begin with."""
    romanised: dict[str, Region]
    """Places by their names in Latin letters, in lower case."""

    def read(self, text: str, start: int) -> tuple[Region, int] | None:
        """The place named at `start` of a text and where its name ends; 四川省成都市 and 山东烟台 are read as one."""
        if text[start : start + 1] not in self.firsts:
            return None
        name = self._name_at(text, start)
        if name is None:
            return None
        region, end = self.places[name], start + len(name)
        after = end + (text[end : end + 1] in ("省", "市"))
        after += text[after : after + 1] in (" ", "，") and self._name_at(text, after + 1) is not None
        inner = self._name_at(text, after)
        if (
            inner is not None
            and self.places[inner].province == region.province
            and region.city in (None, region.province)
        ):
            return self.places[inner], after + len(inner)
        return region, end + (text[end : end + 1] in ("省", "市") and not name.endswith(("省", "市")))

    def _name_at(self, text: str, start: int) -> str | None:
        """The longest name that stands at `start`."""
        lengths = range(min(self.longest, len(text) - start), 1, -1)
        return next((text[start : start + n] for n in lengths if text[start : start + n] in self.places), None)

    def find(self, name: str) -> Region | None:
        """The place of a name as people write it: 四川, 四川省, 成都, 四川成都, 四川省成都市."""
        name = name.strip()
        if name in self.places:
            return self.places[name]
        match = re.match(rf"({self.pattern})[省市]?\s*({self.pattern})$", name)
        if match is None:
            return None
        outer, inner = self.places[match.group(1)], self.places[match.group(2)]
        return inner if inner.province == outer.province else None


@lru_cache(maxsize=1)
def gazetteer() -> Gazetteer:
    """The table of places; a short form that names both a province and a city is the province."""
    table: dict[str, dict[str, list[str]]] = json.loads(TABLE.read_text("utf-8"))
    places: dict[str, Region] = {}
    for province, cities in table.items():
        for city, counties in cities.items():
            region = Region(province, city)
            for name in (city, _CITY_ENDINGS.sub("", city), *counties, *(county[:-1] for county in counties)):
                if len(name) > 1:
                    places.setdefault(name, region)
    for province in table:
        region = Region(province, province if province in MUNICIPALITIES else None)
        for name in (province, _PROVINCE_ENDINGS.sub("", province)):
            places[name] = region
    places["内蒙"] = places["内蒙古"]
    names = sorted(places, key=len, reverse=True)
    romanised = {latin: places[name] for latin, name in json.loads(ROMANISED.read_text("utf-8")).items()}
    return Gazetteer(
        places, "|".join(map(re.escape, names)), len(names[0]), frozenset(name[0] for name in names), romanised
    )
