"""What is done to runs of the trainer, and what must come of it.

Each plays one run on a version with harmful conversations, beside the same run on a version without them.
"""

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
from chaos.trainer.runs import STEPS, Finished, Run, lines, make_monotonous_version, make_version

CLEAN_MARGIN = 0.2
"""Mean loss of the last steps may be so far from the clean run's."""
EXACT = 1e-4
"""Of the same steps on as many processes, which sum up in the same order."""
GIBBERISH = tuple(f"胡言{number}" for number in range(8))
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Scenario:
    """A run and what must come of it."""

    run: Run
    harmful: tuple[str, ...] = ()
    """Conversations in the version, named after what they say."""
    kinds: tuple[str, ...] = ()
    """Faults that must be told, in their order; empty where only the end counts."""
    left_out: frozenset[str] = frozenset()
    """Conversations at fault that must be found, and none beside them."""
    fails: str | None = None
    """What the error says where the run must not go on."""
    before: Callable[[Path, Path], None] | None = None
    """Is called with the run's folder and the manifest before the run that is judged."""
    may_miss: bool = False
    """Whether some of those at fault may have been learned before they stood out."""
    as_clean: bool = False
    """Whether every step has the loss that it has in the clean run, not only the last ones nearly so."""
    version: Callable[[Path, Sequence[str]], Path] = make_version
    """Makes the version; one that is not like the others has a clean run of its own."""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    detected: str
    checkpoint: str
    records: int
    steps_repeated: int
    seconds_lost: float
    loss: float | None
    lost: str | None = None


def play(name: str, scenario: Scenario, folder: Path, clean: Finished) -> Row:
    """Plays a scenario and judges it; what is wrong is the row's `lost`."""
    manifest = scenario.version(folder / "with", scenario.harmful)
    if scenario.version is not make_version:
        clean = scenario.run.finish(folder / "clean", scenario.version(folder / "without", ()))
    if scenario.before is not None:
        scenario.before(folder / "run", manifest)
    finished = scenario.run.finish(folder / "run", manifest)
    found = finished.recoveries
    loss = _last_loss(finished) if finished.metrics else None
    return Row(
        fault=name,
        detected="; ".join(entry["reason"] for entry in found) or finished.result["error"] or "",
        checkpoint=", ".join(str(entry["checkpoint"]["step"]) for entry in found),
        records=len(finished.records_left_out),
        steps_repeated=sum(entry["steps_repeated"] for entry in found),
        seconds_lost=round(sum(entry["seconds_lost"] for entry in found), 1),
        loss=loss,
        lost=_wrong(scenario, finished, clean),
    )


def _wrong(scenario: Scenario, finished: Finished, clean: Finished) -> str | None:
    """The first thing that is not as it must be."""
    kinds = tuple(entry["kind"] for entry in finished.recoveries)
    if scenario.fails is not None:
        error = finished.result["error"] or ""
        failed = finished.status == 1 and finished.result["status"] == "failed"
        return None if failed and scenario.fails in error else f"did not fail as it must: {finished.result}"
    if finished.status != 0 or finished.result["status"] != "succeeded":
        return f"status {finished.status}: {finished.log[-1500:]}"
    if [line["step"] for line in finished.metrics] != list(range(1, scenario.run.steps + 1)):
        return f"steps {[line['step'] for line in finished.metrics]}"
    if scenario.kinds and kinds != scenario.kinds:
        return f"told {kinds}"
    left_out = finished.records_left_out
    if not (left_out <= scenario.left_out and left_out if scenario.may_miss else left_out == scenario.left_out):
        return f"left out {left_out}"
    if scenario.as_clean:
        apart = max(
            abs(one["loss"] - other["loss"]) for one, other in zip(finished.metrics, clean.metrics, strict=True)
        )
        if apart > EXACT:
            return f"the losses are up to {apart:.5f} from the clean run's"
    apart = abs(_last_loss(finished) - _last_loss(clean))
    return f"the loss is {apart:.3f} from the clean run's" if apart > CLEAN_MARGIN else None


def _last_loss(finished: Finished) -> float:
    return float(sum(line["loss"] for line in finished.metrics[-5:]) / 5)


def ranks(process: Process) -> list[psutil.Process]:
    """The run's rank processes."""
    found = []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "trainer.rank" in child.cmdline():
                    found.append(child)
    return found


def kill_ranks(times: int, seed: int, *, everyone: bool) -> Callable[[Process, Path], None]:
    """Kills one rank or all of them at random moments, each time after a step was done."""

    def disturb(process: Process, run_dir: Path) -> None:
        rng = random.Random(seed)
        for _ in range(times):
            await_steps(process, run_dir, rng.randint(1, 4))
            time.sleep(rng.uniform(0, 0.3))
            victims = ranks(process)
            for victim in victims if everyone else victims[:1]:
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
            psutil.wait_procs(victims, timeout=30)

    return disturb


def stop_a_rank(process: Process, run_dir: Path) -> None:
    """Freezes a rank for good."""
    await_steps(process, run_dir, 6)
    for victim in ranks(process)[-1:]:
        victim.suspend()


def damage_the_cache(process: Process, run_dir: Path) -> None:
    """Overwrites files of the token cache while the run reads them."""
    await_steps(process, run_dir, 2)
    for path in (run_dir.parent / "cache").rglob("*.arrow"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(b"\xff" * 64)


def await_steps(process: Process, run_dir: Path, more: int) -> None:
    """Until so many more steps were done, or nearly all."""
    path = run_dir / "metrics.jsonl"
    wanted = len(lines(path)) + more
    while process.poll() is None and len(lines(path)) < min(wanted, STEPS - 1):
        time.sleep(0.02)


def damaged_checkpoint(folder: Path, manifest: Path) -> None:
    """A run that was stopped, and whose newest checkpoint a disk then spoiled."""

    def stop(process: Process, run_dir: Path) -> None:
        await_steps(process, run_dir, 12)
        process.send_signal(signal.SIGTERM)

    stopped = Run(disturb=stop).finish(folder, manifest)
    assert stopped.status == 75, stopped.log
    newest = max((folder / "run" / "checkpoints").glob("step-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in newest.glob("*.distcp"):
        with path.open("r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(os.urandom(4096))


def impossible_ids(marker: str) -> Callable[[Path, Path], None]:
    """A conversation's token ids in the cache lie beyond the vocabulary, and the checksums agree."""

    def before(folder: Path, manifest: Path) -> None:
        def stop(process: Process, run_dir: Path) -> None:
            await_steps(process, run_dir, 1)
            process.send_signal(signal.SIGTERM)

        stopped = Run(disturb=stop).finish(folder, manifest)
        assert stopped.status == 75, stopped.log
        assert _spoil(folder / "cache", marker), "the conversation is not in the cache"

    return before


def _spoil(cache: Path, conversation: str) -> bool:
    """Rewrites files of the cache and their summaries."""
    import hashlib

    found = False
    for path in cache.rglob("*.arrow"):
        table = pa.ipc.open_file(path.read_bytes()).read_all()
        if "conversation_id" not in table.column_names:
            continue
        names = table["conversation_id"].to_pylist()
        if conversation not in names:
            continue
        ids = table["ids"].to_pylist()
        ids[names.index(conversation)][3] = 1_000_000
        column = pa.chunked_array([pa.array(ids, table.schema.field("ids").type)])
        table = table.set_column(table.schema.get_field_index("ids"), table.schema.field("ids"), column)
        before = hashlib.sha256(path.read_bytes()).hexdigest()
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table.combine_chunks())
        after = hashlib.sha256(path.read_bytes()).hexdigest()
        for summary in cache.rglob("*.json"):
            summary.write_text(summary.read_text("utf-8").replace(before, after), "utf-8")
        found = True
    return found


TWO_MACHINES = {"run": {"max_steps": STEPS, "nproc": 1, "nnodes": 2}}


def _of_one(kind: str, told: str, **changes: Any) -> Scenario:
    return Scenario(Run({"毒蘑菇": kind}, changes), ("毒蘑菇",), (told,), frozenset({"毒蘑菇"}))


SCENARIOS: dict[str, Scenario] = {
    "a record that segfaults": _of_one("segfault", "crash"),
    "a record that ends the process": _of_one("exit", "exception"),
    "a record that raises": _of_one("exception", "exception"),
    "a record that gives NaN": _of_one("nan", "nonfinite"),
    "a record that hangs": _of_one("hang", "hang"),
    "token ids out of range": Scenario(
        Run(), ("毒蘑菇",), ("exception",), frozenset({"毒蘑菇"}), before=impossible_ids("毒蘑菇")
    ),
    "a segment whose norm explodes": Scenario(
        Run({"毒": "explode"}, {"recovery": {"grad_norm_limit": 50.0}}),
        tuple(f"毒{name}" for name in ("蘑菇", "蛇", "药", "草")),
        (),
        frozenset(f"毒{name}" for name in ("蘑菇", "蛇", "药", "草")),
    ),
    "a segment of gibberish": Scenario(
        Run(changes={"optim": {"peak_lr": 1e-2}, "recovery": {"window": 8}, "run": {"max_steps": 36, "nproc": 2}}),
        GIBBERISH,
        (),
        frozenset(GIBBERISH),
        may_miss=True,
        version=make_monotonous_version,
    ),
    "two bad segments": Scenario(
        Run({"毒蘑菇": "segfault", "毒蛇": "nan"}), ("毒蘑菇", "毒蛇"), (), frozenset({"毒蘑菇", "毒蛇"})
    ),
    "a corrupt file of the token cache": Scenario(Run(disturb=damage_the_cache), (), ("cache",), as_clean=True),
    "a checkpoint that is damaged": Scenario(Run(), (), ("checkpoint",), before=damaged_checkpoint, as_clean=True),
    "no memory for more than a row": Scenario(Run({"*": "no_room"}), (), ("out_of_memory", "out_of_memory")),
    "one rank killed, five times": Scenario(
        Run(disturb=kill_ranks(5, 1, everyone=False)), (), ("killed",) * 5, as_clean=True
    ),
    "all ranks killed, five times": Scenario(
        Run(disturb=kill_ranks(5, 2, everyone=True)), (), ("killed",) * 5, as_clean=True
    ),
    "a rank frozen": Scenario(Run(disturb=stop_a_rank), (), ("hang",), as_clean=True),
    "one of two machines killed": Scenario(
        Run(changes=TWO_MACHINES, disturb=kill_ranks(1, 3, everyone=True), machines=2),
        (),
        ("killed",),
        as_clean=True,
    ),
    "a record that segfaults, two machines": Scenario(
        Run({"毒蘑菇": "segfault"}, TWO_MACHINES, machines=2), ("毒蘑菇",), ("crash",), frozenset({"毒蘑菇"})
    ),
    "a spike that no record shows": Scenario(
        Run({"毒蘑菇": "explode in the run"}, {"recovery": {"grad_norm_limit": 50.0}}), ("毒蘑菇",)
    ),
    "every record gives NaN": Scenario(Run({"*": "nan"}), fails="the records are not the cause"),
    "stop where asked to": Scenario(
        Run({"毒蘑菇": "nan"}, {"recovery": {"on_bad_segment": "stop"}}), ("毒蘑菇",), fails="on_bad_segment is stop"
    ),
}


def clean_run(folder: Path) -> Finished:
    """The same run on a version without any harmful record."""
    finished = Run().finish(folder / "run", make_version(folder / "with", ()))
    assert finished.status == 0, finished.log
    return finished


def play_all(folder: Path, wanted: Callable[[str], bool] = lambda _: True) -> Iterator[Row]:
    """Plays the scenarios one after another."""
    clean = clean_run(folder / "clean")
    for number, (name, scenario) in enumerate(SCENARIOS.items()):
        if wanted(name):
            yield play(name, scenario, folder / str(number), clean)
