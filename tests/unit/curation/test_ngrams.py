"""N-grams and their sums, against plain Python; the classifier's form of a model, against fastText itself."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curation import classifier_fitting, text_blocks
from curation.classifier import Classifier
from curation.classifier_fitting import choose_ngrams, fit, fit_temperature
from curation.classifier_training import Hyperparameters
from curation.ngrams import NgramTable, Reading, _blocks, fold, prepare

MASK = (1 << 64) - 1
ROOT, INSIDE, FACTOR = 0x243F6A8885A308D3, 0x13198A2E03707344, 0x9E3779B97F4A7C15
ODD = [
    "",
    " ",
    "\n",
    "\x00",
    "😀👩‍👩‍👧",
    "שלום עולם",
    "Ｈｉ…",
    "ﬁ①",
    "a\u0301b",
    "a_b__",
    "v1234x99",
    "한국어 Tiếng",
    "٠١٢٣٤٥",
    "我" * 300,
    "ab" * 400,
    "ΟΔΥΣΣΕΥΣ ΣΑΣ",
    "\u1112\u1161\u11ab ﾊﾞ",
    "İ㎡½ǅ",
]
TEXTS = st.text(alphabet="我要退款不aAbBé1209 _，。…😀\n\x00", max_size=40)


def _chained(state: int, values: Sequence[int]) -> int:
    for value in values:
        product = ((state ^ value) * FACTOR) & MASK
        state = product ^ (product >> 32)
    return state


def _plain(text: str, tokens: int, letters: int) -> set[int]:
    """The n-grams of a text, by its tokens as strings."""
    words = prepare([text])[0].split()
    hashes = [_chained(ROOT, [ord(character) for character in word]) for word in words]
    grams = {
        _chained(ROOT, hashes[first : first + length])
        for length in range(1, tokens + 1)
        for first in range(len(hashes) - length + 1)
    }
    for word in words:
        if len(word) > 1 and re.fullmatch(r"[^\W_]+", word):
            inside = [1, *map(ord, word), 2]
            grams |= {
                _chained(INSIDE, inside[first : first + length])
                for length in range(3, letters + 1)
                for first in range(len(inside) - length + 1)
            }
    return grams


@given(st.lists(st.one_of(st.text(max_size=9), st.sampled_from(ODD)), max_size=6), st.sampled_from([4, 1 << 18]))
def test_characters_are_folded_as_texts_are(texts: list[str], block_chars: int) -> None:
    given_texts = pl.Series(texts, dtype=pl.String)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(text_blocks, "BLOCK_CHARS", block_chars)
        found = [
            (first + number, str(points[begin : end - 1].tobytes(), "utf-32-le"))
            for points, _, begins, first in _blocks(given_texts)
            for number, (begin, end) in enumerate(pairwise(begins.tolist()))
        ]
    assert found == list(enumerate(fold(given_texts)))


@given(st.lists(TEXTS, min_size=1, max_size=6), st.integers(1, 5), st.sampled_from([0, 3, 4, 6]))
@example(["abc我a1b", "12345 123", "", "我我我"], 4, 4)
def test_the_ngrams_of_a_text_are_those_of_its_tokens(texts: list[str], tokens: int, letters: int) -> None:
    found: list[set[int]] = [set() for _ in texts]
    for hashes, owners in Reading(tokens, letters).hashes(pl.Series(texts, dtype=pl.String)):
        for one, owner in zip(hashes.tolist(), owners.tolist(), strict=True):
            assert one not in found[owner], "each once a text"
            found[owner].add(one)
    assert found == [_plain(text, tokens, letters) for text in texts]


@given(st.lists(TEXTS, min_size=2, max_size=8))
def test_sums_are_over_what_is_known_whatever_texts_stand_beside(texts: list[str]) -> None:
    reading = Reading(3, 4)
    known = np.unique(np.concatenate([one for one, _ in reading.hashes(pl.Series(texts[::2], dtype=pl.String))]))
    values = np.arange(2 * len(known), dtype=np.float32).reshape(len(known), 2) % 97
    table = NgramTable(known, reading)
    sums = table.sums(pl.Series(texts), values)
    for text, got in zip(texts, sums, strict=True):
        alone = table.sums(pl.Series([text]), values)[0]
        assert (alone == got).all()
    for text, got in zip(texts[::2], sums[::2], strict=True):
        rows = np.searchsorted(known, np.array(sorted(_plain(text, 3, 4)), dtype=np.uint64))
        assert (values[rows].sum(axis=0) == got).all()


def _by_the_library(
    texts: pl.Series, labels: list[int], settings: Hyperparameters, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Classifier, Any, Any]:
    """A classifier; and the model and the lines of fastText that it came from, its silent tokens silenced."""
    kept: dict[str, Any] = {}
    train, lines = classifier_fitting._train, classifier_fitting._lines

    def train_and_keep(*arguments: Any) -> Any:
        kept["model"] = train(*arguments)
        return kept["model"]

    def keep_lines(table: Any, weights: Any, *rest: Any) -> Any:
        kept["table"], kept["weights"] = table, weights
        return lines(table, weights, *rest)

    monkeypatch.setattr(classifier_fitting, "_train", train_and_keep)
    monkeypatch.setattr(classifier_fitting, "_lines", keep_lines)
    truth = np.array(labels, dtype=np.int32)
    weights = fit(texts, truth, range(len(texts)), settings, folder / "lines.txt")
    model = kept["model"]
    vectors = model.get_input_matrix().copy()
    vectors[[name.startswith("s") for name in model.words]] = 0
    model.set_matrices(vectors, model.get_output_matrix())

    def lines_of(given: pl.Series) -> list[str]:
        made = lines(kept["table"], kept["weights"], given, np.zeros(len(given), dtype=np.int32), range(len(given)))
        return [line.split(" ", 1)[1].removesuffix("\n") for line in made]

    names = list(map(str, range(len(set(labels)))))
    return Classifier(weights, names, settings.model_dump()), model, lines_of


@pytest.mark.parametrize("given", [{}, {"loss": "ova"}, {"dim": 2, "word_ngrams": 2}, {"char_ngrams": 0}])
def test_scores_are_those_of_fasttext(given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier_fitting, "SILENT_TOKENS", 3_000)
    says = ["滚开，{}号", "谢谢你{}", "track my parcel {}", "请问{}几点开门"]
    texts = pl.Series([say.format(chr(0x4E00 + n)) for n in range(120) for say in says])
    settings = Hyperparameters(**{"epoch": 5, "min_count": 1, **given})
    classifier, model, lines_of = _by_the_library(texts, [0, 1, 2, 1] * 120, settings, tmp_path, monkeypatch)
    asked = pl.Series(
        [*texts[:40], *ODD, "谢谢你，滚开 TRACK parcl", *["".join(texts[:n].to_list()) for n in (30, 480)]]
    )
    _agree(classifier, model, lines_of(asked), asked)


def _agree(classifier: Classifier, model: Any, lines: list[str], texts: pl.Series) -> None:
    names, values = model.predict(lines, k=len(classifier.labels))
    scores = np.zeros((len(lines), len(classifier.labels)))
    for row, (found, score) in enumerate(zip(names, values, strict=True)):
        scores[row, [int(name.removeprefix("__label__")) for name in found]] = score
    # fastText looks its sigmoid up in a table of 512 steps from -8 to 8
    rounding = 8e-3 if model.f.getArgs().loss.name == "ova" else 1.5e-4
    assert abs(classifier.scores(texts) - scores.clip(0, 1)).max() <= rounding


def test_scores_are_those_of_fasttext_on_real_texts(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [orjson.loads(line) for line in (shared_data / "cls.cold.dev.jsonl").read_bytes().splitlines()]
    texts, labels = pl.Series([row["text"] for row in rows]), [int(row["label"]) for row in rows]
    monkeypatch.setattr(classifier_fitting, "SILENT_TOKENS", 20_000)  # so few that the model has seen all of them
    settings = Hyperparameters(epoch=3)
    classifier, model, lines_of = _by_the_library(texts[:3_000], labels[:3_000], settings, tmp_path, monkeypatch)
    _agree(classifier, model, lines_of(texts), texts)


def test_ngrams_are_chosen_by_how_often_and_weighed_by_what_they_tell() -> None:
    texts = pl.Series(["好坏"] * 20 + ["好中"] * 20 + ["中"])
    labels = np.array([1] * 20 + [0] * 21, dtype=np.int32)
    reading = Reading(1, 0)
    told = {_plain(sign, 1, 0).pop(): sign for sign in "好坏中"}
    for least, most, kept in ((1, 9, "好坏中"), (21, 9, "好中"), (1, 2, "好中"), (99, 9, "")):
        ngrams, weights = choose_ngrams(texts, labels, reading, least, most)
        assert {told[one] for one in ngrams.tolist()} == set(kept)
    ngrams, weights = choose_ngrams(texts, labels, reading, 1, 9)
    weight = {told[one]: value for one, value in zip(ngrams.tolist(), weights.tolist(), strict=True)}
    assert weight == {"好": 1, "坏": 3, "中": 3}
    assert ngrams.tolist() == sorted(ngrams.tolist())


def test_counting_in_parts_is_counting_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pl.Series([f"{chr(0x4E00 + n % 7)}{chr(0x4E00 + n % 11)}好" for n in range(300)])
    labels = (np.arange(300) % 3).astype(np.int32)
    whole = choose_ngrams(texts, labels, Reading(3, 0), 2, 99)
    monkeypatch.setattr(text_blocks, "BLOCK_CHARS", 40)
    monkeypatch.setattr(classifier_fitting, "MERGED_PAIRS", 50)
    parts = choose_ngrams(texts, labels, Reading(3, 0), 2, 99)
    assert (whole[0] == parts[0]).all()
    assert (whole[1] == parts[1]).all()


@pytest.mark.parametrize("loss", ["softmax", "ova"])
def test_the_temperature_is_that_of_the_truth(loss: str) -> None:
    drawn = np.random.default_rng(1)
    plain = drawn.normal(0, 2, 4_000)
    logits = np.stack([plain / 2, -plain / 2], axis=1) if loss == "softmax" else np.stack([plain, -plain], axis=1)
    true = (drawn.random(4_000) > 1 / (1 + np.exp(-plain))).astype(int).tolist()
    assert fit_temperature(logits * 3, true, loss) == pytest.approx(3, rel=0.12)
    assert fit_temperature(logits / 3, true, loss) == 1.0
