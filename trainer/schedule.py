"""How long a run is, how its batch grows and how its learning rate runs: functions of the rows done, not of the steps.

A step is so many rows of the run's one order, whatever the number of processes. Here every `auto` of the settings gets
its value too, since most depend on how many rows there are.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from trainer.config import PEAK_LR, ConfigError, TrainConfig

MAX_BATCH_TOKENS, MIN_BATCH_TOKENS, MIN_STEPS = 65_536, 4_096, 200
MAX_BATCH_CONVERSATIONS = 64
MAX_NEW_TOKENS = 256
MIN_WARMUP_STEPS, MAX_WARMUP_SHARE = 10, 0.1
USUAL_RATES = {"base": (5e-5, 1e-4), "lora": (5e-5, 1e-3), "scratch": (1e-4, 5e-3)}
"""By kind of run: what passes without a warning."""


@dataclass(frozen=True)
class Schedule:
    """Rows and learning rate of each step; a cursor is the number of rows done before it."""

    start_rows: int
    full_rows: int
    until_rows: int
    """Where the batch is full; it grows in equal stages up to there."""
    stage_rows: int
    """What a stage has more than the one before: a micro-batch."""
    total_rows: int
    warmup_rows: float
    peak_lr: float
    min_lr_ratio: float

    @classmethod
    def of(cls, config: TrainConfig, num_rows: int) -> "Schedule":
        """Of settings whose batch and learning rate are resolved; `num_rows` make an epoch.

        `run.max_steps` is the length, but where it is what `run.epochs` come to, the last step takes what is left.
        """
        full = (
            _rows(config, config.batch.tokens) if config.batch.by == "tokens" else int(config.batch.conversations or 1)
        )
        ramp = config.batch.ramp
        start = full if ramp is None else min(full, _rows(config, ramp.start_tokens))
        until = 0 if ramp is None else -(-ramp.until_tokens // config.row_tokens)
        stages = _Stages(start, full, until, _rows(config, config.batch.micro_tokens))
        total = max(1, round(num_rows * config.run.epochs))
        if config.run.max_steps is not None and config.run.max_steps != stages.steps_to(total):
            total = stages.rows_of(config.run.max_steps)
        warmup = max(stages.rows_of(MIN_WARMUP_STEPS), config.optim.warmup_ratio * total)
        warmup = max(min(warmup, MAX_WARMUP_SHARE * total), min(start, total))
        assert isinstance(config.optim.peak_lr, float)
        return cls(start, full, until, stages.more, total, warmup, config.optim.peak_lr, config.optim.min_lr_ratio)

    def rows_at(self, cursor: int) -> int:
        """Rows of the step that begins at a cursor; 0 at the end."""
        return max(0, min(self._stages.rows_at(cursor), self.total_rows - cursor))

    def steps_from(self, cursor: int) -> Iterator[int]:
        """Rows of each step from a cursor to the end."""
        while rows := self.rows_at(cursor):
            yield rows
            cursor += rows

    def rows_before(self, step: int) -> int:
        """The cursor where a step begins; steps count from 1."""
        return min(self.total_rows, self._stages.rows_of(step - 1))

    @property
    def num_steps(self) -> int:
        """Of the whole run."""
        return self._stages.steps_to(self.total_rows)

    def learning_rate(self, cursor: int) -> float:
        """Of the step that ends at a cursor: linear warm-up to the peak, then cosine down to its smallest share."""
        if cursor <= self.warmup_rows:
            return self.peak_lr * cursor / self.warmup_rows
        progress = min(1.0, (cursor - self.warmup_rows) / max(1, self.total_rows - self.warmup_rows))
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak_lr * (self.min_lr_ratio + (1 - self.min_lr_ratio) * cosine)

    @property
    def _stages(self) -> "_Stages":
        return _Stages(self.start_rows, self.full_rows, self.until_rows, self.stage_rows)


@dataclass(frozen=True)
class _Stages:
    """A batch that grows from `start` to `full` rows until a cursor, by `more` rows at a time."""

    start: int
    full: int
    until: int
    more: int

    @property
    def _growths(self) -> int:
        return -(-(self.full - self.start) // self.more)

    def rows_at(self, cursor: int) -> int:
        if cursor >= self.until:
            return self.full
        return min(self.full, self.start + self.more * (cursor * self._growths // self.until))

    def steps_to(self, total: int) -> int:
        """Steps that `total` rows take."""
        done, cursor = 0, 0
        for end, rows in self._ends():
            steps = max(0, -(-(min(end, total) - cursor) // rows))
            done, cursor = done + steps, cursor + steps * rows
        return done + max(0, -(-(total - cursor) // self.full))

    def rows_of(self, steps: int) -> int:
        """Rows that so many steps take."""
        cursor = 0
        for end, rows in self._ends():
            taken = min(steps, max(0, -(-(end - cursor) // rows)))
            steps, cursor = steps - taken, cursor + taken * rows
        return cursor + steps * self.full

    def _ends(self) -> Iterator[tuple[int, int]]:
        """The cursor where each stage ends, and the rows of its steps."""
        for stage in range(self._growths):
            yield -(-self.until * (stage + 1) // self._growths), self.start + self.more * stage


def resolve(config: TrainConfig, *, num_rows: int, num_gpus: int, sample_tokens: float = 0) -> TrainConfig:
    """Replaces every `auto` of batch, optimiser, schedule and run by its value for `num_rows` packed rows.

    `sample_tokens` is the mean length of a sample, a conversation or a window of one.

    Raises:
        ConfigError: a batch ramp that does not fit the batch or the run, or more processes than GPUs.
    """
    peak_lr = PEAK_LR[config.model.kind] if config.optim.peak_lr == "auto" else config.optim.peak_lr
    micro = config.batch.micro_tokens
    micro = max(config.row_tokens, 4096 if num_gpus == 0 else 16_384) if micro == "auto" else micro
    config = _with(config, "optim", peak_lr=float(peak_lr))
    config = _with(config, "batch", micro_tokens=max(micro, config.row_tokens))
    if config.batch.by == "conversations":
        config = _with(config, "batch", conversations=_batch_conversations(config, num_rows))
    else:
        tokens = _batch_tokens(config, num_rows, sample_tokens)
        conversations = max(1, round(tokens / sample_tokens)) if sample_tokens else None
        config = _with(config, "batch", tokens=tokens, conversations=conversations)
    schedule = Schedule.of(config, num_rows)
    _check_ramp(config, schedule)
    steps = schedule.num_steps
    every = config.checkpoint.every_steps
    every = max(1, min(500, steps // 10)) if every == "auto" else every
    evaluate = every if config.evaluate.every_steps == "auto" else config.evaluate.every_steps
    nproc = max(1, num_gpus) if config.run.nproc == "auto" else config.run.nproc
    if 0 < num_gpus < nproc:
        raise ConfigError(f"run.nproc: {nproc} processes want a GPU each, and {num_gpus} can be seen")
    config = _with(config, "run", nproc=nproc, max_steps=steps)
    config = _with(config, "checkpoint", every_steps=every)
    return _with(config, "evaluate", every_steps=evaluate, max_new_tokens=_max_new_tokens(config))


def _max_new_tokens(config: TrainConfig) -> int:
    given = config.evaluate.max_new_tokens
    return min(config.data.max_target_length, MAX_NEW_TOKENS) if given == "auto" else given


def unusual_rate(config: TrainConfig) -> str | None:
    """A sentence where the learning rate is outside of what is usual for the kind of run."""
    least, most = USUAL_RATES[config.model.kind]
    if least <= float(config.optim.peak_lr) <= most:
        return None
    of = {"base": "a full fine-tune", "lora": "LoRA", "scratch": "a model from scratch"}[config.model.kind]
    return f"optim.peak_lr is {config.optim.peak_lr:g}; {least:g} to {most:g} is usual for {of}"


def _with(config: TrainConfig, part: str, **values: object) -> TrainConfig:
    return config.model_copy(update={part: getattr(config, part).model_copy(update=values)})


def _batch_tokens(config: TrainConfig, num_rows: int, sample_tokens: float) -> int:
    if config.batch.tokens != "auto":
        tokens = config.batch.tokens
    elif config.batch.conversations is not None:
        tokens = round(config.batch.conversations * sample_tokens)
    else:
        tokens = MAX_BATCH_TOKENS
        least = max(MIN_BATCH_TOKENS, config.batch.ramp.start_tokens if config.batch.ramp else 0)
        while (
            tokens // 2 >= least and Schedule.of(_with(config, "batch", tokens=tokens), num_rows).num_steps < MIN_STEPS
        ):
            tokens //= 2
    return max(tokens, config.row_tokens)


def _batch_conversations(config: TrainConfig, num_rows: int) -> int:
    """Of a step that counts conversations, of which `num_rows` make an epoch; depends on no length."""
    if config.batch.conversations is not None:
        return config.batch.conversations
    return max(1, min(MAX_BATCH_CONVERSATIONS, round(num_rows * config.run.epochs) // MIN_STEPS))


def _check_ramp(config: TrainConfig, schedule: Schedule) -> None:
    ramp, row = config.batch.ramp, config.row_tokens
    if ramp is None:
        return
    if ramp.start_tokens < row:
        raise ConfigError(f"batch.ramp.start_tokens: {ramp.start_tokens} are less than the {row} tokens of a row")
    if ramp.start_tokens > int(config.batch.tokens):
        raise ConfigError(
            f"batch.ramp.start_tokens: {ramp.start_tokens} are more than the full batch of {config.batch.tokens} tokens"
        )
    if schedule.until_rows > schedule.total_rows:
        raise ConfigError(
            f"batch.ramp.until_tokens: {ramp.until_tokens} are more than the run's {schedule.total_rows * row} tokens"
        )


def _rows(config: TrainConfig, tokens: int | str) -> int:
    assert isinstance(tokens, int), "resolved"
    return max(1, tokens // config.row_tokens)
