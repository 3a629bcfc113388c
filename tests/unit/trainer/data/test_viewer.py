"""`--show`: what is learned of the first samples."""

import json
import subprocess
import sys
from datetime import date
from pathlib import Path

from curation.command import curate
from curation.recipe import parse_recipe


def _show(*arguments: object) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "trainer", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, check=False)


def test_learned_tokens_are_marked_and_windows_are_told(tmp_path: Path) -> None:
    said = [
        [("user", "查话费"), ("assistant", "本月六十二元。")],
        [(role, f"第{i}轮{role}" + "内容" * 20) for i in range(8) for role in ("user", "assistant")],
        [("user", "谢谢"), ("assistant", "".join(chr(0x5000 + 7 * i) for i in range(80)))],
    ]
    lines = [json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]}) for turns in said]
    (tmp_path / "talks.jsonl").write_text("\n".join(lines))
    recipe = parse_recipe({"operators": [{"kind": "structure_dialogue"}]})
    curate([tmp_path / "talks.jsonl"], tmp_path / "version", recipe=recipe, as_of=date(2026, 11, 1))
    lengths = {"max_source_length": 160, "max_target_length": 40}
    settings = {
        "model": {"scratch": {"preset": "tiny", "vocab_size": 400}},
        "data": {"version": str(tmp_path / "version" / "manifest.json"), **lengths},
    }
    (tmp_path / "config.json").write_text(json.dumps(settings))
    shown = _show(tmp_path / "config.json", "--show", 99)
    assert shown.returncode == 0, shown.stderr
    assert "⟦本月六十二元。<|im_end|>⟧" in shown.stdout
    assert "查话费⟧" not in shown.stdout
    assert all(shown.stdout.count(f"⟦第{i}轮assistant") == 1 for i in range(8)), "every reply is learned once"
    assert "turn 1 without its last" in shown.stdout
    assert "of padding" in shown.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "talks.jsonl", "version"]
    assert _show(tmp_path / "config.json", "--show", 1).stdout.count(" learned;") == 1

    missing = _show(tmp_path / "config.json")
    assert missing.returncode == 2
    assert "--out" in missing.stderr
