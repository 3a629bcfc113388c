"""One order of rows for any number of ranks, and from any place on."""

from collections import Counter
from datetime import date
from itertools import islice, repeat
from pathlib import Path

import pytest

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.config import TrainConfig, parse_config
from trainer.data.batches import Batch, batches
from trainer.data.vectorising import vectorise
from trainer.data.vectors import Vectors, read_rows
from trainer.data.version import open_version

ROWS_PER_STEP, CAPACITY = 7, 192


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory, examples: Path) -> Vectors:
    """The examples in several segments."""
    folder = tmp_path_factory.mktemp("version")
    recipe = parse_recipe({"operators": [{"kind": "structure_dialogue"}]})
    curate([examples / "dialogues.jsonl"], folder, recipe=recipe, as_of=date(2026, 11, 1))
    data = {"version": "m", "max_source_length": 128, "max_target_length": 64, "segment_tokens": 3_000}
    config: TrainConfig = parse_config({"model": {"scratch": {"preset": "tiny"}}, "data": data})
    made = vectorise(open_version(str(folder / "manifest.json")), load_chat_tokenizer("deepseek"), config)
    assert len(made.train) > 4
    return made


def _steps(vectors: Vectors, world: int, steps: int, *, start: int = 0, seed: int = 3) -> list[list[tuple[int, ...]]]:
    """The rows of each step, all ranks' together, in an order of their own."""
    ranks = [
        batches(
            vectors, rows_of_steps=repeat(ROWS_PER_STEP), micro_rows=2, capacity=CAPACITY, seed=seed,
            start=start, rank=rank, world=world,
        )
        for rank in range(world)
    ]  # fmt: skip
    return [sorted(row for batch in step for row in _rows(batch)) for step in islice(zip(*ranks, strict=True), steps)]


def _rows(batch: Batch) -> list[tuple[int, ...]]:
    rows = [tuple(row.tolist()) for ids, _, _ in batch.micro_batches for row in ids]
    return [row for row in rows if any(row)]  # ranks with fewer rows are filled up with empty ones


@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_ranks_has_the_same_rows_in_each_step(vectors: Vectors, world: int) -> None:
    assert _steps(vectors, world, 30) == _steps(vectors, 1, 30)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3), (3, 2)])
def test_a_run_goes_on_in_the_middle_on_another_number_of_ranks(vectors: Vectors, before: int, after: int) -> None:
    done = 11
    head = _steps(vectors, before, done)
    tail = _steps(vectors, after, 30 - done, start=done * ROWS_PER_STEP)
    assert head + tail == _steps(vectors, 1, 30)


def test_all_ranks_have_as_many_micro_batches(vectors: Vectors) -> None:
    ranks = [
        batches(vectors, rows_of_steps=repeat(5), micro_rows=2, capacity=CAPACITY, seed=1, start=0, rank=rank, world=3)
        for rank in range(3)
    ]
    for step in islice(zip(*ranks, strict=True), 10):
        assert len({len(batch.micro_batches) for batch in step}) == 1
        assert len({(batch.tokens, batch.target_tokens, batch.segment) for batch in step}) == 1


def test_an_epoch_has_every_row_once_and_the_next_one_in_another_order(vectors: Vectors) -> None:
    stream = batches(
        vectors, rows_of_steps=repeat(1), micro_rows=1, capacity=CAPACITY, seed=1, start=0, rank=0, world=1
    )
    taken = [_rows(batch)[0] for batch in islice(stream, 2 * vectors.num_rows)]
    first, second = taken[: vectors.num_rows], taken[vectors.num_rows :]
    every = [tuple(row.ids.tolist()) for segment in vectors.train for row in read_rows(vectors, segment)]
    padded = Counter((*row, *[0] * (CAPACITY - len(row))) for row in every)
    assert Counter(first) == Counter(second) == padded
    assert first != second
