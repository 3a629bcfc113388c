"""The rules of smoothers: what one can be trained from, what it answers."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from app.errors import Unprocessable
from app.filters import repository
from app.filters.service import file_to_learn, queue, told
from app.filters.smoother_schemas import EditObject, NewSmoother, SmoothedText, SmootherObject
from app.models import LearnedFilter


def create_smoother(session: Session, body: NewSmoother) -> LearnedFilter:
    """Records a smoother and its training.

    Raises:
        Unprocessable: no such file, one that holds no pairs, or settings out of bounds; `param` names which.
    """
    from curation.artefacts import read_settings
    from curation.errors import CurationError
    from curation.smoother_training import SmootherSettings

    file = file_to_learn(session, body.file, "pairs")
    try:
        settings = read_settings(SmootherSettings, body.hyperparameters)
    except CurationError as error:
        raise Unprocessable(f"hyperparameters.{error}", param="hyperparameters") from None
    request = {"holdout": body.holdout, "hyperparameters": settings.model_dump()}
    return queue(session, repository.SMOOTHER, body.name, file.id, request)


def smooth(row: LearnedFilter, texts: Sequence[str]) -> list[SmoothedText]:
    """Texts as `smooth_disfluency` leaves them with a trained smoother, its other settings at their defaults."""
    from curation.mixer import apply_edits
    from curation.operators.smooth_disfluency import SmoothDisfluency, smooth_texts
    from curation.smoother import open_smoother

    smoother = open_smoother(repository.smoother_ref_of(row))
    found = smooth_texts(texts, SmoothDisfluency(), smoother)
    answers = []
    for text, edits in zip(texts, found, strict=True):
        shown = [
            EditObject(
                start=start, end=end, replacement=new, code=code, score=score if score is None else round(score, 4)
            )
            for start, end, new, code, score in edits
        ]
        answers.append(SmoothedText(smoothed=apply_edits(text, [edit[:3] for edit in edits]), edits=shown))
    return answers


def show_smoother(row: LearnedFilter, used_by: list[str] | None = None) -> SmootherObject:
    """The smoother as the API tells it."""
    return SmootherObject(**told(row, used_by), hyperparameters=row.request["hyperparameters"])
