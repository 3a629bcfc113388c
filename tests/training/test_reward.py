"""A reward model of two ranks: learns what was chosen, is held to it on other pairs, opens elsewhere, scores dialogues."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_base import make_tiny_base

from app.filters.folder_scorer import FolderScorer
from app.training.chat import generators
from curation.errors import CurationError
from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError
from trainer.dialogues import Lengths, encode_window, make_windows

THINGS = ("话费", "流量", "快递", "发票", "酒店", "机票", "积分", "套餐", "路由器", "信用卡")
POLITE = (
    "您好，{}这就为您查询，请稍等。",
    "好的，{}已经为您办理。",
    "感谢您的耐心，{}没有问题。",
    "请您放心，{}今天到。",
)
RUDE = ("{}自己去查，别烦我。", "没空管你的{}，烦死了。", "{}？你真笨，别来烦。", "随便，{}不关我的事，自己弄。")


def pairs(count: int) -> list[dict[str, Any]]:
    """Polite replies were chosen, long or short."""
    rng = random.Random(3)
    made = []
    for number in range(count):
        thing = rng.choice(THINGS)
        texts = [rng.choice(POLITE).format(thing), rng.choice(RUDE).format(thing)]
        texts[number % 2] *= 2
        asked = [{"role": "user", "content": f"我的{thing}怎么样了？{number}"}]
        made.append({"messages": asked, "chosen": texts[0], "rejected": texts[1]})
    return made


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reward")
    lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in pairs(300))
    (folder / "preferences.jsonl").write_text("".join(lines), "utf-8")
    config = {
        "objective": "reward",
        "model": {"scratch": {"preset": "tiny", "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 500}},
        "data": {
            "preferences": str(folder / "preferences.jsonl"),
            "max_source_length": 64,
            "max_target_length": 63,
            "validation_share": 0.2,
        },
        "batch": {"tokens": 2560},
        "optim": {"peak_lr": 3e-3},
        "run": {"max_steps": 24, "nproc": 2},
        "checkpoint": {"every_steps": 24},
    }
    (folder / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "trainer", str(folder / "config.json"), "--out", str(folder / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "run"


def test_pairs_of_a_file_of_their_own_are_validated_on_and_not_learned(tmp_path: Path) -> None:
    made = pairs(70)
    for name, part in (("learned", made[:50]), ("held-out", made[45:])):
        lines = (json.dumps(pair, ensure_ascii=False) + "\n" for pair in part)
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), "utf-8")
    sizes = {"preset": "tiny", "hidden_size": 32, "num_layers": 1, "num_heads": 2, "num_kv_heads": 2, "vocab_size": 400}
    files = {"preferences": str(tmp_path / "learned.jsonl"), "validation": str(tmp_path / "held-out.jsonl")}
    config = {
        "objective": "reward",
        "model": {"scratch": sizes},
        "data": {**files, "max_source_length": 64, "max_target_length": 63},
        "run": {"max_steps": 2, "nproc": 1},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "trainer", str(tmp_path / "config.json"), "--out", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / "run" / "result.json").read_text())["evaluation"]["pairs"] == 25
    lines = (tmp_path / "run" / "evaluation" / "pairs-step-2.jsonl").read_text().splitlines()
    assert {json.loads(line)["pair"] for line in lines} == {f"held-out-{number}" for number in range(25)}
    events = map(json.loads, (tmp_path / "run" / "events.jsonl").read_text().splitlines())
    facts = next(event["data"] for event in events if event["message"].startswith("token vectors"))
    assert facts["shared_with_validation"]["same_content"] >= 5, "those that both files have"
    assert "same_id" not in facts["shared_with_validation"], "pairs of two files have no name in common"


def test_the_command_line_scores_by_the_folder_and_knows_it_by_its_content(run: Path, tmp_path: Path) -> None:
    of_run, of_model = FolderScorer.at(run), FolderScorer.at(run / "model")
    assert of_run.digest == of_model.digest
    talks = [dialogue("我的快递怎么样了？", text) for text in ("请您放心，快递今天到。", "没空管你的快递，烦死了。")]
    try:
        good, bad, again, none = of_run.scores([*talks, talks[0], dialogue("你好")])
    finally:
        generators().close()
    assert good == again
    assert good is not None
    assert bad is not None
    assert good > bad + 1
    assert none is None
    copy = shutil.copytree(run / "model", tmp_path / "copy")
    (copy / "generation.txt").write_text("another")
    assert FolderScorer.at(copy).digest != of_run.digest
    with pytest.raises(CurationError, match="holds no reward model"):
        FolderScorer.at(tmp_path)


@pytest.fixture(scope="module")
def chat(run: Path) -> ChatTokenizer:
    return load_chat_tokenizer(str(run / "model"))


def dialogue(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def scores(run: Path, requests: list[Any]) -> list[dict[str, Any]]:
    lines = "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in requests)
    command = [sys.executable, "-m", "trainer", "score", str(run)]
    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_held_out_pairs_are_ordered_as_chosen_and_not_by_length(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    found = result["evaluation"]
    assert result["status"] == "succeeded"
    assert found["pairs"] == 60
    assert found["accuracy"] > 0.95
    assert found["accuracy_interval"][0] < found["accuracy"] <= found["accuracy_interval"][1]
    assert 0.3 < found["longer_wins"] < 0.7
    assert abs(found["length_correlation"]) < 0.5
    assert found["validation_loss"] < 0.3
    lines = [json.loads(line) for line in (run / "evaluation" / "pairs-step-24.jsonl").read_text().splitlines()]
    assert sum(line["chosen"] > line["rejected"] for line in lines) == round(found["accuracy"] * 60)


def test_transformers_opens_it_and_reads_the_same_scores(run: Path, chat: ChatTokenizer) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(run / "model", dtype=torch.float32).eval()
    dialogues = [dialogue("我的话费怎么样了？", text) for text in ("好的，话费已经为您办理。", "没空管你，烦死了。")]
    ids = []
    for messages in dialogues:
        (window,) = make_windows(chat, messages, Lengths(64, 63))  # type: ignore[arg-type]
        ids.append(encode_window(chat, window.messages, 63).ids)
    width = max(map(len, ids))
    padded = torch.tensor([row + [model.config.pad_token_id] * (width - len(row)) for row in ids])
    with torch.no_grad():
        expected = model(padded).logits[:, 0].tolist()
    (answer,) = scores(run, [{"conversations": [{"messages": messages} for messages in dialogues]}])
    assert answer["scores"] == pytest.approx(expected, abs=1e-4)
    assert expected[0] > expected[1] + 1


def test_a_conversation_is_as_good_as_its_worst_reply(run: Path) -> None:
    asked, polite, rude = "我的快递怎么样了？", "请您放心，快递今天到。", "快递自己去查，别烦我。"
    good, bad, only_bad = dialogue(asked, polite), dialogue(asked, polite, asked, rude), dialogue(asked, rude)
    mixed = dialogue(asked, rude, asked, polite)
    answers = scores(
        run,
        [
            {"messages": good},
            {"messages": bad},
            {"messages": mixed},
            {"messages": only_bad},
            {"conversations": [{"messages": dialogue(asked)}, {"messages": mixed}]},
            {"message": "?"},
        ],
    )
    first, second, third, fourth = (answer["score"] for answer in answers[:4])
    assert first > max(second, third) + 1
    assert third <= fourth + 1e-4, "the first reply of both is the same one"
    assert answers[4]["scores"] == [None, pytest.approx(third, abs=1e-4)]
    assert "error" in answers[5]


def test_a_model_that_says_things_is_no_reward_model(tmp_path: Path) -> None:
    from trainer.reward.scoring import Scorer

    with pytest.raises(ConfigError, match="no reward model"):
        Scorer(make_tiny_base(tmp_path / "base"))
    with pytest.raises(ConfigError, match="no reward model"):
        Scorer(tmp_path)
