"""The training loop of one rank, read from top to bottom: set up, resume, step, log, evaluate, save, export."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import distributed

from trainer import architecture, checkpoint
from trainer.batches import Batch, batches
from trainer.beacon import Beacon, Phase
from trainer.chat_tokenizer import ChatTokenizer
from trainer.config import TrainConfig
from trainer.cure import micro_tokens
from trainer.detours import read_detours
from trainer.evaluate import EVALUATIONS, Evaluator, last_evaluation
from trainer.export import export
from trainer.loss import LanguageModelLoss
from trainer.model import build, load_structure
from trainer.optim import make_optimizer, set_learning_rate
from trainer.parallel import full, num_parameters, shard, start_group, sum_over_ranks, this_device
from trainer.records import FaultError, append_line, cut_back, event, read_lines, write_json
from trainer.recovery import fault_in, window_facts
from trainer.schedule import Schedule
from trainer.vectors import Vectors

SUCCEEDED, INTERRUPTED = "succeeded", "interrupted"


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
    """
    stopping = Stopping().listen()
    device = this_device()
    start_group(device)
    rank, world = distributed.get_rank(), distributed.get_world_size()
    schedule = Schedule.of(config, vectors.num_rows)
    micro_rows = max(1, micro_tokens(run_dir, config) // config.row_tokens)
    model = _sharded_model(config, chat, run_dir, device)
    optimizer = make_optimizer(model, config.optim)
    done = _resume(run_dir, model, optimizer, config, beacon)
    evaluate = Evaluator(config, vectors, run_dir, micro_rows, device)
    history = read_lines(run_dir / "metrics.jsonl")
    cursor = sum(line["rows"] for line in history)
    rows_of_steps = list(schedule.steps_from(cursor))
    num_steps = done + len(rows_of_steps)
    stream = batches(
        vectors, rows_of_steps=rows_of_steps, micro_rows=micro_rows, capacity=config.row_tokens,
        seed=config.run.seed, start=cursor, rank=rank, world=world, detours=read_detours(run_dir),
    )  # fmt: skip

    outcome = SUCCEEDED
    for step, num_rows in enumerate(rows_of_steps, done + 1):
        began = time.perf_counter()
        beacon.beat(Phase.STEP, step)
        batch = next(stream)
        cursor += num_rows
        lr = schedule.learning_rate(cursor)
        set_learning_rate(optimizer, lr)
        loss_sum = _accumulate(model, batch, world, device, step, beacon)
        grad_norm = full(torch.nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm)).item()
        loss_total, stop_votes = sum_over_ranks(loss_sum, float(stopping.asked))
        loss = loss_total / max(1, batch.target_tokens)
        if fault := fault_in({"loss": loss, "grad_norm": grad_norm, "rows": num_rows}, history, config.recovery):
            raise FaultError(*fault)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

        line = _line(step, num_steps, num_rows, loss, lr, grad_norm, batch, history, time.perf_counter() - began)
        history.append(line)
        if rank == 0:
            append_line(run_dir / "metrics.jsonl", line)
        last = step == num_steps or stop_votes > 0
        if step == num_steps or step % _int(config.evaluate.every_steps) == 0:
            beacon.beat(Phase.EVALUATE, step)
            evaluate(model, step)
        if last or step % _int(config.checkpoint.every_steps) == 0:
            beacon.beat(Phase.SAVE, step)
            _save(run_dir, step, model, optimizer, history, config)
        if stop_votes > 0 and step < num_steps:
            outcome = INTERRUPTED
            break

    beacon.beat(Phase.EXPORT, len(history))
    _conclude(outcome, model, chat, run_dir, history)
    return outcome


def _sharded_model(config: TrainConfig, chat: ChatTokenizer, run_dir: Path, device: torch.device) -> LanguageModelLoss:
    """Builds the model, describes it while it is whole, and shards it."""
    whole = build(config, load_structure(config, chat), chat)
    if distributed.get_rank() == 0:
        architecture.report(run_dir, whole)
        processes = distributed.get_world_size()
        event(run_dir, "model built", parameters=num_parameters(whole), processes=processes, device=device.type)
    model = shard(LanguageModelLoss(whole).to(device), config, device)
    return model.train()


def _resume(
    run_dir: Path, model: LanguageModelLoss, optimizer: torch.optim.Optimizer, config: TrainConfig, beacon: Beacon
) -> int:
    """Goes on from the newest complete checkpoint; a new run begins with one of step 0. Returns its step."""
    done = max(checkpoint.steps(run_dir), default=None)
    if done is None:
        done = 0
        _save(run_dir, done, model, optimizer, [], config)
    else:
        beacon.beat(Phase.RESUME, done)
        checkpoint.load(run_dir, done, model, optimizer)
        if distributed.get_rank() == 0:
            event(run_dir, f"resumed at step {done}")
    if distributed.get_rank() == 0:
        cut_back(run_dir / "metrics.jsonl", done)
        cut_back(run_dir / EVALUATIONS, done)
    distributed.barrier()
    return done


def _conclude(
    outcome: str, model: LanguageModelLoss, chat: ChatTokenizer, run_dir: Path, history: list[dict[str, Any]]
) -> None:
    """Exports what was learned, and says how the run ended."""
    if outcome == SUCCEEDED:
        export(model, chat, run_dir / "model")
    if distributed.get_rank() == 0:
        write_json(run_dir / "result.json", _result(outcome, history, last_evaluation(run_dir)))
        event(run_dir, "training finished" if outcome == SUCCEEDED else "stopped after a checkpoint", step=len(history))
    distributed.destroy_process_group()


def _save(
    run_dir: Path,
    step: int,
    model: LanguageModelLoss,
    optimizer: torch.optim.Optimizer,
    history: list[dict[str, Any]],
    config: TrainConfig,
) -> None:
    quality = window_facts(step, history, config.recovery)
    checkpoint.save(run_dir, step, model, optimizer, quality, config.checkpoint.keep)


def _accumulate(
    model: LanguageModelLoss, batch: Batch, world: int, device: torch.device, step: int, beacon: Beacon
) -> float:
    """Gradients of the mean loss per target token of the whole step; returns this rank's sum of losses."""
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    last = len(batch.micro_batches) - 1
    for index, micro in enumerate(batch.micro_batches):
        beacon.beat(Phase.STEP, step, index)
        model.set_requires_gradient_sync(index == last)  # an FSDP module's method
        ids, positions, labels = (tensor.to(device, non_blocking=True) for tensor in micro)
        loss = model(ids, positions, labels).sum()
        # FSDP averages over ranks; the sum of all ranks' losses is to be divided by the step's own target tokens.
        (loss * (world / max(1, batch.target_tokens))).backward()
        loss_sum += loss.detach().double()
    return float(loss_sum)


def _line(
    step: int,
    num_steps: int,
    num_rows: int,
    loss: float,
    lr: float,
    grad_norm: float,
    batch: Batch,
    history: list[dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    return {
        "step": step,
        "steps": num_steps,
        "loss": loss,
        "lr": lr,
        "grad_norm": grad_norm,
        "loss_scale": 1.0,
        "rows": num_rows,
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
    return int(psutil.Process(os.getpid()).memory_info().rss)


def _result(outcome: str, history: list[dict[str, Any]], evaluation: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "status": outcome,
        "error": None,
        "steps": len(history),
        "tokens": history[-1]["total_tokens"] if history else 0,
        "loss_first": history[0]["loss"] if history else None,
        "loss_last": history[-1]["loss"] if history else None,
        "evaluation": evaluation,
    }


def _int(value: int | str | None) -> int:
    assert isinstance(value, int), "the launcher resolves every auto"
    return value
