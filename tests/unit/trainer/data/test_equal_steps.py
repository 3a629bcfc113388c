"""Runs that count conversations learn the same replies in the same steps, whatever their lengths."""

from itertools import groupby, repeat

import numpy as np
import pytest
from made_talks import make_version, talk

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError, TrainConfig, parse_config
from trainer.data.batches import Batch, batches
from trainer.data.vectorising import vectorise
from trainer.data.vectors import Vectors
from trainer.data.version import DatasetVersion
from trainer.schedule import Schedule, resolve

STEPS = 40


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    """Dialogues of 1 to 12 replies, the longest far beyond the shorter lengths."""
    return make_version(tmp_path_factory.mktemp("made") / "long", [talk(f"t{n}", turns=1 + n % 12) for n in range(120)])


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return load_chat_tokenizer("deepseek")


def _settings(version: DatasetVersion, *, length: int, packing: bool = True, **batch: object) -> TrainConfig:
    data = {
        "version": str(version.folder / "manifest.json"), "max_source_length": length, "max_target_length": 64,
        "min_history_ratio": 1.0, "packing": packing,
    }  # fmt: skip
    return parse_config(
        {"model": {"scratch": {"preset": "tiny"}}, "data": data, "batch": {"by": "conversations", **batch}}
    )


def _batches(vectors: Vectors, config: TrainConfig, world: int = 1) -> list[list[Batch]]:
    """Of each step, the ranks' parts."""
    ranks = [
        batches(
            vectors, rows_of_steps=repeat(3, STEPS), micro_rows=2, capacity=config.row_tokens, seed=5, start=0,
            rank=rank, world=world,
        )
        for rank in range(world)
    ]  # fmt: skip
    return [list(step) for step in zip(*ranks, strict=True)]


def _replies(step: list[Batch]) -> list[tuple[int, ...]]:
    """What a step learns, reply by reply, in an order of their own."""
    found = []
    for batch in step:
        for _, _, labels in batch.micro_batches:
            for row in labels.tolist():
                runs = groupby(row, key=lambda label: label != -100)
                found += [tuple(run) for is_learned, run in runs if is_learned]
    return sorted(found)


@pytest.mark.parametrize("packing", [True, False])
def test_steps_learn_the_same_replies_at_every_length(
    version: DatasetVersion, chat: ChatTokenizer, packing: bool
) -> None:
    configs = [_settings(version, length=length, packing=packing) for length in (96, 160, 1024)]
    vectors = [vectorise(version, chat, config) for config in configs]
    assert len({one.facts["samples"] for one in vectors}) == 3, "the lengths cut the dialogues differently"
    steps = [_batches(one, config) for one, config in zip(vectors, configs, strict=True)]
    replies = [[_replies(step) for step in of_length] for of_length in steps]
    assert replies[0] == replies[1] == replies[2]
    assert sum(map(len, replies[0])) > 400
    tokens = [sum(step[0].tokens for step in of_length) for of_length in steps]
    assert tokens[0] < tokens[1] and tokens[2] != tokens[0]
    resolved = [
        resolve(config, num_rows=one.num_rows, num_gpus=0) for config, one in zip(configs, vectors, strict=True)
    ]
    assert len({one.run.max_steps for one in resolved}) == 1
    schedules = [Schedule.of(config, one.num_rows) for config, one in zip(resolved, vectors, strict=True)]
    assert len({tuple(schedule.learning_rate(row) for row in range(0, 100, 7)) for schedule in schedules}) == 1


def test_rows_are_packed_within_their_capacity(version: DatasetVersion, chat: ChatTokenizer) -> None:
    config = _settings(version, length=160)
    for (batch,) in _batches(vectorise(version, chat, config), config):
        filled = [int((ids != 0).sum()) for micro in batch.micro_batches for ids in micro[0]]
        assert max(filled) <= config.row_tokens
        assert sum(int((micro[2] != -100).sum()) for micro in batch.micro_batches) == batch.target_tokens


def test_any_number_of_ranks_learns_the_same_in_each_step(version: DatasetVersion, chat: ChatTokenizer) -> None:
    config = _settings(version, length=96)
    vectors = vectorise(version, chat, config)
    alone, three = _batches(vectors, config), _batches(vectors, config, world=3)
    assert [_replies(step) for step in alone] == [_replies(step) for step in three]
    assert all(len({len(batch.micro_batches) for batch in step}) == 1 for step in three)


def test_seeds_of_a_comparison_hold_out_the_same(version: DatasetVersion, chat: ChatTokenizer) -> None:
    def held_out(seed: int, validation_seed: int | None) -> list[str]:
        config = _settings(version, length=96)
        data = config.data.model_copy(update={"validation_seed": validation_seed})
        config = config.model_copy(update={"data": data, "run": config.run.model_copy(update={"seed": seed})})
        vectors = vectorise(version, chat, config)
        return [segment.sha256 for segment in vectors.validation]

    assert held_out(1, 7) == held_out(2, 7)
    assert held_out(1, None) != held_out(2, None)


def test_a_step_counts_one_thing(version: DatasetVersion) -> None:
    with pytest.raises(ConfigError, match="it has no tokens and no ramp"):
        _settings(version, length=96, tokens=4096)
    assert np.isfinite(Schedule.of(resolve(_settings(version, length=96), num_rows=9, num_gpus=0), 9).peak_lr)
