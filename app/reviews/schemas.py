"""Reviews over HTTP."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.fields import Name, Note, Text

Choice = Literal["a", "b", "tie", "both_bad"]
Model = Annotated[Text, Field(min_length=1, max_length=1000)]


class NewReview(BaseModel):
    """A review to be: who is compared, on what."""

    model_config = ConfigDict(extra="forbid")
    left: Model
    """A finished fine-tune by its name or its job's id, `<fine-tune>:best`, a checkpoint, or a registered base."""
    right: Model
    prompts: str = Field(pattern=r"^(?:file|ver)-[0-9a-f]{24}$")
    """Conversations to draw from, each up to what its user said last."""
    samples: int = Field(default=100, ge=1, le=2000, strict=True)
    """Pairs to judge; fewer where there are fewer different prompts."""
    seed: int = Field(default=0, ge=0, lt=2**63, strict=True)
    """Decides which prompts are drawn, their order, and the sides."""
    name: Name | None = None
    max_new_tokens: int = Field(default=512, ge=1, le=4096, strict=True)
    """How long a reply may be; not longer than its model was trained to give."""
    temperature: float = Field(default=0.0, ge=0, le=2)


class Judging(BaseModel):
    """How far the judging is."""

    raters: list[str]
    judgements: int
    complete: bool
    """Whether everybody who began has judged every pair, or the review was closed: then the sides may be known."""
    closed: bool


class ReviewObject(BaseModel):
    """A review."""

    id: str
    object: str = "review"
    name: str
    left: str
    right: str
    prompts: str | None
    samples: int
    seed: int
    max_new_tokens: int | None
    temperature: float | None
    status: str
    """Of the replies; once `succeeded`, pairs can be judged."""
    progress: dict[str, int]
    """replies_done, replies_total"""
    judging: Judging
    warnings: list[str]
    error: str | None
    created_at: int
    finished_at: int | None


class Pair(BaseModel):
    """What a rater sees: nothing here tells the sides."""

    object: str = "review.pair"
    review: str
    item: str | None
    """null once this rater has judged every pair."""
    done: bool
    number: int
    """Of this pair among the rater's own, from 1."""
    total: int
    messages: list[dict[str, Any]]
    """What was said, up to the turn that both reply to."""
    a: str | None
    b: str | None


class NewJudgement(BaseModel):
    """What a rater thinks of a pair."""

    model_config = ConfigDict(extra="forbid")
    item: str = Field(pattern=r"^item-[0-9a-f]{24}$")
    choice: Choice
    rater: Name
    comment: Note | None = None


class JudgementObject(BaseModel):
    """A judgement that is kept."""

    object: str = "review.judgement"
    review: str
    item: str
    rater: str
    choice: Choice
    comment: str | None
    created_at: int
    left_to_judge: int
    """Pairs that this rater has not judged yet."""


class Wins(BaseModel):
    """How often each side was preferred."""

    left: int
    right: int


class ByPair(BaseModel):
    """The same with every pair counted once, by what most of its raters chose; a draw among them is a tie."""

    wins: Wins
    ties: int
    both_bad: int
    win_rate: float | None
    win_rate_interval: tuple[float, float] | None


class Agreement(BaseModel):
    """How far raters agree on the pairs that more than one of them judged."""

    raters: int
    pairs: int
    share: float | None
    """Of two raters' judgements of one pair, how many are the same."""
    krippendorff_alpha: float | None
    """Nominal, over left, right, tie and both_bad: 1 is full agreement, 0 is chance."""


class ResultObject(BaseModel):
    """What came out; what would tell the sides is null until the judging is complete."""

    object: str = "review.result"
    review: str
    complete: bool
    waiting_for: dict[str, int]
    """Pairs that raters who began have still to judge, by rater."""
    left: str
    right: str
    pairs: int
    pairs_judged: int
    identical: int
    """Pairs whose two replies are the same text."""
    judgements: int
    ties: int
    both_bad: int
    wins: Wins | None
    win_rate: float | None
    """The left side's, among judgements that prefer a side; null where none does."""
    win_rate_interval: tuple[float, float] | None
    """95 %, Wilson, as if judgements were independent."""
    by_pair: ByPair | None
    agreement: Agreement | None


class DeletedReview(BaseModel):
    """A review that is gone, and its judgements with it."""

    id: str
    object: str = "review"
    deleted: bool = True
