"""Versions mixed in: their share of every step, one order for all ranks, a row of one source only."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice, repeat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st
from made_talks import conversations, make_version, settings, talk

from trainer.chat_tokenizer import load_chat_tokenizer
from trainer.data.batches import Address, Batch, batches
from trainer.data.vectorising import vectorise
from trainer.data.vectors import Vectors, hand_over, take_over
from trainer.recovery.detours import NO_DETOURS, Detour, Detours

WEIGHTS = (0.5, 2.0)
ROWS = 6


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> Vectors:
    """A main version, one of which an epoch takes a part, and one of which it takes rows more than once."""
    folder = tmp_path_factory.mktemp("made")
    main, large, little = (
        make_version(folder / name, [talk(f"{name}-{number}") for number in range(size)])
        for name, size in (("main", 120), ("large", 200), ("little", 30))
    )
    mix = [
        {"version": str(version.folder), "weight": weight}
        for version, weight in zip((large, little), WEIGHTS, strict=True)
    ]
    config = settings(main, folder / "cache", mix=mix, segment_tokens=4_000, validation_share=0)
    made = vectorise(main, load_chat_tokenizer("deepseek"), config)
    assert hand_over(made, folder)
    assert hand_over(made, folder)
    assert take_over(folder) == made
    assert not hand_over(replace(made, rows_an_epoch=(1, 1, 1)), folder)
    return made


def stream(vectors: Vectors, rank: int, world: int, start: int, detours: Detours = NO_DETOURS) -> Iterator[Batch]:
    return batches(
        vectors, rows_of_steps=repeat(ROWS), micro_rows=2, capacity=800, seed=4, start=start, rank=rank, world=world,
        detours=detours,
    )  # fmt: skip


def rows(vectors: Vectors, steps: int, world: int = 1, start: int = 0, detours: Detours = NO_DETOURS) -> list[Address]:
    """The addresses of the rows in their order, taken by so many ranks."""
    ranks = [stream(vectors, rank, world, start, detours) for rank in range(world)]
    taken = []
    for step in islice(zip(*ranks, strict=True), steps):
        own = [[address for micro in batch.addresses for address in micro] for batch in step]
        taken += [own[index % world][index // world] for index in range(ROWS)]
    return taken


@pytest.mark.parametrize("world", [2, 3, 5])
def test_any_number_of_ranks_has_the_same_order_and_goes_on_in_it(vectors: Vectors, world: int) -> None:
    steps = 3 * vectors.num_rows // ROWS
    whole = rows(vectors, steps)
    assert rows(vectors, steps, world) == whole
    for done in (1, steps // 3, steps - 5):
        assert rows(vectors, steps - done, world, start=done * ROWS) == whole[done * ROWS :]


def test_an_epoch_has_the_weights_in_tokens_and_all_of_the_main_version(vectors: Vectors) -> None:
    tokens = [0.0, 0.0, 0.0]
    seen: list[list[Address]] = [[], [], []]
    for batch in islice(stream(vectors, 0, 1, 0), vectors.num_rows // ROWS):
        for (ids, _, _), addresses, sources in zip(batch.micro_batches, batch.addresses, batch.sources, strict=True):
            for row, address, source in zip(ids, addresses, sources, strict=True):
                tokens[source] += int((row != 0).sum())
                seen[source].append(address)
    for weight, own in zip(WEIGHTS, tokens[1:], strict=True):
        assert own / tokens[0] == pytest.approx(weight, rel=0.1)
    main = {(segment.path, place) for segment in vectors.train if segment.source == 0 for place in range(segment.rows)}
    assert len(set(seen[0])) == len(seen[0]) >= len(main) - ROWS
    assert len(set(seen[1])) == len(seen[1]), "of a large one no row comes twice before all have come"
    assert max(seen[2].count(address) for address in seen[2]) - min(seen[2].count(a) for a in set(seen[2])) <= 1
    assert [name.split("#")[0] for name in vectors.sources] == ["version"] * 3
    assert len(set(vectors.sources)) == 3


def test_the_next_epoch_goes_on_in_a_large_version(vectors: Vectors) -> None:
    num_rows = sum(segment.rows for segment in vectors.train if segment.source == 1)
    epochs = num_rows // vectors.rows_an_epoch[1]
    assert epochs >= 2
    taken = [address for address in rows(vectors, epochs * vectors.num_rows // ROWS) if address[0].startswith("mix-1")]
    assert len(set(taken)) == len(taken)


def test_every_step_has_its_share_and_every_row_one_source(vectors: Vectors) -> None:
    share = vectors.rows_an_epoch[2] / vectors.num_rows
    for batch in islice(stream(vectors, 0, 1, 0), 40):
        of_step = [source for sources in batch.sources for source in sources]
        assert abs(of_step.count(2) - share * ROWS) <= 2
    for source, name in enumerate(("main", "large", "little")):
        assert {named.split("-")[0] for named in conversations(vectors, source=source)} == {name}


@given(st.sets(st.integers(0, 60), max_size=8), st.integers(0, 40), st.integers(0, 9), st.sampled_from([1, 2, 3]))
@hypothesis(max_examples=15, deadline=None)
def test_what_is_left_out_of_any_source_leaves_the_others_their_order(
    vectors: Vectors, out: set[int], from_row: int, done: int, world: int
) -> None:
    steps = 12
    plain = rows(vectors, steps + 15)
    gone = {plain[index] for index in out if index >= from_row}
    detours = Detours((Detour(from_row, rows=dict.fromkeys(gone)),))
    found = rows(vectors, steps, detours=detours)
    wanted = plain[:from_row] + [address for address in plain[from_row:] if address not in gone]
    assert found == wanted[: len(found)]
    assert rows(vectors, steps - done, world, done * ROWS, detours) == found[done * ROWS :]


def test_rows_of_one_sample_are_padded_and_say_how_full_they_are(tmp_path: Path) -> None:
    version = make_version(tmp_path / "v", [talk(f"t{number}", turns=1 + number % 4) for number in range(60)])
    chat = load_chat_tokenizer("deepseek")
    packed = vectorise(version, chat, settings(version, tmp_path / "c"))
    single = vectorise(version, chat, settings(version, tmp_path / "c", packing=False))
    assert sorted(conversations(single)) == sorted(conversations(packed))
    samples = sum(segment.samples for segment in single.train)
    tokens = sum(segment.tokens for segment in single.train)
    assert single.num_rows == samples > packed.num_rows
    assert single.facts["fill"] == pytest.approx(tokens / (800 * samples), abs=1e-4)
    assert single.facts["fill"] < 0.5 < packed.facts["fill"]
    for batch in islice(stream(single, 0, 1, 0), 5):
        for ids, positions, labels in batch.micro_batches:
            for row, places, label in zip(ids, positions, labels, strict=True):
                length = int((row != 0).sum())
                assert places[:length].tolist() == list(range(length))
                assert (label[length - 1 :] == -100).all()
                assert (label[:length] != -100).any()
