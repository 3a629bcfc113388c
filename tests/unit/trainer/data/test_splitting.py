"""What is validated on is not learned: by user, by copies, by id, whoever brings it along."""

from pathlib import Path
from typing import Any

import pytest
from made_talks import STRUCTURE, conversations, make_version, nearly, settings, talk

from trainer.chat_tokenizer import ChatTokenizer, load_chat_tokenizer
from trainer.config import ConfigError
from trainer.data.vectorising import vectorise

NUM = 150


@pytest.fixture(scope="module")
def chat() -> ChatTokenizer:
    return load_chat_tokenizer("deepseek")


def manifest_of(version: Any) -> str:
    return str(version.folder / "manifest.json")


def test_copies_and_conversations_of_one_user_stand_on_one_side(chat: ChatTokenizer, tmp_path: Path) -> None:
    lines = [talk(f"t{number}", **({"id": f"u{number // 3}"} if number < 60 else {})) for number in range(NUM)]
    lines += [nearly(line, f"{line['id']}-copy") for line in lines[60:120]]
    version = make_version(tmp_path / "v", lines)
    for seed in range(3):
        made = vectorise(version, chat, settings(version, tmp_path / "cache", seed=seed, validation_share=0.1))
        held_out, learned = set(conversations(made, "validation")), set(conversations(made))
        assert held_out | learned == {line["id"] for line in lines}
        assert not held_out & learned
        assert 21 <= len(held_out) <= 42
        for line in lines[60:120]:
            assert (line["id"] in held_out) == (f"{line['id']}-copy" in held_out)
        for user in range(20):
            assert len({f"t{number}" in held_out for number in range(3 * user, 3 * user + 3)}) == 1


def test_what_nearly_all_say_is_no_reason_to_hold_out_nothing(chat: ChatTokenizer, tmp_path: Path) -> None:
    script = talk("script")
    version = make_version(tmp_path / "v", [nearly(script, f"t{number}") for number in range(NUM)])
    made = vectorise(version, chat, settings(version, tmp_path / "cache"))
    assert len(set(conversations(made, "validation"))) == 20


def test_one_user_of_nearly_everything_is_learned(chat: ChatTokenizer, tmp_path: Path) -> None:
    lines = [talk(f"t{number}", **({"id": "anonymous"} if number > 40 else {})) for number in range(NUM)]
    version = make_version(tmp_path / "v", lines)
    for seed in range(4):
        made = vectorise(version, chat, settings(version, tmp_path / "cache", seed=seed))
        assert len(set(conversations(made, "validation"))) == 20
        assert "t41" in conversations(made)


def test_lengths_tokenizers_and_recipes_share_what_is_held_out(chat: ChatTokenizer, tmp_path: Path) -> None:
    lines = [talk(f"t{number}", turns=2 + number % 3) for number in range(NUM)]
    lines[5]["messages"][1]["content"] += "电话13912345678"
    version = make_version(tmp_path / "v", lines)
    wanted = set(conversations(vectorise(version, chat, settings(version, tmp_path / "c")), "validation"))
    assert len(wanted) == 20
    short = settings(version, tmp_path / "c", max_source_length=100, max_target_length=30, targets="last")
    assert set(conversations(vectorise(version, chat, short), "validation")) == wanted

    bad = "".join({message["content"][3:6] for line in lines[::9] for message in line["messages"][:1]})
    words = [bad[start : start + 3] for start in range(0, len(bad), 3)]
    drop = {"kind": "match_sensitive_words", "words": words, "action": "drop_conversation"}
    recipe = {"operators": [*STRUCTURE["operators"], drop, {"kind": "redact_personal_data"}]}
    other = make_version(tmp_path / "w", lines, recipe)
    kept = {row.conversation_id for row in other.conversations()}
    assert NUM - len(kept) >= 17
    made = vectorise(other, chat, settings(other, tmp_path / "c"))
    assert set(conversations(made, "validation")) == wanted & kept


def test_a_given_validation_set_is_taken_out_of_training_and_counted(chat: ChatTokenizer, tmp_path: Path) -> None:
    lines = [talk(f"t{number}") for number in range(40)]
    lines += [talk(f"of-user-{number}", id="u7") for number in range(3)]
    version = make_version(tmp_path / "v", lines)
    given = make_version(
        tmp_path / "w",
        [
            lines[0],  # the same
            talk("t1", seed="another conversation of this name"),
            nearly(lines[2], "another name"),
            talk("new", id="u7"),
            talk("quite new"),
        ],
    )
    made = vectorise(version, chat, settings(version, tmp_path / "c", validation=manifest_of(given)))
    assert sorted(conversations(made, "validation")) == ["another name", "new", "quite new", "t0", "t1"]
    assert set(conversations(made)) == {f"t{number}" for number in range(40) if number not in (0, 2)}
    assert made.facts["shared_with_validation"] == {"same_user": 3, "same_id": 1, "same_content": 1}
    everything = vectorise(version, chat, settings(version, tmp_path / "c", validation=manifest_of(version)))
    assert everything.num_rows == 0
    with pytest.raises(ConfigError, match=r"^data\.validation: no manifest"):
        vectorise(version, chat, settings(version, tmp_path / "c", validation=str(tmp_path / "none")))


def test_a_version_mixed_in_does_not_bring_back_what_is_held_out(chat: ChatTokenizer, tmp_path: Path) -> None:
    lines = [talk(f"t{number}") for number in range(NUM)]
    version = make_version(tmp_path / "v", lines)
    last_month = make_version(tmp_path / "w", [*lines[:100], *(talk(f"old-{number}") for number in range(20))])
    mix = [{"version": manifest_of(last_month), "weight": 0.5}]
    made = vectorise(version, chat, settings(version, tmp_path / "c", mix=mix))
    held_out = set(conversations(made, "validation"))
    assert len(held_out) == 20
    assert not held_out & set(conversations(made))
    shared = held_out & {line["id"] for line in lines[:100]}
    assert made.facts["shared_with_validation"] == {"same_id": len(shared)}
    assert len(conversations(made, source=1)) == 120 - len(shared)
