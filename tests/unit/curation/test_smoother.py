"""The learned smoother: what it is taught, that it learns it, and what it leaves to the rules."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.errors import CurationError
from curation.mixer import apply_edits
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth, smooth_texts
from curation.smoother import CERTAIN, KIND, Smoother, SmootherRef, arrays_of, decide
from curation.smoother_fitting import Learned
from curation.smoother_likeness import MARKS
from curation.smoother_metrics import measure
from curation.smoother_network import Batch, Parameters, backward, forward, run, table_rows
from curation.smoother_pairs import Pair, examples, left_out, read_pairs
from curation.smoother_reading import WIDE_BITS, read
from curation.smoother_training import evaluate, smoothed, train_smoother

THINGS = ["手机", "快递", "套餐", "发票", "订单", "酒店", "会员", "流量", "积分", "空调"]
TEXTS = ["我这个哈{}坏了", "{}哈怎么还没到", "帮我哈查一下{}", "{}能不能哈退"]
PAIRS = [
    (f"呃{text}", text.replace("哈", ""))
    for text in (text.format(f"{thing}{also}") for text in TEXTS for thing in THINGS for also in ("", "号", "单", "费"))
]
SMALL = {"epochs": 12, "units": 16, "inputs": 16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "smoother"
    train_smoother(PAIRS, folder, hyperparameters=SMALL)
    return folder


def test_it_learns_a_filler_that_the_rules_do_not_know(folder: Path) -> None:
    smoother = Smoother.load(folder)
    assert smoothed(["呃我的哈快递单坏了"], None) == ["我的哈快递单坏了"]
    assert smoothed(["呃我的哈快递单坏了", "嗯", "好的，谢谢", ""], smoother) == [
        "我的快递单坏了",
        "嗯。",
        "好的，谢谢",
        "",
    ]
    figures = evaluate(folder, [("呃帮我哈查一下酒店票", "帮我查一下酒店票"), ("呃好", "好")])
    assert (figures["exact_match"], figures["precision"], figures["recall"]) == (1, 1, 1)
    assert figures["rules_alone"]["exact_match"] == 0.5


def test_the_same_pairs_in_any_order_give_the_same_smoother(folder: Path, tmp_path: Path) -> None:
    again = train_smoother(PAIRS[::-1] + PAIRS[:5], tmp_path / "again", hyperparameters=SMALL)
    first = json.loads((folder / KIND.description).read_bytes())
    assert again["arrays_sha256"] == first["arrays_sha256"]
    assert again["metrics"]["counts"]["duplicates"] == 5
    assert SmootherRef.at(folder).digest.startswith("sha256:")


def test_a_damaged_artefact_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match="holds no smoother"):
        Smoother.load(tmp_path)
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in folder.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    (copy / "out.npy").write_bytes(b"nothing")
    with pytest.raises(CurationError, match="train the smoother again"):
        Smoother.load(copy)
    described = json.loads((copy / KIND.description).read_bytes())
    (copy / KIND.description).write_text(json.dumps({**described, "holdout": 0.3}))
    with pytest.raises(CurationError, match="changed after training"):
        Smoother.load(copy)


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (PAIRS[:3], "at least 50"),
        ([(f"{n}号", f"{n}号") for n in range(99)], "right columns"),
        ([(f"{n}号", f"好{n}号") for n in range(99)], "right way round"),
        ([], "at least 50"),
    ],
)
def test_pairs_that_teach_nothing_are_refused(pairs: list[tuple[str, str]], told: str, tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=told):
        train_smoother(pairs, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", [{"units": 10}, {"lr": 1}, {"epochs": 0}])
def test_wrong_settings_are_named(given: dict[str, int], tmp_path: Path) -> None:
    with pytest.raises(CurationError, match=next(iter(given))):
        train_smoother(PAIRS, tmp_path / "out", hyperparameters=given)


@pytest.mark.parametrize(
    ("spoken", "written", "gone"),
    [
        ("不要不要有", "不要有", "110" "00"),
        ("我我我想", "我想", "1100"),
        ("嗯好的。", "好的。", "1000"),
        ("就好像一样", "仿佛一样", "10000"),
        ("好的", "好的", "00"),
        ("好的", "", "11"),
    ],
)  # fmt: skip
def test_what_was_said_first_is_left_out(spoken: str, written: str, gone: str) -> None:
    found = "".join(str(int(one)) for one in left_out(Pair(spoken, written)))
    assert found.count("1") == gone.count("1")
    if Pair(spoken, written).only_left_out:
        assert found == gone


@given(st.text("我想要那个，", max_size=12), st.sets(st.integers(0, 11)))
def test_what_only_leaves_out_is_aligned_exactly(spoken: str, gone: set[int]) -> None:
    written = "".join(character for place, character in enumerate(spoken) if place not in gone)
    mask = left_out(Pair(spoken, written))
    assert "".join(character for character, goes in zip(spoken, mask, strict=True) if not goes) == written


def test_at_least_half_of_what_is_taught_is_fluent() -> None:
    pairs, counts = read_pairs(PAIRS)
    taught = list(examples(pairs, seed=0))
    assert counts["records"] == len(PAIRS)
    assert sum(not example.left_out.any() for example in taught) * 2 >= len(taught)
    assert all(len(example.text) == len(example.left_out) for example in taught)
    made = [example for example in taught if example.left_out.any() and example.text not in dict(PAIRS)]
    assert {"呃", "哈"} <= {character for example in made for character in example.text}, "fillers of the pairs"


def test_gradients_are_those_of_the_loss() -> None:
    texts = ["我我想", "好的，就是嗯", "一"]
    seen, rng = read(texts), np.random.default_rng(0)
    characters = np.unique(seen.points)
    parameters = Parameters.drawn(len(characters), 4, 4, rng)
    parameters.bias += rng.standard_normal(parameters.bias.shape).astype(np.float32) * 0.1
    parameters.recurrent_bias += rng.standard_normal(parameters.recurrent_bias.shape).astype(np.float32) * 0.1
    votes = rng.integers(0, 5, len(seen.points)).astype(np.uint8)
    batch = Batch(table_rows(seen, characters, votes), seen.again, seen.begins[:-1], seen.begins[1:])
    factors = np.ones((3, 4), dtype=np.float32), np.ones((3, 8), dtype=np.float32)
    slopes = rng.standard_normal(batch.mask.shape).astype(np.float32) * batch.mask

    def loss() -> float:
        return float((forward(parameters, batch, *factors)[0].astype(np.float64) * slopes).sum())

    gradients = backward(parameters, batch, forward(parameters, batch, *factors)[1], slopes, *factors)
    for array, gradient in list(zip(parameters.arrays(), gradients.arrays(), strict=True))[:-1]:
        places = np.argsort(-np.abs(gradient), axis=None)[:4]
        for place in places:
            kept = array.ravel()[place]
            array.ravel()[place] = kept + 0.02
            above = loss()
            array.ravel()[place] = kept - 0.02
            below = loss()
            array.ravel()[place] = kept
            assert (above - below) / 0.04 == pytest.approx(gradient.ravel()[place], rel=0.03, abs=0.01)


def test_asked_the_network_says_what_it_was_trained_to_say() -> None:
    texts = ["我我想那个，想去", "嗯", "", "慢慢来12号"]
    seen, rng = read(texts), np.random.default_rng(1)
    characters = np.unique(seen.points)[:5]
    parameters = Parameters.drawn(len(characters), 8, 8, rng)
    parameters.bias += 0.3
    learned = Learned(parameters, characters, np.zeros(1 << WIDE_BITS, dtype=np.float32))
    rows = table_rows(seen, characters, rng.integers(0, 5, len(seen.points)).astype(np.uint8))
    batch = Batch(rows, seen.again, seen.begins[:-1], seen.begins[1:])
    ones = np.ones((4, 8), dtype=np.float32), np.ones((4, 16), dtype=np.float32)
    logits = forward(parameters, batch, *ones)[0] + parameters.out[-1]
    arrays = arrays_of(learned, np.zeros(len(MARKS), dtype=np.float32))
    asked = run(
        arrays["table"], arrays["recurrent"], arrays["recurrent_bias"], arrays["out"], arrays["wide"], rows, seen.again,
        seen.wide, seen.begins,
    )  # fmt: skip
    expected = np.concatenate([logits[: len(text), index] for index, text in enumerate(texts)])
    np.testing.assert_allclose(asked, expected, atol=1e-4)


def test_what_else_is_asked_changes_nothing(folder: Path) -> None:
    smoother = Smoother.load(folder)
    texts = [spoken for spoken, _ in PAIRS] + ["", "谢谢谢谢", "I I want 3 个"]
    votes = [np.zeros(len(text), dtype=np.uint8) for text in texts]
    together = smoother.logits(texts, votes)
    for text, logits in list(zip(texts, together, strict=True))[::17]:
        (alone,) = smoother.logits([text], [np.zeros(len(text), dtype=np.uint8)])
        np.testing.assert_array_equal(alone, logits)


@given(st.lists(st.text("嗯呃我想去那个，天看谢12aA哈快递。 ", max_size=20), max_size=4))
def test_edits_can_be_applied_and_never_take_all(folder: Path, texts: list[str]) -> None:
    for text, edits in zip(texts, smooth_texts(texts, SmoothDisfluency(), Smoother.load(folder)), strict=True):
        assert all(0 <= start < end <= len(text) for start, end, *_ in edits)
        assert all(one[1] <= other[0] for one, other in zip(edits, edits[1:], strict=False))
        left = apply_edits(text, [edit[:3] for edit in edits])
        assert left.strip() or not apply_edits(text, [edit[:3] for edit in smooth(text, SmoothDisfluency())]).strip()


def test_phrases_to_keep_stay(folder: Path) -> None:
    smoother = Smoother.load(folder)
    (edits,) = smooth_texts(["呃我的哈快递单坏了"], SmoothDisfluency(keep=("哈快递",)), smoother)
    assert [edit[:2] for edit in edits] == [(0, 1)]


def test_what_is_not_asked_for_stays(folder: Path) -> None:
    smoother = Smoother.load(folder)
    (edits,) = smooth_texts(["呃我的哈快递单坏了"], SmoothDisfluency(fillers=False), smoother)
    assert edits == []


def test_what_is_doubled_on_purpose_stays_also_beside_a_filler(folder: Path) -> None:
    smoother = Smoother.load(folder)
    meant = ["我天天加班", "咱们聊聊天吧", "研究研究再说", "一个一个来", "高高兴兴上班", "非常非常好"]
    assert smoothed(meant, smoother) == meant
    assert smoothed([f"嗯{text}" for text in meant], smoother) == meant


def test_a_text_without_a_slip_needs_more_where_it_asks() -> None:
    text = "他是拿就他是拿着一个东西"
    asked = f"{text}吗"
    logits = np.where(np.arange(len(asked)) < 4, np.float32(2), np.float32(-5))
    sure = logits + np.where(np.arange(len(asked)) < 4, np.float32(3), np.float32(0))
    none = np.zeros(len(asked), dtype=bool)
    assert decide(logits, none, none, certain=CERTAIN["tells"]).sum() == 4
    assert decide(logits, none, none, certain=CERTAIN["asks"]).sum() == 0
    assert decide(sure, none, none, certain=CERTAIN["asks"]).sum() == 4
    assert decide(sure, none, ~none, certain=CERTAIN["asks"]).sum() == 0
    assert decide(-sure, ~none, none, certain=None).sum() == len(asked) - 4, "sure, it overrules the rules"


def test_metrics_count_characters_as_multisets() -> None:
    pairs = [Pair("我我想去。", "我想去"), Pair("呃好的", "可以的")]
    found = measure(pairs, ["我想", "好的"])
    assert (found["exact_match"], found["precision"]) == (0, 0.6667)
    assert found["only_left_out_pairs"] == 1
    assert found["only_left_out_recall"] == 1


def test_sentences_are_read_alike_from_lists_and_columns() -> None:
    texts = ["我我想", "", "好的，就是嗯"]
    one, other = read(texts), read(pl.Series(texts))
    np.testing.assert_array_equal(one.wide, other.wide)
