"""Fine-tuning jobs and chat as the OpenAI API has them, with our own members beside."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.fields import JsonObject, Text

Number = Annotated[float, Field(gt=0, le=1e6)]
Auto = Literal["auto"]


class Hyperparameters(BaseModel):
    """OpenAI's own settings; `trainer` wins over them."""

    model_config = ConfigDict(extra="forbid")
    n_epochs: Annotated[int, Field(ge=1, le=1000)] | Auto = "auto"
    batch_size: Annotated[int, Field(ge=1, le=100_000, strict=True)] | Auto = "auto"
    """Conversations of an optimiser's step, counted by their mean length."""
    learning_rate_multiplier: Number | Auto = "auto"


class Supervised(BaseModel):
    """The supervised method's settings."""

    model_config = ConfigDict(extra="forbid")
    hyperparameters: Hyperparameters = Hyperparameters()


class Method(BaseModel):
    """How to train."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["supervised"]
    supervised: Supervised = Supervised()


class NewJob(BaseModel):
    """A fine-tuning job to be."""

    model_config = ConfigDict(extra="forbid")
    model: Text = Field(min_length=1, max_length=1000)
    """scratch:<preset>, a registered base, a finished fine-tune, or a folder that the service's operator allowed."""
    training_file: str = Field(pattern=r"^(?:ver|file)-[0-9a-f]{24}$")
    """A dataset version that has succeeded, or an uploaded file, which is learned as it is, without curation."""
    hyperparameters: Hyperparameters | None = None
    method: Method | None = None
    suffix: str | None = Field(None, pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    seed: int | None = Field(None, ge=0, lt=2**63)
    metadata: dict[Text, Text] | None = Field(None, max_length=16)
    validation_file: str | None = Field(None, pattern=r"^(?:ver|file)-[0-9a-f]{24}$")
    """What to validate on, as `training_file`, in place of a held-out share; what both have is not trained on."""
    integrations: None = None
    trainer: JsonObject = Field(default_factory=dict)
    """A part of the trainer's own settings."""


class JobProgress(BaseModel):
    """How far the run is."""

    step: int = 0
    steps: int | None = None
    tokens: int = 0
    tokens_per_second: float | None = None
    """Of the last minute or so."""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class JobObject(BaseModel):
    """A job: the OpenAI object and what we add."""

    id: str
    object: str = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None = None
    model: str
    fine_tuned_model: str | None
    organization_id: str = "talkmill"
    status: str
    hyperparameters: dict[str, Any]
    method: dict[str, Any]
    training_file: str
    validation_file: str | None = None
    result_files: list[str]
    trained_tokens: int | None
    seed: int
    metadata: dict[str, str] | None
    integrations: list[Any]
    error: JobError | None
    dataset_version: str
    validation_version: str | None
    """What is validated on, where it was named; else it is a share of `dataset_version`."""
    progress: JobProgress
    architecture: list[dict[str, Any]]
    recovery: list[dict[str, Any]]
    trainer: dict[str, Any]


class ModelObject(BaseModel):
    """A model as in the OpenAI API."""

    id: str
    object: str = "model"
    created: int
    owned_by: str
    """user: a finished fine-tune; local: a registered base; talkmill: made from scratch."""


class Turn(BaseModel):
    """A message of a chat; members beside role and content are ignored."""

    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "developer", "user", "assistant"]
    content: str = Field(max_length=1_000_000)


class StreamOptions(BaseModel):
    """What a streamed answer holds beside its text; members that are not listed are ignored."""

    model_config = ConfigDict(extra="ignore")
    include_usage: bool = False


class ChatRequest(BaseModel):
    """A chat to be answered; members that are not listed are ignored."""

    model_config = ConfigDict(extra="ignore")
    model: str = Field(min_length=1, max_length=1000)
    messages: list[Turn] = Field(min_length=1, max_length=10_000)
    max_tokens: int | None = Field(None, ge=1, le=4096)
    max_completion_tokens: int | None = Field(None, ge=1, le=4096)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    n: Literal[1] = 1
    stream: bool = False
    """Answers with server-sent events, as tokens come."""
    stream_options: StreamOptions | None = None
    curate: bool = False
    """Runs the turn operators of the version that the model learned on the messages first; ours, not OpenAI's."""


class ChatMessage(BaseModel):
    """The answer."""

    role: str = "assistant"
    content: str
    refusal: str | None = None


class Choice(BaseModel):
    """The one choice."""

    index: int = 0
    message: ChatMessage
    logprobs: None = None
    finish_reason: str


class Usage(BaseModel):
    """Tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletion(BaseModel):
    """A chat's answer as in the OpenAI API."""

    id: str
    object: str = "chat.completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    curated: dict[str, Any] | None = None
    """With `curate`: the `messages` that the model was asked, and the `trace` of every change."""
