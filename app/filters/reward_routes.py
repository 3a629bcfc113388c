"""Reward models: trained from preferences, asked for scores, named by recipes."""

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from app.auth import needs
from app.dependencies import ListOf, Paged, ReadSession, WriteSession, page_of
from app.errors import Conflict, NotFound, responses
from app.filters import repository, reward_service
from app.filters.answers import answer
from app.filters.reward_schemas import Conversations, NewRewardModel, RewardModelObject, Scores
from app.filters.schemas import DeletedFilter
from app.filters.service import cancel, delete_filter, trained
from app.models import LearnedFilter
from app.once import OnceRoute

router = APIRouter(prefix="/v1/reward_models", tags=["learned filters"], route_class=OnceRoute)
RewardModelId = Annotated[str, Path(pattern=r"^rm-[0-9a-f]{24}$")]


@router.post("", status_code=202, dependencies=[needs("curate")], responses=responses())
def create(body: NewRewardModel, session: WriteSession) -> RewardModelObject:
    """Trains a reward model from a file of preferences; poll it until it has succeeded."""
    return reward_service.show_reward_model(reward_service.create_reward_model(session, body))


@router.get("", dependencies=[needs("read")], responses=responses(NotFound))
def list_reward_models(session: ReadSession, page: Paged) -> ListOf:
    """All reward models, the newest first."""
    rows, more = page_of(session, repository.filters(repository.REWARD_MODEL), LearnedFilter, page)
    return ListOf(data=[reward_service.show_reward_model(row) for row in rows], has_more=more)


@router.get("/{reward_model_id}", dependencies=[needs("read")], responses=responses(NotFound), response_model=None)
def get(
    reward_model_id: RewardModelId, session: ReadSession, request: Request, response: Response
) -> RewardModelObject | Response:
    """One reward model; once succeeded it has its metrics and carries a strong ETag, which changes with its users."""
    row = repository.get_filter(session, repository.REWARD_MODEL, reward_model_id)
    return answer(session, row, reward_service.show_reward_model, request, response)


@router.delete("/{reward_model_id}", dependencies=[needs("curate")], responses=responses(NotFound, Conflict))
def delete(reward_model_id: RewardModelId, session: WriteSession) -> DeletedFilter:
    """Takes a reward model away; 409 with its users while a version's recipe names it."""
    return delete_filter(session, repository.get_filter(session, repository.REWARD_MODEL, reward_model_id))


@router.post(
    "/{reward_model_id}/cancel", dependencies=[needs("curate")], responses=responses(NotFound, Conflict)
)  # fmt: skip
def cancel_training(reward_model_id: RewardModelId, session: WriteSession) -> RewardModelObject:
    """Ends a reward model's training."""
    return reward_service.show_reward_model(
        cancel(session, repository.get_filter(session, repository.REWARD_MODEL, reward_model_id))
    )


@router.post("/{reward_model_id}/score", dependencies=[needs("read")], responses=responses(NotFound, Conflict))
def score(reward_model_id: RewardModelId, body: Conversations, session: ReadSession) -> Scores:
    """The score of each conversation, its lowest reply's; only order and differences mean something."""
    row = trained(session, repository.REWARD_MODEL, reward_model_id)
    conversations = [one.model_dump()["messages"] for one in body.conversations]
    return Scores(scores=repository.scorer_of(row).scores(conversations))
