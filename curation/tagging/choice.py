"""Which of a user's claims become tags: metadata before statements before the phone; of equals the latest."""

from collections.abc import Iterable, Iterator

from curation.regions import CHINA, gazetteer
from curation.tagging.ages import age_band
from curation.tagging.claims import Tag

RANK = {"phone": 0, "origin": 1, "form_of_address": 1, "statement": 2, "metadata": 3}
UNREADABLE = "unreadable"
"""Code of a claim that says nothing: it is told in the trace and sets no tag."""


def choose(claims: Iterable[Tag]) -> Iterator[Tag]:
    """The tags, by field; crowds of all sources are united, and what could not be read is passed on."""
    best: dict[str, Tag] = {}
    crowds: dict[str, Tag] = {}
    unreadable = []
    for tag in claims:
        if tag.code == UNREADABLE:
            unreadable.append(tag)
        elif tag.field == "crowd":
            crowds[tag.value] = tag
        elif tag.field not in best or RANK[tag.code] >= RANK[best[tag.field].code]:
            best[tag.field] = tag
    _choose_age(best)
    _fit_places(best)
    yield from (best[name] for name in sorted(best))
    yield from (crowds[name] for name in sorted(crowds))
    yield from unreadable


def _choose_age(best: dict[str, Tag]) -> None:
    """An exact age gives the band; a band of a better source puts a worse one's age aside."""
    age, band = best.get("age"), best.get("age_band")
    if age is not None and band is not None and RANK[band.code] > RANK[age.code]:
        del best["age"]
    elif age is not None:
        best["age_band"] = _derived("age_band", age_band(int(age.value)), age)


def _fit_places(best: dict[str, Tag]) -> None:
    """Province from city, country from province; a city of another province than the known one goes."""
    places = gazetteer()
    city, province = best.get("city"), best.get("province")
    if city is not None and (region := places.find(city.value)) is not None:
        if province is None:
            best["province"] = _derived("province", region.province, city)
        elif province.value != region.province:
            if RANK[city.code] > RANK[province.code]:
                best["province"] = _derived("province", region.province, city)
            else:
                del best["city"]
    elif city is not None and city.code != "metadata" and province is not None:
        del best["city"]
    province = best.get("province")
    region = places.find(province.value) if province is not None else None
    if province is None or region is None:
        return
    if "city" not in best and region.city is not None:
        best["city"] = _derived("city", region.city, province)
    if "country" not in best or (best["country"].code != "metadata" and best["country"].value != CHINA):
        best["country"] = _derived("country", CHINA, province)


def _derived(field: str, value: str, source: Tag) -> Tag:
    return Tag(field, value, "derived", None, None, None, f"{source.field}={source.value}")
