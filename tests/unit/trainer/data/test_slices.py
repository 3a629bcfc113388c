"""A slice by tags holds the conversations that statistics count under the same conditions."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from made_talks import conversations, make_version, settings, talk

from curation.statistics import tag_statistics
from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import ConfigError
from trainer.data.vectorising import vectorise
from trainer.data.version import DatasetVersion

TAGS = {
    "province": ["四川省", "浙江省", "北京市"],
    "gender": ["female", "male"],
    "age_band": ["25-34", "65+"],
    "crowd": ["parent", "vip", "student"],
}
NUM = 90


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    recipe = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}]}
    return make_version(tmp_path_factory.mktemp("made") / "v", _talks(), recipe, segment_bytes=20_000)


def _talks() -> Iterator[dict[str, object]]:
    rng = random.Random(3)
    for number in range(NUM):
        user: dict[str, object] = {tag: rng.choice(TAGS[tag]) for tag in ("province", "gender") if rng.random() < 0.7}
        if rng.random() < 0.6:
            user["age"] = rng.choice([30, 70])
        if rng.random() < 0.6:
            user["crowd"] = rng.sample(TAGS["crowd"], rng.randint(1, 2))
        yield talk(f"t{number}", **user)


conditions = st.lists(
    st.sampled_from([f"{tag}:{value}" for tag, values in TAGS.items() for value in [*values, "unknown"]]), max_size=4
)


@given(conditions)
@hypothesis(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_slice_has_what_statistics_count(version: DatasetVersion, where: list[str]) -> None:
    pairs = [(tag, value) for tag, _, value in (condition.partition(":") for condition in where)]
    segments = [version.folder / segment["path"] for segment in version.manifest["segments"]]
    counted = tag_statistics(segments, by=["gender"], where=pairs)["total"]
    assert len({row.id for row in version.conversations(where)}) == counted


def test_a_run_on_a_slice_learns_it_and_nothing_else(version: DatasetVersion, tmp_path: Path) -> None:
    chat = load_chat_tokenizer("deepseek")
    where = ["province:四川省", "province:unknown", "crowd:vip"]
    made = vectorise(version, chat, settings(version, tmp_path, where=where))
    wanted = {row.conversation_id for row in version.conversations(where)}
    assert {*conversations(made), *conversations(made, "validation")} == wanted
    assert 0 < len(wanted) < NUM
    again = vectorise(version, chat, settings(version, tmp_path, where=[*reversed(where), where[0]]))
    assert again.reused, "the same conditions in another order are the same slice"


def test_a_slice_holds_out_what_the_whole_version_holds_out(version: DatasetVersion, tmp_path: Path) -> None:
    chat = load_chat_tokenizer("deepseek")
    whole = vectorise(version, chat, settings(version, tmp_path))
    sliced = vectorise(version, chat, settings(version, tmp_path, where=["gender:female"]))
    assert not set(conversations(whole, "validation")) & set(conversations(sliced))


def test_a_slice_of_nothing_is_refused_by_its_setting(version: DatasetVersion, tmp_path: Path) -> None:
    chat = load_chat_tokenizer("deepseek")
    with pytest.raises(ConfigError, match=r"^data\.where: .*province:西藏自治区"):
        vectorise(version, chat, settings(version, tmp_path, where=["province:西藏自治区"]))
    mix = [{"version": str(version.folder / "manifest.json"), "weight": 1, "where": ["country:无"]}]
    with pytest.raises(ConfigError, match=r"^data\.mix\.0\.where: "):
        vectorise(version, chat, settings(version, tmp_path, mix=mix))


def test_windows_of_a_sliced_conversation_know_which_is_the_last(tmp_path: Path) -> None:
    truncate = {"kind": "truncate_history", "mode": "windows", "max_source_length": 128, "max_target_length": 64}
    recipe = {"operators": [{"kind": "structure_dialogue"}, {"kind": "tag_users"}, truncate]}
    lines = [talk(f"t{number}", turns=6, gender=("female", "male")[number % 2]) for number in range(6)]
    version = make_version(tmp_path / "v", lines, recipe)
    sliced = {row.id: row.has_later_window for row in version.conversations(["gender:male"])}
    whole = {row.id: row.has_later_window for row in version.conversations()}
    assert len(sliced) > 6
    assert sliced == {name: later for name, later in whole.items() if name in sliced}
    assert len(list(islice(version.conversations(["gender:male", "gender:female"]), 100))) == len(whole)
