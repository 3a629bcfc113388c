"""What the operators do to real text, against people's own corrections and on text that needs none.

Reads the real data beside the project (`../shared/data`); prints each figure with its bar and writes
`benchmarks/results/quality.json`. Exits with 2 where the data is missing. How each figure is counted: `docs/quality.md`.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from curation.classifier import evaluate
from curation.classifier_training import train_classifier
from curation.matching import Matcher
from curation.mixer import apply_edits
from curation.operators.match_sensitive_words import MatchSensitiveWords, builtin_lexicon
from curation.operators.smooth_disfluency import SmoothDisfluency, smooth

ROOT = Path(__file__).parent.parent
DATA = ROOT.parent / "shared" / "data"
CLEAN = ("dialog.crosswoz.val", "dialog.kdconv.dev", "dialog.taskmaster4_data07")
END = "。.？?！!，, "
INTERJECTIONS = set("嗯呃哦啊额唉噢喔哎欸诶唔")


@dataclass(frozen=True)
class Figure:
    """A measured value and the bar it has to reach; `at_most` bars are upper limits."""

    name: str
    value: float
    bar: float | None = None
    at_most: bool = False

    @property
    def reached(self) -> bool | None:
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def records(name: str) -> Iterator[dict[str, object]]:
    with (DATA / f"{name}.jsonl").open("rb") as file:
        yield from map(orjson.loads, file)


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
    matcher = Matcher([builtin_lexicon()], MatchSensitiveWords())
    for name in CLEAN:
        turns = edited = hit = 0
        for record in records(name):
            for message in record["messages"]:  # type: ignore[attr-defined]
                text = message["content"]
                turns += 1
                hit += bool(matcher.find(text))
                rest = text.lstrip("".join(INTERJECTIONS) + END)
                edited += any(code != "grammar" for *_, code in smooth(rest, SmoothDisfluency()))
        yield Figure(f"{name}: turns smoothed", edited / turns, 0.01, at_most=True)
        yield Figure(f"{name}: turns hit by the built-in lexicon", hit / turns, 0.002, at_most=True)


def unsuitable_sentences() -> Iterator[Figure]:
    """COLD: trained on its train part, read once on its dev part."""
    train, dev = (
        [(str(record["text"]), str(record["label"])) for record in records(f"cls.cold.{part}")]
        for part in ("train", "dev")
    )
    with tempfile.TemporaryDirectory() as folder:
        train_classifier(train, Path(folder) / "classifier")
        found = evaluate(Path(folder) / "classifier", dev)
    yield Figure("COLD dev: macro-F1", found["macro_f1"], 0.905)


MEASURED: tuple[Callable[[], Iterator[Figure]], ...] = (
    spoken_chinese,
    spoken_english,
    clean_dialogues,
    unsuitable_sentences,
)


def main() -> int:
    console = Console(width=110)
    if not DATA.is_dir():
        console.print(f"the real data is not at {DATA}: nothing was measured")
        return 2
    figures = [figure for measure in MEASURED for figure in measure()]
    table = Table("figure", "value", "bar", "")
    for figure in figures:
        bar = "" if figure.bar is None else f"{'≤' if figure.at_most else '≥'} {figure.bar:.3f}"
        table.add_row(
            figure.name, f"{figure.value:.4f}", bar, "" if figure.reached is not False else "[red]below[/red]"
        )
    console.print(table)
    results = ROOT / "benchmarks" / "results"
    results.mkdir(exist_ok=True)
    told = [{**asdict(figure), "value": round(figure.value, 4), "reached": figure.reached} for figure in figures]
    (results / "quality.json").write_text(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
