"""Training, measuring and applying a classifier; on made-up labels, and on the real ones where they are at hand."""

import json
from datetime import date
from pathlib import Path

import orjson
import polars as pl
import pytest

from curation.classifier import Classifier, ClassifierRef, evaluate
from curation.classifier_training import train_classifier
from curation.command import curate
from curation.errors import CurationError, RecipeError
from curation.recipe import Recipe, filter_ids, parse_recipe

SMALL = {"bucket": 5_000}
ARRAYS = ("ngrams.npy", "vectors.npy")
RUDE = ["滚开", "你真蠢", "去死吧", "shut up"]
FINE = ["谢谢", "请问几点开门", "好的", "thank you"]


def _records(num: int = 40) -> list[tuple[str, str]]:
    return [
        (f"{word}，{n}号", label) for label, words in (("1", RUDE), ("0", FINE)) for word in words for n in range(num)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("classifier") / "rude"
    train_classifier(_records(), out, hyperparameters=SMALL)
    return out


def test_the_same_labels_give_the_same_digest_whatever_their_order(folder: Path, tmp_path: Path) -> None:
    again = train_classifier(_records()[::-1], tmp_path / "again", hyperparameters=SMALL)
    other = train_classifier(_records(39), tmp_path / "other", hyperparameters=SMALL)
    assert again["digest"] == ClassifierRef.at(folder).digest != other["digest"]
    for name in ARRAYS:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "other"], "nothing is left beside"


def test_texts_are_held_out_by_label_and_counted_once(tmp_path: Path) -> None:
    records = [(f"好的{chr(0x4E00 + n)}", "fine") for n in range(100)] + [
        (f"滚{chr(0x4E00 + n)}", "rude") for n in range(40)
    ]
    repeated = [
        ("ＧＯ  1", "fine"),
        ("go 1", "fine"),
        ("Go 1", "rude"),
        ("一半", "fine"),
        ("一半", "rude"),
        (" ", "fine"),
    ]
    metrics = train_classifier(records + repeated, tmp_path / "c", holdout=0.2, hyperparameters=SMALL)["metrics"]
    assert metrics["counts"] == {
        "records": 146, "empty": 1, "duplicates": 3, "conflicts": 2, "left_out_for_conflict": 1, "train": 113, "holdout": 28,
    }  # fmt: skip
    assert {label: one["support"] for label, one in metrics["per_label"].items()} == {"fine": 20, "rude": 8}
    assert metrics["confusion"]["labels"] == ["fine", "rude"]
    assert [sum(row) for row in metrics["confusion"]["matrix"]] == [20, 8]
    hits = sum(row[index] for index, row in enumerate(metrics["confusion"]["matrix"]))
    assert metrics["accuracy"] == round(hits / 28, 4)
    for table in metrics["thresholds"].values():
        assert [row["flagged"] for row in table] == sorted((row["flagged"] for row in table), reverse=True)


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([], {}, "at least two labels"),
        ([("好", "1")] * 50, {}, "at least two labels"),
        ([*_records(), ("骂", "2")], {}, "label '2' has 1 distinct texts"),
        (_records(), {"hyperparameters": {"epoch": 0}}, "epoch"),
        (_records(), {"hyperparameters": {"speed": 1}}, "speed"),
        (_records(), {"hyperparameters": {"dim": 300, "bucket": 4_000_000}}, "dim × bucket"),
        (_records(), {"holdout": 0.9}, "holdout"),
        ([("好", "1" * 300)], {}, "more than 200"),
    ],
)
def test_labels_that_teach_nothing_are_refused(
    records: list[tuple[str, str]], options: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(CurationError, match=message):
        train_classifier(records, tmp_path / "c", **options)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damaged", ARRAYS)
def test_a_damaged_artefact_is_not_opened(folder: Path, tmp_path: Path, damaged: str) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert Classifier.load(tmp_path).predict(["去死吧"])[0].label == "1"
    described = json.loads((folder / "classifier.json").read_bytes())
    (tmp_path / damaged).write_bytes((folder / damaged).read_bytes()[:-9] + b"\xff" * 9)
    with pytest.raises(CurationError, match="is not what"):
        Classifier.load(tmp_path)
    (tmp_path / damaged).unlink()
    with pytest.raises(CurationError, match="is not what"):
        Classifier.load(tmp_path)
    (tmp_path / "classifier.json").write_text(json.dumps({**described, "labels": ["0"]}))
    with pytest.raises(CurationError, match="changed after training"):
        ClassifierRef.at(tmp_path)
    with pytest.raises(CurationError, match="holds no classifier"):
        Classifier.load(tmp_path / "nowhere")


def test_predictions_keep_the_order_and_every_text_is_read_to_its_end(folder: Path) -> None:
    classifier = Classifier.load(folder)
    texts = ["滚开！", "谢谢您", "ＳＨＵＴ ＵＰ", "", "__label__0 </s>\n你真蠢", "好的\x00\u3000"]
    predicted = classifier.predict(texts)
    assert [one.label for one in predicted][:3] == ["1", "0", "1"]
    assert [classifier.predict([text])[0] for text in texts] == predicted
    assert all(0 <= one.score <= 1 and one.score == round(one.score, 4) for one in predicted)
    late = "好的，" * 1_000 + "你真蠢，去死吧，" * 3_000
    assert classifier.predict([late])[0].label == "1"
    assert classifier.predict([]) == []


def test_misspelt_words_are_known_by_their_letters(tmp_path: Path) -> None:
    words = {"refund": ["refund please", "i want a refund"], "track": ["tracking number", "track my parcel"]}
    records = [(f"{text} {n}", label) for label, texts in words.items() for text in texts for n in range(30)]
    train_classifier(records, tmp_path / "c", hyperparameters=SMALL)
    predicted = Classifier.load(tmp_path / "c").predict(["refundd", "trackng", "refunds", "tracked"])
    assert [one.label for one in predicted] == ["refund", "track", "refund", "track"]


def test_a_few_texts_are_read_more_often_than_many_unless_told(tmp_path: Path) -> None:
    signs = [(f"{sign * 2}{chr(0x4E00 + n)}", sign) for n in range(2_000) for sign in "是否"]
    few, some, many, told = (
        train_classifier(records, tmp_path / str(index), hyperparameters={**SMALL, **given})
        for index, (records, given) in enumerate(
            [(signs[:200], {}), (signs, {}), (signs * 3, {}), (signs[:200], {"epoch": 3})]
        )
    )
    passes = [one["hyperparameters"]["epoch"] for one in (few, some, many, told)]
    assert passes == [60, round(50_000 / 3_600), round(50_000 / 3_600), 3], "texts given twice are one text"


def _recipe(folder: Path, **config: object) -> Recipe:
    body = {"operators": [{"kind": "classify_text", "classifier": str(folder), **config}]}
    assert filter_ids(body) == {str(folder)}
    return parse_recipe(body, filters={str(folder): ClassifierRef.at(folder)})


CONVERSATIONS = [
    [("user", "请问几点开门"), ("assistant", "好的，九点"), ("user", "谢谢"), ("assistant", "谢谢")],
    [("user", "请问几点开门"), ("assistant", "你真蠢，九点"), ("user", "去死吧，谢谢"), ("assistant", "滚开，谢谢"), ("user", "好的"), ("assistant", "好的")],
]  # fmt: skip


def _curated(folder: Path, tmp_path: Path, **config: object) -> tuple[list[list[tuple[str, int | None]]], pl.DataFrame]:
    source = tmp_path / "in.jsonl"
    rows = [{"messages": [{"role": role, "content": text} for role, text in turns]} for turns in CONVERSATIONS]
    source.write_bytes(b"\n".join(orjson.dumps(row) for row in rows))
    out = tmp_path / "out"
    curate([source], out, recipe=_recipe(folder, threshold=0.5, **config), as_of=date(2026, 11, 1))
    kept = pl.read_parquet(out / "segments" / "00000.parquet")["messages"].to_list()
    return [[(m["content"], m["weight"]) for m in turns] for turns in kept], pl.read_parquet(
        out / "trace" / "00000.parquet"
    )


def test_turns_are_dropped_with_label_and_score(folder: Path, tmp_path: Path) -> None:
    kept, trace = _curated(folder, tmp_path)
    assert [text for text, _ in kept[1]] == ["请问几点开门\n好的", "好的"]
    verdicts = trace.filter(pl.col("code") == "1")
    assert verdicts["before"].to_list() == ["你真蠢，九点", "去死吧，谢谢", "滚开，谢谢"]
    assert verdicts["score"].is_between(0.5, 1.0).all()


def test_conversations_are_dropped_flagged_or_unlearned_by_their_worst_turn(folder: Path, tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    kept, trace = _curated(folder, tmp_path / "a", action="drop_conversation", scope="conversation")
    assert len(kept) == 1
    assert trace.select("action", "code").rows() == [("drop_conversation", "1")]
    assert trace["score"].item() == max(Classifier.load(folder).scores([text for _, text in CONVERSATIONS[1]])[:, 1])
    kept, trace = _curated(folder, tmp_path / "b", action="flag", scope="conversation")
    assert [len(turns) for turns in kept] == [4, 6]
    assert trace["action"].to_list() == ["flag"]
    kept, _ = _curated(folder, tmp_path / "c", action="no_learn", scope="conversation")
    assert [[weight for _, weight in turns] for turns in kept] == [[None] * 4, [None, 0, None, 0, None, 0]]
    kept, _ = _curated(folder, tmp_path / "d", action="no_learn")
    assert [weight for _, weight in kept[1]] == [None, 0, None, 0, None, None]


def test_a_recipe_names_what_is_wrong_and_is_known_by_the_digest(folder: Path, tmp_path: Path) -> None:
    known = {"clf-a": ClassifierRef.at(folder), "clf-b": ClassifierRef.at(folder)}

    def fingerprint(**config: object) -> str:
        return parse_recipe({"operators": [{"kind": "classify_text", **config}]}, filters=known).fingerprint

    assert fingerprint(classifier="clf-a") == fingerprint(classifier="clf-b", labels=["1"])
    assert fingerprint(classifier="clf-a") != fingerprint(classifier="clf-a", threshold=0.9)
    other = train_classifier(_records(39), tmp_path / "other", hyperparameters=SMALL)
    assert other["digest"] != known["clf-a"].digest
    changed = parse_recipe({"operators": [{"kind": "classify_text", "classifier": "clf-a"}]}, filters={"clf-a": ClassifierRef.at(tmp_path / "other")})  # fmt: skip
    assert changed.fingerprint != fingerprint(classifier="clf-a")
    for config, param in (
        ({"classifier": "clf-x"}, "classifier"),
        ({}, "classifier"),
        ({"classifier": "clf-a", "labels": ["2"]}, "labels"),
        ({"classifier": "clf-a", "scope": "conversation", "action": "drop_turn"}, "action"),
        ({"classifier": "clf-a", "threshold": 2}, "threshold"),
    ):
        with pytest.raises(RecipeError) as caught:
            fingerprint(**config)
        assert caught.value.param == f"operators[0].{param}"


def test_real_labels_reach_the_measured_quality(shared_data: Path, tmp_path: Path) -> None:
    def read(name: str) -> list[tuple[str, str]]:
        rows = map(orjson.loads, (shared_data / name).read_bytes().splitlines())
        return [(row["text"], str(row["label"])) for row in rows]

    metrics = train_classifier(read("cls.cold.train.jsonl"), tmp_path / "cold")["metrics"]
    assert metrics["macro_f1"] > 0.9
    assert evaluate(tmp_path / "cold", read("cls.cold.dev.jsonl"))["macro_f1"] > 0.905
