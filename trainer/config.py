"""The settings of a run. Loads without torch, so that the service can check a job's settings too.

Values that depend on the run (`auto`) are resolved by the launcher and written to `config.json`.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

Auto = Literal["auto"]
Beta = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1, lt=2**53)]
PRESETS: dict[str, dict[str, int]] = {
    "tiny": {"hidden_size": 192, "num_layers": 4, "num_heads": 6, "num_kv_heads": 2, "vocab_size": 6144},
    "small": {"hidden_size": 512, "num_layers": 8, "num_heads": 8, "num_kv_heads": 4, "vocab_size": 16384},
}
"""Sizes of models made from scratch, for tests, demonstrations and ablations."""
PEAK_LR = {"base": 5e-5, "lora": 2e-4, "scratch": 1e-3}
MAX_SEGMENT_TOKENS = 4_194_304
TAGS = ("age_band", "gender", "province", "city", "country", "crowd")


def _condition(text: str) -> str:
    tag, _, value = text.partition(":")
    if tag not in TAGS or not value:
        raise ValueError(f"must be tag:value, as in province:四川省; tags are {', '.join(TAGS)}")
    return text


Condition = Annotated[str, AfterValidator(_condition)]
"""A tag and its value; `unknown` where there is none."""


class ConfigError(ValueError):
    """Settings that make no sense; the message names the field."""


class Settings(BaseModel):
    """Base of the parts."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False, serialize_by_alias=True
    )


class Scratch(Settings):
    """A model made from nothing: RMSNorm before each block, gated activation, RoPE or ALiBi, no biases."""

    preset: str = "tiny"
    hidden_size: int | None = Field(None, ge=8, multiple_of=8)
    num_layers: int | None = Field(None, ge=1)
    num_heads: int | None = Field(None, ge=1)
    num_kv_heads: int | None = Field(None, ge=1)
    vocab_size: int | None = Field(None, ge=300)
    """Entries of the byte-level BPE trained on the version's own text; fewer if the text has no more."""
    activation: Literal["swiglu", "geglu"] = "swiglu"
    position: Literal["rope", "alibi"] = "rope"

    @model_validator(mode="after")
    def _fits(self) -> "Scratch":
        if self.preset not in PRESETS:
            raise ValueError(f"unknown preset {self.preset!r}: any of {', '.join(PRESETS)}")
        sizes = self.sizes
        if sizes["hidden_size"] % sizes["num_heads"] or sizes["num_heads"] % sizes["num_kv_heads"]:
            raise ValueError("num_heads must divide hidden_size, and num_kv_heads must divide num_heads")
        if self.position == "rope" and sizes["hidden_size"] // sizes["num_heads"] % 2:
            raise ValueError("rope turns pairs of numbers: hidden_size must be an even multiple of num_heads")
        return self

    @property
    def sizes(self) -> dict[str, int]:
        """The preset's sizes with those given in place."""
        given = self.model_dump(exclude={"preset", "activation", "position"}, exclude_none=True)
        return {**PRESETS[self.preset], **given}


class Lora(Settings):
    """Low-rank adapters on the base's linear layers; the base's own weights stay as they are."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Scale of what the adapters add, over rank; auto: twice the rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    targets: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the linear layers to adapt; the output matrix is never one."""


class Model(Settings):
    """What is trained: a base model's folder, or a model from scratch."""

    base: str | None = None
    """Folder with config.json, safetensors and tokenizer.json."""
    scratch: Scratch | None = None
    lora: Lora | None = None

    @model_validator(mode="after")
    def _one(self) -> "Model":
        if (self.base is None) == (self.scratch is None):
            raise ValueError("give either base or scratch")
        if self.lora is not None and self.base is None:
            raise ValueError("lora wants a base: a model from scratch has nothing to adapt")
        return self

    @property
    def kind(self) -> Literal["base", "lora", "scratch"]:
        """What the default of the learning rate depends on."""
        return "scratch" if self.base is None else "lora" if self.lora is not None else "base"


class Source(Settings):
    """Another version learned beside the main one, to keep what the base knows."""

    version: str
    """Path of its manifest.json."""
    weight: float = Field(gt=0, le=1000)
    """Its tokens in an epoch for each token of the main version; rows are taken again where it has too few."""
    where: list[Condition] = []
    """A slice of it by tags, as in `data.where`."""


class Data(Settings):
    """What is learned, and how dialogues become samples."""

    version: str
    """Path of a dataset version's manifest.json."""
    preferences: str | None = None
    """JSON lines or Parquet of `messages`, `chosen`, `rejected`, in place of a version: what a reward model learns."""
    validation: str | None = None
    """Path of a version's manifest, of preferences for a reward model, to validate on, in place of a held-out share;
    what both have is not trained on."""
    where: list[Condition] = []
    """A slice by tags, as `province:四川省`; several of one tag mean any of them, different tags all of them."""
    mix: list[Source] = []
    max_source_length: int = Field(1024, ge=16, le=2**20)
    """Tokens before a reply, template included."""
    max_target_length: int = Field(512, ge=1, le=2**20)
    """Tokens of a reply."""
    targets: Literal["all", "last"] = "all"
    min_history_ratio: float = Field(0.5, ge=0, le=1)
    validation_share: float = Field(0.05, ge=0, lt=1)
    """Share of the conversations held out, by user; 20 to 2,000, never more than a fifth."""
    validation_seed: int | None = Field(None, ge=0, lt=2**63)
    """What the share is chosen by; default: `run.seed`. Runs of several seeds have it in common to be compared."""
    packing: bool = True
    """Several samples a row, none split; false: one sample a row, padded."""
    segment_tokens: Count | Auto = Field("auto", union_mode="left_to_right")
    """Tokens of a segment: what a process holds at once."""
    cache_dir: str | None = None
    """Where token vectors are kept between runs; default: beside the manifest."""
    loss_on: Literal["assistant"] = "assistant"

    @model_validator(mode="before")
    @classmethod
    def _preferences_are_a_version(cls, given: Any) -> Any:
        """Before the launcher has made a version of preferences, they stand in its place."""
        if isinstance(given, Mapping) and given.get("preferences") and "version" not in given:
            return {**given, "version": given["preferences"]}
        return given


class Ramp(Settings):
    """A batch that grows: small at first, when gradients point alike, and full once they are noisy."""

    start_tokens: Count
    """Tokens of the first steps, over all ranks."""
    until_tokens: Count
    """Tokens trained on when the batch is full; it grows by whole micro-batches in between."""


class Batch(Settings):
    """Tokens of an optimiser's step, over all ranks."""

    by: Literal["tokens", "conversations"] = "tokens"
    """conversations: a step is so many whole `conversations`, whatever their tokens, and rows are packed for it alone;
    so runs with other lengths learn the same replies in the same steps."""
    tokens: Count | Auto = "auto"
    """Source and target tokens; auto: 65,536, lowered until the run has 200 steps, not below 4,096."""
    conversations: Count | None = None
    """Another way to say `tokens`, which wins: so many times the mean sample's tokens. By conversations: how many;
    default: 64, fewer until the run has 200 steps."""
    micro_tokens: Count | Auto = "auto"
    """Tokens of one forward pass of one rank."""
    ramp: Ramp | None = None

    @model_validator(mode="after")
    def _counts_one_thing(self) -> "Batch":
        if self.by == "conversations" and (self.tokens != "auto" or self.ramp is not None):
            raise ValueError("by conversations, a step is `conversations` of them: it has no tokens and no ramp")
        return self


class Optim(Settings):
    """AdamW with decoupled decay; linear warm-up, then cosine."""

    peak_lr: Annotated[float, Field(gt=0, le=1)] | Auto = "auto"
    """auto: 5e-5 for a base, 2e-4 for LoRA, 1e-3 from scratch."""
    warmup_ratio: float = Field(0.03, ge=0, le=1)
    """Share of the run; at least 10 steps, at most a tenth of the run."""
    min_lr_ratio: float = Field(0.1, ge=0, le=1)
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    weight_decay: float = Field(0.1, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)


class Run(Settings):
    """How long, how exact, on how many processes."""

    epochs: float = Field(3, gt=0, le=10_000)
    max_steps: int | None = Field(None, ge=1, lt=2**53)
    """Wins over epochs."""
    precision: Literal["bf16", "fp16", "fp32"] = "bf16"
    """Of compute and of communicated parameters; master weights, reductions and moments are always fp32."""
    seed: int = Field(0, ge=0, lt=2**63)
    nproc: Annotated[int, Field(ge=1, le=64)] | Auto = "auto"
    """Processes on each machine; auto: one a GPU, else one."""
    nnodes: int = Field(1, ge=1, le=1024)
    """Machines of the run; more than one meet at TALKMILL_RENDEZVOUS."""
    compile: bool | Auto = "auto"
    """Compile each block; auto: on a GPU."""
    activation_checkpointing: bool | Auto = "auto"
    """Compute each block twice instead of keeping what it computed; auto: where the memory of a GPU would not do."""


class Checkpoint(Settings):
    """How often the run can be resumed from."""

    every_steps: Count | Auto = "auto"
    """auto: ten times a run, at least every 500 steps."""
    keep: int = Field(3, ge=1)
    """How many of the newest stay, beside the first, the newest good one and the one of the best validation loss."""
    asynchronous: bool = Field(True, alias="async")
    """Write while the next steps go on."""


class Recovery(Settings):
    """What happens when a run fails: a good checkpoint, without the segment at fault."""

    max_restarts: int = Field(3, ge=0, le=1000)
    """In a row without progress."""
    grad_norm_limit: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Above it a step is a fault and a checkpoint not good; auto: from median and MAD of the window's log norms."""
    grad_norm_spread_limit: Annotated[float, Field(gt=0)] | Auto = "auto"
    """The same of the norms' standard deviation in the window over their mean."""
    min_loss_scale: float = Field(1.0, gt=0)
    """Of a good checkpoint in fp16."""
    window: int = Field(20, ge=2, le=10_000)
    """Steps that are looked at."""
    hang_after_s: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Seconds without movement within a step that are a hang; auto: 20 times the slowest, at least two minutes."""
    on_bad_segment: Literal["skip", "stop"] = "skip"
    """Whether the records at fault, or a segment in which none is found, are left out, or the run stops."""


class Evaluate(Settings):
    """How often and how closely the held-out conversations are looked at."""

    every_steps: Count | Auto = "auto"
    """Validation loss; auto: with each checkpoint."""
    bleu_samples: int = Field(300, ge=0, le=100_000)
    """Replies generated for BLEU and chrF, at most two a conversation; 0: none."""
    bleu_every_steps: Count | Literal["end"] = "end"
    max_new_tokens: Count | Auto = "auto"
    """Of a generated reply; auto: `data.max_target_length`, at most 256."""


class TrainConfig(Settings):
    """A fine-tuning run (CONTRACT: `talkmill train CONFIG.json`)."""

    objective: Literal["reply", "reward"] = "reply"
    """What is learned: to say what the assistant said, or to tell the better of two replies (`data.preferences`)."""
    model: Model
    data: Data
    batch: Batch = Batch()
    optim: Optim = Optim()
    run: Run = Run()
    checkpoint: Checkpoint = Checkpoint()
    recovery: Recovery = Recovery()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _fits_objective(self) -> "TrainConfig":
        if self.batch.by == "conversations" and (self.data.mix or self.objective != "reply"):
            raise ValueError("batch.by: conversations are of one version, and what is learned of them is replies")
        if self.objective == "reply":
            if self.data.preferences is not None:
                raise ValueError("data.preferences are what the objective reward learns")
            return self
        if self.data.preferences is None:
            raise ValueError("the objective reward wants data.preferences")
        others = {
            "model.lora": (self.model.lora, "leave it out, all weights of a reward model are learned"),
            "data.mix": (self.data.mix, "put all pairs into one file"),
            "data.where": (self.data.where, "pairs have no tags, give a file of those that you want"),
        }
        for name, (given, way_out) in others.items():
            if given:
                raise ValueError(f"{name} goes with the objective reply only: {way_out}")
        return self

    @property
    def validation_seed(self) -> int:
        """What the held-out conversations, and those of their replies that are generated, are chosen by."""
        return self.run.seed if self.data.validation_seed is None else self.data.validation_seed

    @property
    def sample_tokens(self) -> int:
        """Tokens that a model sees at once: a source and its target."""
        return self.data.max_source_length + self.data.max_target_length

    @property
    def row_tokens(self) -> int:
        """Tokens of a packed row; a pair of replies is two sources with their targets, and a verdict on each."""
        return self.sample_tokens if self.objective == "reply" else 2 * (self.sample_tokens + 1)


def load_config(path: Path) -> TrainConfig:
    """Reads a run's settings.

    Raises:
        ConfigError: the file is missing, is no JSON, or a field is unknown or out of range.
    """
    try:
        return parse_config(orjson.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None


def parse_config(body: Mapping[str, Any]) -> TrainConfig:
    """Checks settings given as JSON.

    Raises:
        ConfigError: naming the first field that is wrong.
    """
    try:
        return TrainConfig.model_validate(body)
    except ValidationError as error:
        raise ConfigError(_told(error)) from None


def _told(error: ValidationError) -> str:
    """The first field that is wrong and why; of a field that may be `auto` too, one sentence for both."""
    first, *others = error.errors(include_url=False, include_input=False)
    field, reason = _field(first["loc"]), first["msg"].removeprefix("Value error, ")
    words = [other.get("ctx", {}).get("expected") for other in others if _field(other["loc"]) == field]
    return f"{field}: {', or '.join([reason, *filter(None, words)])}"


def _field(place: tuple[int | str, ...]) -> str:
    """Names and places of a field, without those that pydantic gives to the members of a union."""
    parts = [str(part) for part in place]
    return ".".join(part for part in parts if part.isidentifier() or part.isdecimal()) or "config"
