"""Rows and samples that are left out from some place on: the order of the others is what it was."""

from datetime import date
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import parse_config
from trainer.data.batches import Address, batches
from trainer.data.vectorising import vectorise
from trainer.data.vectors import Vectors, read_rows
from trainer.data.version import open_version
from trainer.records import TrainingError, append_line
from trainer.recovery.detours import RECOVERIES, Detour, Detours, read_detours

CAPACITY, SEED = 192, 5
NONE = Detours()


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Vectors:
    folder = tmp_path_factory.mktemp("version")
    recipe = parse_recipe({"operators": [{"kind": "structure_dialogue"}]})
    curate([examples / "dialogues.jsonl"], folder, recipe=recipe, as_of=date(2026, 11, 1))
    data = {"version": "m", "max_source_length": 128, "max_target_length": 64, "segment_tokens": 3_000}
    config = parse_config({"model": {"scratch": {"preset": "tiny"}}, "data": data})
    return vectorise(open_version(str(folder / "manifest.json")), load_chat_tokenizer("deepseek"), config)


def order(vectors: Vectors, count: int, detours: Detours = NONE, *, world: int = 1, start: int = 0) -> list[Address]:
    """Addresses of the next `count` rows, taken by `world` ranks of one row a step each."""
    ranks = [
        batches(
            vectors, rows_of_steps=repeat(world), micro_rows=1, capacity=CAPACITY, seed=SEED, start=start, rank=rank,
            world=world, detours=detours,
        )
        for rank in range(world)
    ]  # fmt: skip
    steps = islice(zip(*ranks, strict=True), -(-count // world))
    return [batch.addresses[0][0] for step in steps for batch in step][:count]


def test_a_segment_left_out_from_some_row_on_is_not_seen_any_more_and_the_others_keep_their_order(
    vectors: Vectors,
) -> None:
    plain = order(vectors, 3 * vectors.num_rows)
    from_row = 10
    bad = plain[from_row + 2][0]
    found = order(vectors, 2 * vectors.num_rows, Detours((Detour(from_row, frozenset({bad})),)))
    wanted = plain[:from_row] + [address for address in plain[from_row:] if address[0] != bad]
    assert found == wanted[: len(found)]


@given(
    st.lists(st.tuples(st.integers(0, 120), st.sets(st.integers(0, 119), max_size=6)), max_size=3),
    st.integers(0, 150), st.integers(1, 3),
)  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_any_detours_are_the_same_from_any_place_on_and_on_any_number_of_ranks(
    vectors: Vectors, given_detours: list[tuple[int, set[int]]], start: int, world: int
) -> None:
    plain = order(vectors, vectors.num_rows)
    detours = Detours(
        tuple(
            Detour(from_row, rows=dict.fromkeys([plain[at % len(plain)] for at in places]))
            for from_row, places in given_detours
        )
    )
    whole = order(vectors, 200, detours)
    assert order(vectors, 200 - start, detours, world=world, start=start) == whole[start:]
    out = {row: detour.from_row for detour in detours.all for row in detour.rows}
    assert all(index < out.get(row, 10**9) for index, row in enumerate(whole))


def test_a_sample_taken_out_leaves_its_row_the_others(vectors: Vectors) -> None:
    segment, place, row = next(
        (segment, place, row)
        for segment in vectors.train
        for place, row in enumerate(read_rows(vectors, segment))
        if len(row.lengths) > 1
    )
    detours = Detours((Detour(0, rows={(segment.path, place): frozenset({1})}),))
    stream = batches(
        vectors,
        rows_of_steps=repeat(1),
        micro_rows=1,
        capacity=CAPACITY,
        seed=SEED,
        start=0,
        rank=0,
        world=1,
        detours=detours,
    )
    batch = next(batch for batch in stream if batch.addresses[0][0] == (segment.path, place))
    first, second = int(row.lengths[0]), int(row.lengths[1])
    kept = np.concatenate([row.ids[:first], row.ids[first + second :]])
    assert batch.tokens == len(kept)
    assert batch.micro_batches[0][0][0, : len(kept)].tolist() == kept.tolist()
    assert batch.target_tokens == int(row.is_target.sum() - row.is_target[first : first + second].sum())
    assert int((batch.micro_batches[0][2] != -100).sum()) == batch.target_tokens


def test_leaving_out_everything_is_an_error_and_not_a_run_without_end(vectors: Vectors) -> None:
    every = frozenset(segment.path for segment in vectors.train)
    with pytest.raises(TrainingError, match="no row is left"):
        order(vectors, 5, Detours((Detour(0, every),)))


def test_detours_are_kept_and_a_rollback_behind_an_older_one_takes_it_along(tmp_path: Path) -> None:
    assert read_detours(tmp_path) == NONE
    old = Detour(90, frozenset({"train-00001.arrow"}), {("train-00002.arrow", 4): frozenset({0, 2})})
    new = Detour(40, rows={("train-00000.arrow", 1): None})
    for entry in ({"detour": old.as_json()}, {"action": "went on"}, {"detour": new.as_json()}):
        append_line(tmp_path / RECOVERIES, entry)
    detours = read_detours(tmp_path)
    assert detours == Detours((old,)).with_one_more(new)
    assert detours.leaves_out("train-00001.arrow", 0, 40)
    assert not detours.leaves_out("train-00001.arrow", 0, 39)
    assert detours.samples_out("train-00002.arrow", 4, 40) == {0, 2}
