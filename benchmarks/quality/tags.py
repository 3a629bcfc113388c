"""Tags of users: against gold of what customers say of themselves, the phone's region against a table of prefixes."""

import io
import random
import zipfile
from collections.abc import Iterator
from datetime import date

import orjson
import polars as pl

from benchmarks.quality.figures import DATA, ROOT, Figure
from curation.mixer import with_context
from curation.operator import Dialogues, Resources
from curation.operators.tag_users import TagUsers, tag_users
from curation.phones import region_of_phone
from curation.regions import gazetteer

GOLD = ROOT / "tests" / "gold" / "tag_users"
FILES = {"age": "age", "gender": "gender", "province": "place", "city": "place", "crowd": "crowd"}
AS_OF = date(2026, 11, 1)


def figures() -> Iterator[Figure]:
    for field, name in FILES.items():
        records = [orjson.loads(line) for line in (GOLD / f"{name}.jsonl").read_bytes().splitlines()]
        for part in ("develop", "measure"):
            mine = [record for record in records if record["part"] == part]
            expected = [values(record["user"], field) for record in mine]
            tagged = [values(tags, field) for tags in tag([record["messages"] for record in mine])]
            right = sum(len(want & got) for want, got in zip(expected, tagged, strict=True))
            size = f"{sum(map(bool, expected))} + {sum(not want for want in expected)}"
            yield Figure(f"{field}, {part} ({size}): precision", right / max(1, sum(map(len, tagged))), 0.97)
            yield Figure(f"{field}, {part}: recall", right / sum(map(len, expected)), 0.85)
    yield from phone_figures()


def values(tags: dict[str, object], field: str) -> set[object]:
    """A user's values of a field; an age stands for its band."""
    found = tags.get(field)
    if field == "age" and found is None:
        found = tags.get("age_band")
    if isinstance(found, list):
        return set(found)
    return set() if found is None else {found}


def tag(conversations: list[list[dict[str, str]]]) -> list[dict[str, object]]:
    """The tags of each conversation, through the operator as it runs."""
    rows = [
        (index, turn, message["role"], message["content"], None)
        for index, messages in enumerate(conversations)
        for turn, message in enumerate(messages)
    ]
    columns = {"conversation": pl.UInt32, "turn": pl.Int64, "role": pl.String, "text": pl.String, "weight": pl.Int64}
    schema = {"conversation": pl.UInt32, "id": pl.String, "line": pl.Int64, "user": pl.String, "meta": pl.String}
    table = pl.DataFrame([(i, str(i), i, None, None) for i in range(len(conversations))], schema, orient="row")
    dialogues = Dialogues(table, with_context(pl.DataFrame(rows, columns, orient="row")))
    users: list[dict[str, object]] = [{} for _ in conversations]
    for index, field, value in (
        tag_users(dialogues, TagUsers(), Resources(AS_OF)).tags.select("conversation", "field", "value").iter_rows()
    ):
        if field == "crowd":
            users[index].setdefault("crowd", []).append(value)  # type: ignore[attr-defined]
        else:
            users[index][field] = int(value) if field == "age" else value
    return users


def phone_figures(sample: int = 1_000) -> Iterator[Figure]:
    """How often a prefix of the table gets the table's city; a seeded sample."""
    with zipfile.ZipFile(DATA / "region" / "jionlp_phone_location.zip") as archive:
        lines = io.TextIOWrapper(archive.open("phone_location.txt"), "utf-8").read().splitlines()
    known: list[tuple[str, str]] = []
    place = ""
    for line in lines:
        if not line.startswith("\t"):
            place = line.split("\t")[0]
            continue
        _, head, tails = line.split("\t")
        for tail in tails.split(","):
            first, _, last = tail.partition("-")
            known += [(f"{head}{number:04d}", place) for number in range(int(first), int(last or first) + 1)]
    right = 0
    for prefix, named in random.Random(0).sample(known, sample):
        region = region_of_phone(f"{prefix}0000")
        right += region is not None and region == gazetteer().find(named.replace(" ", ""))
    yield Figure(f"phone: city of {sample} prefixes", right / sample, 0.95)
