"""What others' tools need to do the same job: environments of their own, inputs in their form, commands to measure.

What their operators do and do not do beside ours: `benchmarks/README.md`, "Beside others".
"""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from measured import Case

FOLDER = Path(__file__).parent
ENVIRONMENTS = FOLDER.parents[1] / ".talkmill" / "bench"
FILLERS = r"(?m)^(?:嗯|呃|那个|哦|就是说|啊|然后)+[，,、]?"
REPEATS = r"([\u4e00-\u9fff]{1,3})\1+"
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}


def install(peer: str) -> Path:
    """Makes the environment of a peer unless its requirements are there already; the folder of its commands."""
    requirements, target = FOLDER / f"{peer}.txt", ENVIRONMENTS / peer
    stamp = target / hashlib.sha256(requirements.read_bytes()).hexdigest()
    if not stamp.exists():
        shutil.rmtree(target, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", target], check=True)
        pip = [target / "bin" / "python", "-m", "pip", "install", "--quiet"]
        # torch first, or what follows pulls its CUDA build
        torch = [line for line in requirements.read_text().split() if line.startswith("torch==")]
        for wanted in ([torch] if torch else []) + [["--requirement", str(requirements)]]:
            subprocess.run([*pip, *wanted], check=True, stderr=subprocess.DEVNULL)
        stamp.touch()
    return target / "bin"


def data_juicer(name: str, folder: Path, source: Path, words: Sequence[str], model: Path) -> Case:
    """Data-Juicer: flagged words, replacements, its fastText filter, on one text a conversation.

    Its file is written here, unmeasured, since it reads no conversations; MB/s is told of the file of conversations.
    """
    commands = install("data-juicer")
    models, flagged, made = folder / "dj-models", folder / "dj-flagged", source.with_suffix(".text.jsonl")
    for path in (models, flagged):
        path.mkdir()
    with made.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in _texts(source))
    shutil.copy(model, models / "lid.176.bin")
    (flagged / "flagged_words.json").write_text(json.dumps({"zh": list(words)}, ensure_ascii=False), "utf-8")
    code = "import sys, sentencepiece as s; s.SentencePieceTrainer.train(input=sys.argv[1], model_prefix=sys.argv[2]"
    code += ", vocab_size=2000, hard_vocab_limit=False, num_threads=1, minloglevel=2, input_sentence_size=50000)"
    sample = folder / "dj-sample.txt"
    sample.write_text("".join(text + "\n" for text, _ in zip(_texts(source), range(2_000), strict=False)), "utf-8")
    subprocess.run([commands / "python", "-c", code, sample, models / "zh.sp"], check=True, capture_output=True)
    flags = {"lang": "zh", "tokenization": True, "max_ratio": 1.0, "flagged_words_dir": str(flagged)}
    out = folder / "dj-out"
    config = {
        "project_name": "bench", "dataset_path": str(made), "export_path": str(out / "out.jsonl"), "np": 1,
        "text_keys": "text", "use_cache": False, "open_monitor": False, "open_tracer": False, "skip_op_error": False,
        "process": [
            {"flagged_words_filter": flags},
            {"replace_content_mapper": {"pattern": [FILLERS, REPEATS], "repl": ["", r"\1"]}},
            {"language_id_score_filter": {"lang": "", "min_score": 0.0}},
        ],
    }  # fmt: skip
    (folder / "dj.yaml").write_text(json.dumps(config, ensure_ascii=False), "utf-8")  # JSON is YAML
    caches = {"DATA_JUICER_MODELS_CACHE": models, "DATA_JUICER_CACHE_HOME": folder / "dj-cache"}
    command = [*_env({**OFFLINE, **caches}), commands / "dj-process", "--config", folder / "dj.yaml"]
    return Case(name, command, source.stat().st_size, lambda: shutil.rmtree(out, ignore_errors=True))


def datatrove(name: str, folder: Path, source: Path, words: Sequence[str], model: Path, *, automaton: bool) -> Case:
    """datatrove: its word filter or an automaton, replacements, its fastText filter, on one text a conversation."""
    commands, listed, out = install("datatrove"), folder / "words.txt", folder / "datatrove-out"
    listed.write_text("\n".join(words), "utf-8")
    settings = {
        "source": str(source), "out": str(out), "words": str(listed), "model": str(model), "automaton": automaton,
        "fillers": FILLERS, "repeats": REPEATS,
    }  # fmt: skip
    environment = {**OFFLINE, "HF_HOME": folder / "hf"}
    command = [*_env(environment), commands / "python", FOLDER / "run_datatrove.py", json.dumps(settings)]
    return Case(name, command, source.stat().st_size, lambda: shutil.rmtree(out, ignore_errors=True))


def train_model(labels: Path, target: Path) -> Path:
    """A plain fastText model over the characters' 1- to 3-grams, from the labels that ours is trained on."""
    import fasttext

    lines = labels.with_suffix(".fasttext")
    with labels.open(encoding="utf-8") as given, lines.open("w", encoding="utf-8") as file:
        for label in map(json.loads, given):
            file.write(f"__label__{label['label']} {' '.join(label['text'].split())}\n")
    sizes = {"dim": 16, "minn": 1, "maxn": 3, "bucket": 200_000}
    fasttext.train_supervised(str(lines), **sizes, epoch=10, lr=0.5, thread=1, verbose=0).save_model(str(target))
    return target


def _texts(source: Path) -> Iterator[str]:
    with source.open("rb") as file:
        for line in file:
            yield "\n".join(message["content"] for message in json.loads(line)["messages"])


def _env(variables: dict[str, str | Path]) -> list[str | Path]:
    return ["env", *(f"{name}={value}" for name, value in variables.items())]
