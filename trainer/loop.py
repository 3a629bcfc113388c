"""The training loop of one rank, read from top to bottom: set up, resume, step, log, evaluate, save, export."""

import gc
import shutil
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import distributed

from trainer.blocks import prepare_blocks
from trainer.chat_tokenizer import ChatTokenizer
from trainer.checkpoint import Checkpoints, Progress, read_qualities
from trainer.config import TrainConfig
from trainer.data.ahead import one_ahead
from trainer.data.batches import Batch, batches
from trainer.data.vectors import Vectors
from trainer.evaluation.evaluate import EVALUATIONS, last_evaluation
from trainer.loss import LanguageModelLoss
from trainer.objectives import Export, objective_of
from trainer.optim import LossScale, make_optimizer
from trainer.parallel import num_parameters, shard, start_group, this_device
from trainer.records import FaultError, append_line, cut_back, event, read_lines, write_json
from trainer.recovery.beacon import Beacon, Phase
from trainer.recovery.cure import micro_tokens, tolerated_until
from trainer.recovery.detours import read_detours
from trainer.recovery.verdicts import fault_in, window_facts
from trainer.schedule import Schedule, unusual_rate
from trainer.step import Stepper
from trainer.structure import architecture
from trainer.structure.model import build, load_structure

SUCCEEDED, INTERRUPTED = "succeeded", "interrupted"
COLLECT_EVERY = 50
"""Steps between two garbage collections, the same on all ranks: one that collects on its own has the others wait."""


@dataclass
class Stopping:
    """Whether somebody asked the run to end early."""

    asked: bool = False

    def listen(self) -> "Stopping":
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "asked", True))
        return self


def train(config: TrainConfig, vectors: Vectors, chat: ChatTokenizer, run_dir: Path, beacon: Beacon) -> str:
    """Trains as one of the launcher's ranks; returns how it ended.

    Raises:
        FaultError: a step's loss or gradient is no number, or far from what they were.
        TrainingError: a checkpoint cannot be written.
    """
    stopping = Stopping().listen()
    device = this_device()
    start_group(device)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    schedule = Schedule.of(config, vectors.num_rows)
    micro_rows = max(1, micro_tokens(run_dir, config) // config.row_tokens)
    model = _sharded_model(config, chat, run_dir, device, micro_rows * config.row_tokens)
    optimizer = make_optimizer(model, config.optim)
    checkpoints = Checkpoints(run_dir, config, model, optimizer)
    begin = _begin(run_dir, config, checkpoints, beacon)
    scale = LossScale(config.run.precision, begin.loss_scale, begin.good_steps)
    stepper = Stepper(config, model, optimizer, scale, device, beacon, vectors.sources)
    evaluate = objective_of(config).evaluator(config, vectors, run_dir, micro_rows, device)
    cursor, history, tolerated = begin.rows, read_lines(run_dir / "metrics.jsonl"), tolerated_until(run_dir)
    rows_of_steps = list(schedule.steps_from(cursor))
    num_steps = begin.step + len(rows_of_steps)
    stream = batches(
        vectors, rows_of_steps=rows_of_steps, micro_rows=micro_rows, capacity=config.row_tokens,
        seed=config.run.seed, start=cursor, rank=rank, world=world, detours=read_detours(run_dir),
    )  # fmt: skip
    stream = one_ahead(_pinned(stream) if device.type == "cuda" else stream)
    _collect_only_when_told()

    for step, num_rows in enumerate(rows_of_steps, begin.step + 1):
        began = time.perf_counter()
        beacon.beat(Phase.STEP, step)
        checkpoints.check()
        batch = next(stream)
        cursor += num_rows
        lr = schedule.learning_rate(cursor)
        found = stepper.gradients(batch, step, stopping.asked)
        line = {"step": step, "steps": num_steps, "lr": lr, "rows": num_rows, **found.facts()}
        if (fault := fault_in(line, history, config.recovery)) and not (fault[0] == "spike" and step <= tolerated):
            raise FaultError(*fault)
        stepper.apply(lr, found.skipped)

        line |= _facts(batch, history, time.perf_counter() - began)
        history.append(line)
        if rank == 0:
            append_line(run_dir / "metrics.jsonl", line)
        last = step == num_steps or found.votes > 0
        validation_loss = None
        if step == num_steps or step % _int(config.evaluate.every_steps) == 0:
            beacon.beat(Phase.EVALUATE, step)
            validation_loss = evaluate(model, step)
        if last or checkpoints.would_be_best(validation_loss) or step % _int(config.checkpoint.every_steps) == 0:
            beacon.beat(Phase.SAVE, step)
            quality = {**window_facts(step, history, config.recovery), "validation_loss": validation_loss}
            checkpoints.save(Progress(step, cursor, scale.value, scale.good_steps), quality, history)
        if last or step % COLLECT_EVERY == 0:
            gc.collect()
        if last:
            break

    beacon.beat(Phase.EXPORT, len(history))
    checkpoints.wait()
    return _conclude(num_steps, model, checkpoints, chat, run_dir, history, objective_of(config).export)


def _sharded_model(
    config: TrainConfig, chat: ChatTokenizer, run_dir: Path, device: torch.device, micro: int
) -> LanguageModelLoss:
    """Builds the model, describes it while it is whole, and shards it."""
    objective, whole = objective_of(config), build(config, load_structure(config, chat), chat)
    if distributed.get_rank() == 0:
        architecture.report(run_dir, whole)
    model = objective.loss(objective.make_model(whole, config))
    done = prepare_blocks(model, config, device, micro)
    if distributed.get_rank() == 0:
        counts = {"parameters": num_parameters(model), "trained": num_parameters(model, trained=True)}
        facts = {**counts, "processes": distributed.get_world_size(), "device": device.type}
        if (reason := done.pop("not_compiled_because", None)) is not None:
            event(run_dir, f"the model is not compiled: {reason}", level="warning")
        event(run_dir, "model built", **facts, **done)
    return shard(model.to(device), config, device).train()


def _begin(run_dir: Path, config: TrainConfig, checkpoints: Checkpoints, beacon: Beacon) -> Progress:
    """Goes on from the newest complete checkpoint; a new run begins with one of step 0."""
    first = distributed.get_rank() == 0
    step = max(read_qualities(run_dir), default=None)
    if step is None:
        progress = Progress()
        checkpoints.save(progress, {**window_facts(0, [], config.recovery), "validation_loss": None}, [])
        if first and (sentence := unusual_rate(config)) is not None:
            event(run_dir, sentence, level="warning")
    else:
        beacon.beat(Phase.RESUME, step)
        progress = checkpoints.load(step)
        if first:
            event(run_dir, f"resumed at step {step}")
    if first:
        cut_back(run_dir / "metrics.jsonl", progress.step)
        cut_back(run_dir / EVALUATIONS, progress.step)
    distributed.barrier()
    return progress


def _collect_only_when_told() -> None:
    gc.collect()
    gc.freeze()  # what was set up stays, and is not looked at again
    gc.disable()


def _pinned(stream: Iterable[Batch]) -> Iterator[Batch]:
    """Batches in memory that a GPU reads while others work."""
    for batch in stream:
        pinned = [tuple(tensor.pin_memory() for tensor in micro) for micro in batch.micro_batches]
        yield replace(batch, micro_batches=pinned)


def _facts(batch: Batch, history: list[dict[str, Any]], seconds: float) -> dict[str, Any]:
    """What a line of the metrics says of a step beside what was learned."""
    return {
        "tokens": batch.tokens,
        "target_tokens": batch.target_tokens,
        "total_tokens": batch.tokens + (history[-1]["total_tokens"] if history else 0),
        "tokens_per_second": round(batch.tokens / seconds, 1),
        "epoch": round(batch.epoch, 4),
        "segment": batch.segment,
        "peak_memory_bytes": _peak_memory_bytes(),
    }


def _peak_memory_bytes() -> int:
    """Of this rank: the GPU's where there is one, else resident memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status").read_text("utf-8")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def _conclude(
    num_steps: int,
    model: LanguageModelLoss,
    checkpoints: Checkpoints,
    chat: ChatTokenizer,
    run_dir: Path,
    history: list[dict[str, Any]],
    export: Export,
) -> str:
    """Exports the last model, and the best where that is another one; says and returns how the run ended."""
    first, best = distributed.get_rank() == 0, checkpoints.best
    outcome = SUCCEEDED if len(history) == num_steps else INTERRUPTED
    if outcome == SUCCEEDED:
        export(model, chat, run_dir / "model")
        if best is not None and best[0] != len(history):
            checkpoints.load_model(best[0])
            export(model, chat, run_dir / "best")
        elif first:
            shutil.rmtree(run_dir / "best", ignore_errors=True)
    if first:
        write_json(run_dir / "result.json", _result(outcome, history, best, last_evaluation(run_dir)))
        event(run_dir, "training finished" if outcome == SUCCEEDED else "stopped after a checkpoint", step=len(history))
    distributed.destroy_process_group()
    return outcome


def _result(
    outcome: str, history: list[dict[str, Any]], best: tuple[int, float] | None, evaluation: dict[str, Any] | None
) -> dict[str, Any]:
    return {
        "status": outcome,
        "error": None,
        "steps": len(history),
        "tokens": history[-1]["total_tokens"] if history else 0,
        "loss_first": history[0]["loss"] if history else None,
        "loss_last": history[-1]["loss"] if history else None,
        "best": None if best is None else {"step": best[0], "validation_loss": best[1]},
        "evaluation": evaluation,
    }


def _int(value: int | str | None) -> int:
    assert isinstance(value, int), "the launcher resolves every auto"
    return value
