"""Official names of China's provinces and cities, and the short forms that people use."""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

TABLE = Path(__file__).parent / "lexicons" / "regions.json"
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
    names = sorted(places, key=len, reverse=True)
    return Gazetteer(places, "|".join(map(re.escape, names)))
