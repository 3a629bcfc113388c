"""What curation cut and split is trained on as such: the end of a cut reply is not learned, nor a last reply twice."""

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from curation.command import curate
from curation.recipe import parse_recipe
from trainer.config import Data
from trainer.data.token_cache import tokenise
from trainer.data.version import DatasetVersion, open_version
from trainer.dialogues import encode_window, load_chat_tokenizer, target_turns

SAID = [
    [("user", "查话费"), ("assistant", "本月六十二元。")],
    [(role, f"第{i}轮{role}" + "内容" * 20) for i in range(8) for role in ("user", "assistant")],
    [("user", "谢谢"), ("assistant", "".join(chr(0x5000 + 7 * i) for i in range(80)))],
]


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> DatasetVersion:
    folder = tmp_path_factory.mktemp("version")
    lines = [
        json.dumps({"id": f"c{i}", "messages": [{"role": r, "content": c} for r, c in t]}) for i, t in enumerate(SAID)
    ]
    (folder / "talks.jsonl").write_text("\n".join(lines))
    truncation = {"kind": "truncate_history", "max_source_length": 128, "max_target_length": 40}
    recipe = parse_recipe({"operators": [truncation]})
    curate([folder / "talks.jsonl"], folder / "out", recipe=recipe, as_of=date(2026, 11, 1))
    return open_version(str(folder / "out"))


def test_a_reply_that_curation_cut_has_no_end_under_any_later_length(version: DatasetVersion) -> None:
    chat = load_chat_tokenizer("deepseek")
    rows = {conversation.id: conversation for conversation in version.conversations()}
    (end,) = chat.eos_ids[:1]
    cut = encode_window(chat, rows["c2"].messages, 512)
    assert rows["c2"].messages[1]["cut"]
    assert cut.is_target[-1]
    assert cut.ids[-1] != end
    whole = encode_window(chat, rows["c0"].messages, 512)
    assert (whole.ids[-1], whole.is_target[-1]) == (end, True)


@pytest.mark.parametrize("targets", ["all", "last"])
def test_the_last_reply_of_a_split_conversation_is_one(version: DatasetVersion, tmp_path: Path, targets: Any) -> None:
    rows = list(version.conversations())
    windows = [row for row in rows if row.conversation_id == "c1"]
    assert len(windows) > 1
    assert [row.has_later_window for row in windows] == [True] * (len(windows) - 1) + [False]
    data = Data(version="m", targets=targets, max_source_length=128, max_target_length=40)
    chat = load_chat_tokenizer("deepseek")
    made = tokenise(version.parts(), chat, data, tmp_path)
    (piece,) = made.pieces
    samples = piece.open(made.folder)["id"].to_pylist()
    if targets == "last":
        assert samples == ["c0", windows[-1].id, "c2"]
    else:
        assert samples == [row.id for row in rows]
        assert sum(len(target_turns(row.messages)) for row in windows) == 8
