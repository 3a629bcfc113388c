"""Makes `dialogues.jsonl`: business conversations as people speak them, from hand-written parts and a seed.

Scenarios, statements and slot values stand in `parts/`; this program varies, joins and disturbs them: fillers,
repetitions, self-repairs, bare answers, sensitive words, personal data of invented people. The same seed gives the same
bytes: `python examples/generate.py --check` fails when the committed file is another.
"""

import argparse
import json
import random
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
OUTPUT = FOLDER / "dialogues.jsonl"
SEED = 20261124
NUM_ZH, NUM_EN = 340, 60
Turn = dict[str, str]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check that the committed file is current")
    options = parser.parse_args()
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in conversations(random.Random(SEED)))
    if not options.check:
        OUTPUT.write_text(text, "utf-8")
        return 0
    if OUTPUT.read_text("utf-8") != text:
        print("examples/dialogues.jsonl is not what examples/generate.py makes: run it", file=sys.stderr)
        return 1
    return 0


def conversations(rng: random.Random) -> Iterator[dict[str, Any]]:
    """All conversations, in order."""
    for language, count in (("zh", NUM_ZH), ("en", NUM_EN)):
        parts = json.loads((FOLDER / "parts" / f"{language}.json").read_text("utf-8"))
        zh = json.loads((FOLDER / "parts" / "zh.json").read_text("utf-8"))
        before: dict[str, Any] | None = None
        for number in range(count):
            made = conversation(rng, parts, {**zh, **parts}, f"{language}-{number + 1:03d}", chinese=language == "zh")
            if before is not None and number % 40 == 39:  # the same call, filed twice under two ids
                made = {**before, "id": made["id"]}
            yield made
            before = made


def conversation(
    rng: random.Random, parts: dict[str, Any], words: dict[str, Any], name: str, *, chinese: bool
) -> dict[str, Any]:
    """One call: an opening, a scenario, perhaps a statement or an outburst, a closing, all spoken."""
    scenario = rng.choice(parts["scenarios"])
    slots = slot_values(rng, words)
    exchanges = [(rng.choice(asks), rng.choice(answers)) for asks, answers in scenario["turns"]]
    if rng.random() < 0.45:
        exchanges.insert(rng.randrange(1, len(exchanges) + 1), tuple(rng.choice(parts["statements"])))
    if rng.random() < 0.1:
        exchanges.insert(rng.randrange(1, len(exchanges) + 1), tuple(rng.choice(parts["insults"])))
    if rng.random() < 0.03:  # a caller with many questions
        exchanges += [
            (rng.choice(asks), rng.choice(answers))
            for s in rng.sample(parts["scenarios"], 3)
            for asks, answers in s["turns"]
        ]
    if rng.random() < 0.6:
        exchanges.append(tuple(rng.choice(parts["closings"])))
    user = metadata(rng, words) if rng.random() < 0.4 else None
    messages: list[Turn] = []
    if rng.random() < 0.25:
        messages.append({"role": "assistant", "content": rng.choice(parts["openings"])})
    for ask, reply in exchanges:
        answer = fill(reply, slots)
        if chinese and user and user.get("gender") and rng.random() < 0.2:
            answer = f"{'女士' if user['gender'] in ('女', 'female') else '先生'}您好，{answer}"
        messages += [
            {"role": "user", "content": speak(rng, fill(ask, slots), parts["fillers"], chinese=chinese)},
            {
                "role": "assistant",
                "content": answer if rng.random() > 0.04 else hesitate(rng, answer, parts["fillers"]),
            },
        ]
    disturb(rng, messages)
    time = f"2026-{rng.randrange(1, 11):02d}-{rng.randrange(1, 29):02d}T{rng.randrange(8, 21):02d}:{rng.randrange(60):02d}:00"
    made: dict[str, Any] = {"id": name, "messages": messages, "meta": {"domain": scenario["domain"], "time": time}}
    return made if user is None else {**made, "user": user}


def disturb(rng: random.Random, messages: list[Turn]) -> None:
    """What really happens in logs: a sentence sent in two pieces, an empty turn, a caller who got no answer."""
    chance = rng.random()
    if chance < 0.08:
        index = rng.choice([i for i, turn in enumerate(messages) if turn["role"] == "user"])
        messages.insert(
            index,
            {
                "role": "user",
                "content": rng.choice(["你好", "在吗", "喂"]) if not messages[index]["content"].isascii() else "Hello?",
            },
        )
    elif chance < 0.11:
        messages.insert(rng.randrange(len(messages)), {"role": "user", "content": "  "})
    elif chance < 0.13:
        first = next(i for i, turn in enumerate(messages) if turn["role"] == "user")
        del messages[first + 1 :]


def speak(rng: random.Random, text: str, fillers: list[str], *, chinese: bool) -> str:
    """The text as it is spoken: sometimes with a filler, a repetition or a pause to think."""
    if re.fullmatch(r"嗯+", text):
        return text
    chance = rng.random()
    if chance < 0.3:
        return hesitate(rng, text, fillers)
    if chance < 0.42:
        return stutter(rng, text, chinese=chinese)
    if chance < 0.48:
        return hesitate(rng, stutter(rng, text, chinese=chinese), fillers)
    return text


def hesitate(rng: random.Random, text: str, fillers: list[str]) -> str:
    """Puts a filler before the text, or after its first pause."""
    filler = rng.choice(fillers)
    if "，" in text and rng.random() < 0.4:
        return text.replace("，", "，" + filler, 1)
    return filler + (text[0].lower() + text[1:] if text[0].isascii() and not text.startswith("I") else text)


def stutter(rng: random.Random, text: str, *, chinese: bool) -> str:
    """Says a pronoun or the first words twice or three times."""
    if not chinese:
        return re.sub(r"\b(I|the|my|to) ", r"\1 \1 ", text, count=1)
    if match := re.search(r"我想|我要|我们|这个|帮我", text):
        again = match.group() if rng.random() < 0.5 else match.group()[0] * rng.randint(1, 2)
        return text[: match.start()] + again + text[match.start() :]
    return text


def metadata(rng: random.Random, words: dict[str, Any]) -> dict[str, Any]:
    """What a customer system knows, in one of several spellings."""
    known: dict[str, Any] = {"id": f"u{rng.randrange(1, 200):04d}"}
    if rng.random() < 0.7:
        known[rng.choice(["gender", "性别"])] = rng.choice(["女", "男", "female", "male"])
    if rng.random() < 0.5:
        known["age"] = rng.randint(16, 75)
    elif rng.random() < 0.4:
        known["birth_year"] = rng.randint(1950, 2008)
    if rng.random() < 0.5:
        known[rng.choice(["province", "省份"])] = rng.choice(words["provinces"])
    if rng.random() < 0.3:
        known["city"] = rng.choice(words["cities"])
    if rng.random() < 0.3:
        known["phone"] = phone(rng)
    if rng.random() < 0.15:
        known["crowd"] = [rng.choice(["student", "vip", "senior", "office_worker"])]
    if "性别" in known:
        known["gender"] = known.pop("性别")
    return known


def slot_values(rng: random.Random, words: dict[str, Any]) -> dict[str, str]:
    """Values for the slots of one conversation, so that they agree within it."""
    plan, wan, size = rng.choice([29, 39, 59, 79]), rng.randint(1, 9), rng.choice([36, 38, 40])
    values = {
        "amount": rng.randint(3, 60) * 10, "balance": rng.randint(1, 200), "plan": plan, "plan2": plan + 30,
        "extra": rng.randint(5, 80), "gb": rng.choice([5, 10, 20, 30]), "pack": rng.choice([10, 15, 20, 90]),
        "minutes": rng.choice([100, 200, 300]), "hour": rng.randint(9, 19), "fee": rng.choice([5, 10, 15]),
        "days": rng.randint(2, 7), "wan": wan, "wan2": wan + 2, "years": rng.randint(1, 5), "size": size,
        "size2": size + 2, "order": str(rng.randrange(10**11, 10**12)), "age": rng.randint(18, 70), "phone": phone(rng),
        "idcard": id_card(rng), "card": bank_card(rng), "email": f"user{rng.randrange(1000)}@example.com",
        "address": rng.choice(words["addresses"]), "name": rng.choice(words["names"]), "item": rng.choice(words["items"]),
        "color": rng.choice(words["colors"]), "province": rng.choice(words["provinces"]), "home": rng.choice(words["cities"]),
        "crowd": rng.choice(words["crowd"]),
    }  # fmt: skip
    values["city"], values["city2"] = rng.sample(words["cities"], 2)
    values["hotel"], values["hotel2"] = rng.sample(words["hotels"], 2)
    return {name: str(value) for name, value in values.items()}


def fill(text: str, slots: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: slots[match.group(1)], text)


def phone(rng: random.Random) -> str:
    return rng.choice(["138", "139", "150", "186", "199"]) + "".join(str(rng.randrange(10)) for _ in range(8))


def id_card(rng: random.Random) -> str:
    """An invented identity number with the right check digit (GB 11643)."""
    body = f"{rng.choice(['510107', '330106', '440106'])}{rng.randint(1955, 2005)}{rng.randint(1, 12):02d}{rng.randint(1, 28):02d}{rng.randrange(1000):03d}"
    weights = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
    return body + "10X98765432"[sum(int(d) * w for d, w in zip(body, weights, strict=True)) % 11]


def bank_card(rng: random.Random) -> str:
    """An invented card number that passes the Luhn check."""
    body = "622202" + "".join(str(rng.randrange(10)) for _ in range(12))
    total = sum(sum(divmod(int(d) * (2 if i % 2 == 0 else 1), 10)) for i, d in enumerate(reversed(body)))
    return body + str(-total % 10)


if __name__ == "__main__":
    sys.exit(main())
