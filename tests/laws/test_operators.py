"""What holds for every operator, whatever the text: nothing is lost, everything is explained."""

import gzip
import tempfile
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from curation.classifier import ClassifierRef
from curation.classifier_training import train_classifier
from curation.command import curate
from curation.mixer import Step, apply_edits, run_step, with_context
from curation.operator import REGISTRY, Dialogues, Lexicon, Resources
from curation.recipe import parse_recipe

VOCABULARY = st.sampled_from(
    ["嗯", "呃，", "那个，", "我我我", "我想", "查话费", "，", "。", "不对", "去北京", "去上海", "天天", "看看", "谢谢谢谢", "的的", "um, ",
     "I I ", "want to ", "you know, ", "王八蛋", "FUCK", "fuck", "我今年34岁", "我在成都", "张女士您好", "😀", "\x00", " ", "三张", "四张票",
     "ＡＢ", "１：", "\u200b", "\u200d", "👩", "\u3000", "\r\n", "\n", "  ", "！！", "?", "。", "&amp;", "nbsp;", "<br>", "</p>", "<", "`", "ｶ", "ﾞ"]
)  # fmt: skip
TEXT = st.lists(VOCABULARY, max_size=8).map("".join)
TURN = st.tuples(st.sampled_from(["user", "assistant", "system"]), TEXT)
CONVERSATIONS = st.lists(st.lists(TURN, min_size=1, max_size=6), min_size=1, max_size=4)
KINDS = sorted(REGISTRY)
CONFIGS: dict[str, dict[str, Any]] = {
    "truncate_history": {"max_source_length": 64, "max_target_length": 16},
    "classify_text": {"classifier": "rude", "labels": ["rude"], "threshold": 0.5, "action": "drop_conversation"},
}
SETTINGS = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def _dialogues(conversations: list[list[tuple[str, str]]]) -> Dialogues:
    rows = [
        (index, turn, role, text, None)
        for index, turns in enumerate(conversations)
        for turn, (role, text) in enumerate(turns)
    ]
    columns = {"conversation": pl.UInt32, "turn": pl.Int64, "role": pl.String, "text": pl.String, "weight": pl.Int64}
    numbers = range(len(conversations))
    schema = {"conversation": pl.UInt32, "id": pl.String, "line": pl.Int64, "user": pl.String, "meta": pl.String}
    table = pl.DataFrame([(i, f"c{i}", i + 1, None, None) for i in numbers], schema, orient="row")
    return Dialogues(table, with_context(pl.DataFrame(rows, columns, orient="row")))


@lru_cache(maxsize=1)
def _classifier() -> ClassifierRef:
    records = [(f"你个{word}{n}号", "rude") for word in ("王八蛋", "fuck") for n in range(20)]
    records += [(f"我想查{word}{n}号", "fine") for word in ("话费", "流量") for n in range(20)]
    folder = Path(tempfile.mkdtemp()) / "rude"
    train_classifier(records, folder, hyperparameters={"bucket": 1_000})
    return ClassifierRef.at(folder)


def _step(kind: str, **config: Any) -> Step:
    op = REGISTRY[kind]
    lexicon = Lexicon(("王八蛋", "fuck", "查话费"), ("我想查话费",), "rude")
    made = op.config.model_validate({**CONFIGS.get(kind, {}), **config})
    return Step(op, made, Resources(date(2026, 11, 1), (lexicon,), _classifier()))


def _texts(dialogues: Dialogues) -> dict[tuple[int, int], str]:
    return {(c, t): text for c, t, text in dialogues.turns.select("conversation", "turn", "text").iter_rows()}


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(conversations=CONVERSATIONS)
def test_the_trace_applied_to_the_original_gives_the_curated_text(
    kind: str, conversations: list[list[tuple[str, str]]]
) -> None:
    before = _dialogues(conversations)
    outcome = run_step(before, _step(kind))
    texts = _texts(before)
    trace = outcome.trace.to_dicts()
    assert set(outcome.dropped) == {row["conversation"] for row in trace if row["action"] == "drop_conversation"}
    edits: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
    for row in trace:
        if row["turn"] is None or row["start"] is None or row["action"] == "drop_conversation":
            continue
        key = row["conversation"], row["turn"]
        assert texts[key][row["start"] : row["end"]] == row["before"]
        if row["action"] in ("drop_turn", "merge") and kind != "truncate_history":
            texts.pop(key)
        elif row["action"] in ("edit", "mask"):
            edits.setdefault(key, []).append((row["start"], row["end"], row["after"]))
    replayed = {key: apply_edits(text, edits.get(key, [])) for key, text in texts.items()}
    replayed = {key: text for key, text in replayed.items() if key[0] not in outcome.dropped}
    assert _texts(outcome.dialogues) == replayed


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(conversations=CONVERSATIONS)
def test_conversations_do_not_influence_each_other(kind: str, conversations: list[list[tuple[str, str]]]) -> None:
    together = _texts(run_step(_dialogues(conversations), _step(kind)).dialogues)
    for index, turns in enumerate(conversations):
        alone = _texts(run_step(_dialogues([turns]), _step(kind)).dialogues)
        assert {turn: text for (c, turn), text in together.items() if c == index} == {
            turn: text for (_, turn), text in alone.items()
        }


@pytest.mark.parametrize("kind", KINDS)
@SETTINGS
@given(conversations=CONVERSATIONS)
@example(conversations=[[("user", "那个，那个，那个，")]])
def test_running_twice_changes_nothing_more(kind: str, conversations: list[list[tuple[str, str]]]) -> None:
    once = run_step(_dialogues(conversations), _step(kind)).dialogues
    twice = run_step(once, _step(kind))
    assert _texts(twice.dialogues) == _texts(once)
    assert not twice.dropped


@SETTINGS
@given(conversations=CONVERSATIONS)
def test_a_dropped_turn_takes_its_reply_along_and_leaves_no_two_user_turns(
    conversations: list[list[tuple[str, str]]],
) -> None:
    shaped = run_step(_dialogues(conversations), _step("structure_dialogue")).dialogues
    outcome = run_step(shaped, _step("match_sensitive_words", action="drop_turn"))
    for _, group in outcome.dialogues.turns.group_by("conversation", maintain_order=True):
        roles = [role for role in group["role"] if role != "system"]
        if shaped.turns.height != outcome.dialogues.turns.height:
            assert ("user", "user") not in zip(roles, roles[1:], strict=False)
    assert not outcome.dialogues.turns["text"].str.contains("王八蛋").any()


@pytest.mark.parametrize("segment_bytes", [2_000, 50_000, 10_000_000])
def test_a_digest_depends_neither_on_segments_nor_on_workers(
    examples: Path, tmp_path: Path, segment_bytes: int
) -> None:
    recipe = parse_recipe(None)
    as_of = date(2026, 11, 1)
    source = examples / "dialogues.jsonl"
    whole = curate([source], tmp_path / "whole", recipe=recipe, as_of=as_of)
    workers = 2 if segment_bytes == 50_000 else 1
    cut = curate([source], tmp_path / "cut", recipe=recipe, as_of=as_of, segment_bytes=segment_bytes, workers=workers)
    assert cut["digest"] == whole["digest"]
    assert cut["counts"] == whole["counts"]


@pytest.mark.parametrize("compressed", [False, True])
def test_two_workers_write_the_same_bytes_as_one(examples: Path, tmp_path: Path, compressed: bool) -> None:
    lines = (examples / "dialogues.jsonl").read_bytes().splitlines()
    lines[7:7] = [b"{", b"", b'{"messages": []}', "好".encode("gb18030")]
    source = tmp_path / ("talks.jsonl.gz" if compressed else "talks.jsonl")
    content = b"\n".join([*lines, lines[0]])
    source.write_bytes(gzip.compress(content) if compressed else content)
    made = {}
    for workers in (1, 2):
        out = tmp_path / str(workers)
        recipe = parse_recipe(None)
        manifest = curate([source], out, recipe=recipe, as_of=date(2026, 11, 1), segment_bytes=60_000, workers=workers)
        assert len(manifest["segments"]) > 3
        made[workers] = {path.relative_to(out): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert made[1] == made[2]
    quarantine = pl.read_parquet(tmp_path / "1" / "quarantine.parquet")
    assert quarantine["line"].to_list() == [8, 10, 11]
