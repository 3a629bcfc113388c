"""Smoothing: against people's own corrections, and on dialogues that need none.

`python -m benchmarks.quality.smoothing --sample 100` prints edits of clean dialogues to be read by eye.
"""

import argparse
import random
from collections import Counter
from collections.abc import Iterator

from benchmarks.quality.figures import CLEAN, Figure, records, turns
from curation.mixer import apply_edits
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth

END = "。.？?！!，, "
INTERJECTIONS = set("嗯呃哦啊额唉噢喔哎欸诶唔")


def figures() -> Iterator[Figure]:
    yield from spoken_chinese()
    yield from spoken_english()
    yield from clean_dialogues()


def smoothed(text: str) -> str:
    return apply_edits(text, [edit[:3] for edit in smooth(text, SmoothDisfluency())])


def is_subsequence(short: str, long: str) -> bool:
    rest = iter(long)
    return all(character in rest for character in short)


def spoken_chinese() -> Iterator[Figure]:
    """CS2W, validation part: rows in which people only left characters out."""
    exact = right = deleted = wanted = rows = 0
    for record in records("s2w.cs2w.val"):
        spoken, written = str(record["spoken"]).rstrip(END), str(record["written"]).rstrip(END)
        if not is_subsequence(written, spoken):
            continue
        rows += 1
        ours = smoothed(str(record["spoken"])).rstrip(END)
        exact += ours == written
        gone, meant = (Counter(spoken) - Counter(kept) for kept in (ours, written))
        right += (gone & meant).total()
        deleted += gone.total()
        wanted += meant.total()
    yield Figure(f"CS2W val ({rows} rows): exact match", exact / rows, 0.55)
    yield Figure("CS2W val: deleted characters, precision", right / max(deleted, 1), 0.87)
    yield Figure("CS2W val: deleted characters, recall", right / wanted, 0.60)


def spoken_english() -> Iterator[Figure]:
    """Disfl-QA: questions with a repair in them."""
    pairs = [(str(r["spoken"]), str(r["written"])) for r in records("s2w.disflqa_en.dev")]
    exact = sum(smoothed(a).rstrip(END).lower() == b.rstrip(END).lower() for a, b in pairs)
    yield Figure("Disfl-QA dev: exact match", exact / len(pairs), 0.25)


def clean_dialogues() -> Iterator[Figure]:
    """Edits of text that needs none; interjections at the beginning, and bare ones, set aside."""
    for name in CLEAN:
        said = [text.lstrip("".join(INTERJECTIONS) + END) for text in turns(name)]
        edited = sum(any(code != "grammar" for *_, code in smooth(text, SmoothDisfluency())) for text in said)
        yield Figure(f"{name}: turns smoothed", edited / len(said), 0.01, at_most=True)


def sample(size: int, seed: int) -> Iterator[str]:
    """Edits of clean Chinese dialogues, of interjections and of all else, each with what stands around it."""
    kinds: dict[str, list[str]] = {"interjections": [], "others": []}
    for text in (text for name in CLEAN[:2] for text in turns(name)):
        for start, end, new, _ in smooth(text, SmoothDisfluency()):
            kind = "interjections" if set(text[start:end]) <= INTERJECTIONS | set(END) else "others"
            around = f"{text[max(0, start - 8) : start]}[{text[start:end]}>{new}]{text[end : end + 10]}"
            kinds[kind].append(around)
    for kind, edits in kinds.items():
        yield f"# {kind}: {min(size, len(edits))} of {len(edits)}"
        yield from random.Random(seed).sample(edits, min(size, len(edits)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=sample.__doc__)
    parser.add_argument("--sample", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("\n".join(sample(options.sample, options.seed)))
