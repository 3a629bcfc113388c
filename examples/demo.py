"""The main job from end to end, over HTTP: raw conversations in, a fine-tuned model out.

Starts the whole stack in a new folder on free loopback ports, uploads `examples/dialogues.jsonl`, curates it into a
dataset version, asks for tag statistics, fine-tunes a model on exactly that version with two FSDP processes, and lets
it answer a customer before and after. Run it by `make demo`: a tiny model from scratch, about two minutes. By
`make demo BASE=smollm2` a real pretrained base is registered first and fine-tuned.
"""

import argparse
import itertools
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

EXAMPLES = Path(__file__).parent
STEP_TIMEOUT_S = 900
SCRATCH = "scratch:tiny"
BASE = "smollm2-135m-instruct"
FACT = ("What is the capital of France?", "Paris")
"""What a base that was built rightly knows before it is trained."""
FINAL = ("processed", "error", "succeeded", "failed", "cancelled")
QUESTION = "嗯嗯，你好，我我我想查一下我的话费。"
"""As it is spoken; the model is asked what the recipe makes of it."""
BARS = "▁▂▃▄▅▆▇█"
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


class DemoError(RuntimeError):
    """A step did not end as it should."""


class Talkmill:
    """The service over HTTP; any error answer ends the demo with its message."""

    def __init__(self, url: str, key: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/v1", headers={"Authorization": f"Bearer {key}"}, timeout=120)

    def get(self, path: str, **params: Any) -> Any:
        return self._checked(self._http.get(path, params=params))

    def post(self, path: str, **kwargs: Any) -> Any:
        return self._checked(self._http.post(path, **kwargs))

    def wait(self, path: str, show: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Polls a resource until it has ended; `show` sees every answer."""
        deadline = time.monotonic() + STEP_TIMEOUT_S
        while time.monotonic() < deadline:
            resource: dict[str, Any] = self.get(path)
            show(resource)
            if resource["status"] in ("processed", "succeeded"):
                return resource
            if resource["status"] in FINAL:
                reason = resource.get("error") or resource.get("status_details")
                raise DemoError(f"{path} ended as {resource['status']}: {reason}")
            time.sleep(0.5)
        raise DemoError(f"{path} did not end within {STEP_TIMEOUT_S} s")

    @staticmethod
    def _checked(response: httpx.Response) -> Any:
        if response.is_error:
            raise DemoError(f"{response.request.method} {response.request.url.path}: {response.text[:600]}")
        return response.json()


@contextmanager
def running_stack(folder: Path) -> Iterator[Talkmill]:
    """`talkmill up` on `folder`; at the end it is stopped, and nothing of it may be left."""
    command = [sys.executable, "-m", "app.cli", "up", "--data", str(folder), "--port", "0"]
    stack = subprocess.Popen(command, cwd=EXAMPLES.parent, stdout=subprocess.DEVNULL)
    state = folder / "stack.json"
    try:
        deadline = time.monotonic() + 90
        while not state.exists():
            if stack.poll() is not None or time.monotonic() > deadline:
                raise DemoError(f"the stack did not start, see {folder}/logs")
            time.sleep(0.2)
        url = json.loads(state.read_bytes())["url"]
        console.print(f"   answers at {url}")
        yield Talkmill(url, (folder / "admin.key").read_text())
    finally:
        family = psutil.Process(stack.pid).children(recursive=True) if stack.poll() is None else []
        stack.send_signal(signal.SIGINT)
        stack.wait(30)
        _, left = psutil.wait_procs(family, timeout=5)
        if left:
            raise DemoError(f"processes left running: {[process.pid for process in left]}")


def progress_bar() -> Progress:
    columns = (TextColumn("   {task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, TextColumn("{task.fields[note]}"), console=console)


def step(number: int, title: str) -> None:
    console.print(f"\n[bold]{number}. {title}[/bold]")


def upload(mill: Talkmill) -> dict[str, Any]:
    path = EXAMPLES / "dialogues.jsonl"
    with path.open("rb") as file, console.status(f"   {path.name}: {path.stat().st_size:,} bytes"):
        created = mill.post("/files", files={"file": (path.name, file)}, data={"purpose": "conversations"})
        file_object = mill.wait(f"/files/{created['id']}", lambda _: None)
    counts = file_object["counts"]
    found = file_object["detection"]
    roles = ", ".join(f"{speaker} → {role}" for speaker, role in found.get("speakers", {}).items())
    console.print(f"   detected: {found['container']}, {found['encoding']}, format {file_object['format']}; {roles}")
    console.print(
        f"   {created['id']}: {counts['conversations']} conversations, "
        f"{counts['turns']} turns, {counts['quarantined']} quarantined"
    )
    return file_object


def curate(mill: Talkmill, file_id: str) -> dict[str, Any]:
    lexicon = mill.post("/lexicons", json=json.loads((EXAMPLES / "lexicon.json").read_text("utf-8")))
    recipe = json.loads((EXAMPLES / "recipe.json").read_text("utf-8"))
    for operator in recipe["operators"]:
        if operator["kind"] == "match_sensitive_words":
            operator.pop("words", None)
            operator["lexicons"] = [lexicon["id"]]
    dataset = mill.post("/datasets", json={"name": "demo", "description": "examples/dialogues.jsonl"})
    version = mill.post(f"/datasets/{dataset['id']}/versions", json={"files": [file_id], "recipe": recipe})
    with progress_bar() as bar:
        task = bar.add_task("curating", total=None, note="")

        def show(resource: dict[str, Any]) -> None:
            progress = resource["progress"]
            note = f"shards, {progress['conversations_done']} conversations"
            bar.update(task, completed=progress["shards_done"], total=progress["shards_total"] or None, note=note)

        return mill.wait(f"/versions/{version['id']}", show)


def show_counts(version: dict[str, Any]) -> None:
    counts = version["counts"]
    console.print(
        f"   {version['id']}: {counts['conversations_in']} in = {counts['conversations_kept']} kept + "
        f"{counts['conversations_dropped']} dropped; {counts['turns_edited']} turns edited; "
        f"digest {version['digest'][:23]}…"
    )
    table = Table("operator", "edited", "dropped turns", "dropped conversations", "codes")
    for kind, row in counts["by_operator"].items():
        codes = ", ".join(f"{code} {number}" for code, number in row["codes"].items())
        table.add_row(kind, *(str(row[c]) for c in ("edited", "dropped_turns", "dropped_conversations")), codes)
    console.print(table)


def show_edits(mill: Talkmill, version_id: str) -> None:
    """A few turns as they came in and as they are learned, with the reasons."""
    table = Table("turn", "before", "after", "why", show_lines=True)
    kinds = (("smooth_disfluency", "repair", 2), ("smooth_disfluency", "repetition", 2),
             ("smooth_disfluency", "filler", 1), ("match_sensitive_words", None, 1))  # fmt: skip
    shown: set[str] = set()
    for operator, code, count in kinds:
        query = {"operator": operator, "limit": 50} | ({"code": code} if code else {})
        rows = mill.get(f"/versions/{version_id}/trace", **query)["data"]
        candidates = (_edited_turn(mill, version_id, row) for row in rows)
        for turn in itertools.islice((c for c in candidates if c and c[1] not in shown), count):
            table.add_row(*turn)
            shown.add(turn[1])
    console.print(table)


def _edited_turn(mill: Talkmill, version_id: str, row: dict[str, Any]) -> tuple[str, str, str, str] | None:
    """(place, before, after, reasons) of a traced turn, if it is short and its conversation kept all its turns."""
    pair = mill.get(f"/versions/{version_id}/conversations/{row['conversation_id']}")
    before, after = pair["original"]["messages"], (pair["curated"] or {}).get("messages", [])
    turn = row["turn"]
    if len(before) != len(after) or len(before[turn]["content"]) > 60:
        return None
    edits = [edit for edit in pair["trace"] if edit["turn"] == turn and edit["action"] in ("edit", "mask")]
    why = "\n".join(f"{edit['code']}: {edit['before']} → {edit['after'] or '∅'}" for edit in edits)
    return f"{row['conversation_id']}/{turn}", before[turn]["content"], after[turn]["content"], why


def show_tags(mill: Talkmill, version_id: str) -> None:
    for by in (["age_band", "gender"], ["province"]):
        answer = mill.get(f"/versions/{version_id}/tags/statistics", by=by, metric="conversations")
        table = Table(*by, "conversations", "share", title=f"{answer['total']} conversations by {' and '.join(by)}")
        for row in sorted(answer["rows"], key=lambda row: -row["value"])[:8]:
            table.add_row(*(str(row[name]) for name in by), str(row["value"]), f"{row['share']:.1%}")
        console.print(table)


def register(folder: Path, base: Path) -> None:
    """`talkmill models add`, as an operator runs it beside the running service."""
    command = [sys.executable, "-m", "app.cli", "models", "add", str(base), "--name", BASE, "--data", str(folder)]
    with console.status(f"   {base}"):
        added = subprocess.run(command, cwd=EXAMPLES.parent, capture_output=True, text=True, check=False)
    if added.returncode != 0:
        raise DemoError(added.stderr.strip())
    console.print(f"   {added.stdout.splitlines()[0]}")


def check_base(mill: Talkmill) -> None:
    """The registered base answers, and knows what it learned long ago."""
    listed = {model["id"]: model["owned_by"] for model in mill.get("/models")["data"]}
    if listed.get(BASE) != "local":
        raise DemoError(f"{BASE} is not among the models {', '.join(listed)}")
    question, fact = FACT
    answer = reply(mill, BASE, question)
    console.print(f"   {question} [bold]{answer}[/bold]")
    if fact not in answer:
        raise DemoError(f"the base does not say {fact}: its weights or its tokenizer are wrong")


def settings(model: str, steps: int) -> dict[str, Any]:
    """The trainer's settings: two processes, and steps that a small machine makes in a few minutes."""
    run = {"max_steps": steps, "nproc": 2, "precision": "bf16", "seed": 7}
    few = {"bleu_samples": 20, "max_new_tokens": 64}
    shared = {"data": {"max_source_length": 256, "max_target_length": 128}, "run": run, "evaluate": few}
    if model == SCRATCH:
        return {**shared, "batch": {"tokens": 4096}}
    once = {"every_steps": steps}
    return {
        **shared, "batch": {"tokens": 2304}, "optim": {"peak_lr": 1e-4}, "checkpoint": once, "evaluate": {**few, **once},
    }  # fmt: skip


def train(mill: Talkmill, version_id: str, model: str, steps: int) -> dict[str, Any]:
    body = {"model": model, "training_file": version_id, "suffix": "demo", "trainer": settings(model, steps)}
    job = mill.post("/fine_tuning/jobs", json=body)
    with progress_bar() as bar:
        task = bar.add_task("training", total=steps, note="starting two processes")

        def show(resource: dict[str, Any]) -> None:
            done = (resource.get("progress") or {}).get("step", 0)
            if done:
                last = mill.get(f"/fine_tuning/jobs/{job['id']}/metrics", points=1)["data"][-1]
                note = f"loss {last['loss']:.3f}, {last['tokens_per_second']:,.0f} tokens/s"
                bar.update(task, completed=done, note=note)

        return mill.wait(f"/fine_tuning/jobs/{job['id']}", show)


def show_training(mill: Talkmill, job: dict[str, Any]) -> tuple[float, float]:
    """The loss over the run; returns the mean of the first and of the last five steps."""
    data = mill.get(f"/fine_tuning/jobs/{job['id']}/metrics", points=1000)["data"]
    losses = [line["loss"] for line in data]
    low, high = min(losses), max(losses)
    stride = max(1, len(losses) // 60)
    bars = (BARS[round((loss - low) / (high - low or 1) * (len(BARS) - 1))] for loss in losses[::stride])
    first, last = sum(losses[:5]) / len(losses[:5]), sum(losses[-5:]) / len(losses[-5:])
    console.print(f"   loss {first:.3f} {''.join(bars)} {last:.3f} over {len(losses)} steps")
    evaluations = mill.get(f"/fine_tuning/jobs/{job['id']}/metrics", points=1)["evaluations"]
    held_out = " → ".join(f"{row['validation_loss']:.3f}" for row in (evaluations[0], evaluations[-1]))
    console.print(f"   loss on held-out conversations {held_out}; files: {files(mill, job)}")
    checks = ", ".join(f"{check['name']} {'yes' if check['ok'] else 'NO'}" for check in job["architecture"])
    console.print(f"   architecture: {checks}")
    if not last < first:
        raise DemoError("the loss did not fall")
    return first, last


def files(mill: Talkmill, job: dict[str, Any]) -> str:
    """What the job left, in a line."""
    names = [file["name"] for file in mill.get(f"/fine_tuning/jobs/{job['id']}/files")["data"]]
    beside = [
        f"{len(list(group))} in {part}/" for part, group in itertools.groupby(sorted(filter(_part, names)), _part)
    ]
    return ", ".join([*(name for name in names if not _part(name)), *beside])


def _part(name: str) -> str:
    return name.rpartition("/")[0]


def ask(mill: Talkmill, model: str, question: str, *, curate: bool = False) -> dict[str, Any]:
    """The completion that answers a question."""
    body = {"model": model, "messages": [{"role": "user", "content": question}], "max_tokens": 48, "temperature": 0}
    answer: dict[str, Any] = mill.post("/chat/completions", json={**body, "curate": curate})
    return answer


def reply(mill: Talkmill, model: str, question: str) -> str:
    return str(ask(mill, model, question)["choices"][0]["message"]["content"])


def show_replies(mill: Talkmill, job: dict[str, Any]) -> None:
    after = ask(mill, job["fine_tuned_model"], QUESTION, curate=True)
    (asked,) = after["curated"]["messages"]
    before = reply(mill, f"{job['fine_tuned_model']}:ckpt-step-0", asked["content"])
    console.print(f"   customer        {QUESTION}")
    console.print(f"   as curated      {asked['content']}")
    console.print(f"   before training {before!r}")
    console.print(f"   after training  {after['choices'][0]['message']['content']!r}")


def run(folder: Path, base: Path | None, steps: int) -> None:
    started = time.monotonic()
    step(1, "The stack: database, broker, API, curation and training workers")
    with running_stack(folder) as mill:
        step(2, "Upload and ingest")
        file_object = upload(mill)
        step(3, "Curate into a dataset version")
        version = curate(mill, file_object["id"])
        show_counts(version)
        show_edits(mill, version["id"])
        step(4, "Who is talking: tag statistics")
        show_tags(mill, version["id"])
        number = 5
        if base is not None:
            step(number, "Register a pretrained base")
            register(folder, base)
            check_base(mill)
            number += 1
        step(number, "Fine-tune on this version: 2 processes, FSDP, bf16")
        job = train(mill, version["id"], SCRATCH if base is None else BASE, steps)
        first, last = show_training(mill, job)
        step(number + 1, "One reply, before and after")
        show_replies(mill, job)
    counts = version["counts"]
    console.print(
        f"\n[bold green]Done[/bold green] in {time.monotonic() - started:.0f} s, stack stopped, nothing left running: "
        f"{counts['conversations_in']} conversations in, {counts['conversations_kept']} kept, "
        f"{counts['turns_edited']} turns edited, loss {first:.2f} → {last:.2f}, model {job['fine_tuned_model']}."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Talkmill's main job from end to end, over HTTP.")
    parser.add_argument("--steps", type=int, help="training steps (default: 240 from scratch, 16 of a base)")
    parser.add_argument("--base", type=Path, metavar="DIR", help="fine-tune this base (see examples/smollm2.py)")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="use this data folder and keep it")
    options = parser.parse_args()
    folder = (options.keep or Path(tempfile.mkdtemp(prefix="talkmill-demo-"))).absolute()
    try:
        run(folder, options.base, options.steps or (240 if options.base is None else 16))
    except DemoError as error:
        console.print(f"[bold red]The demo failed:[/bold red] {error}\nIts data folder is kept: {folder}")
        return 1
    if options.keep is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
