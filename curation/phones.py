"""Where a mainland mobile number was issued: its first seven digits name province and city.

The data is `phone.dat` of the package `phone` (ls0f/phone, MIT; 499,527 prefixes, December 2023). It is read here, as
the package's own reader unpacks the file anew at each look-up: header `<4si` (version, offset of the index), records
`province|city|postcode|area code` that end in NUL, an index of `<iiB` (prefix, offset of the record, carrier).
"""

import re
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from curation.regions import Region, gazetteer

NUMBER = re.compile(r"(?:\+?86|0086)?(1[3-9]\d{9})")
INDEX = np.dtype([("prefix", "<i4"), ("record", "<i4"), ("carrier", "u1")])


def region_of_phone(number: object) -> Region | None:
    """The region of a mainland mobile number as people write it; None where it is none or its prefix is not known."""
    if isinstance(number, bool) or not isinstance(number, str | int):
        return None
    match = NUMBER.fullmatch(re.sub(r"[\s\-()（）]", "", str(number)))
    return _region(int(match.group(1)[:7])) if match else None


@lru_cache(maxsize=65_536)
def _region(prefix: int) -> Region | None:
    content, index = _data()
    place = int(np.searchsorted(index["prefix"], prefix))
    if place >= len(index) or index["prefix"][place] != prefix:
        return None
    start = int(index["record"][place])
    province, city, *_ = content[start : content.index(b"\0", start)].decode().split("|")
    return gazetteer().find(province + city) or gazetteer().find(city) or gazetteer().find(province)


@lru_cache(maxsize=1)
def _data() -> tuple[bytes, NDArray[np.void]]:
    spec = find_spec("phone")
    assert spec is not None and spec.origin is not None, "the package phone is a dependency"
    content = (Path(spec.origin).parent / "phone.dat").read_bytes()
    return content, np.frombuffer(content, INDEX, offset=int.from_bytes(content[4:8], "little"))
