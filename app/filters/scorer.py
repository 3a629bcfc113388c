"""A reward model's scores: each conversation is scored once, and its score kept in the database.

What was stored first counts, whichever machine computed it, so that a version that is made again is the same.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import select

from app.db import insert, reading, writing
from app.filters.artefacts import lay_open
from app.models import RewardScore
from app.training.chat import generators

BATCH = 32
"""Conversations that are scored, and stored, at once."""
MAX_PARAMETERS = 500


@dataclass(frozen=True)
class StoredScorer:
    """A trained reward model."""

    digest: str
    artefact_sha256: str

    def scores(self, conversations: Sequence[Sequence[Mapping[str, Any]]]) -> list[float | None]:
        """Of each conversation, given by its messages; None where there is no reply to score."""
        contents = [canonical(messages) for messages in conversations]
        names = [hashlib.sha256(content).hexdigest() for content in contents]
        known = self._known(set(names))
        missing = {name: content for name, content in zip(names, contents, strict=True) if name not in known}
        waiting = list(missing.items())
        for start in range(0, len(waiting), BATCH):
            part = waiting[start : start + BATCH]
            asked = [{"messages": orjson.loads(content)} for _, content in part]
            self._keep([name for name, _ in part], generators().score(lay_open(self.artefact_sha256), asked))
        if missing:
            known |= self._known(missing)
        return [known[name] for name in names]

    def _known(self, names: Iterable[str]) -> dict[str, float | None]:
        wanted, found = sorted(names), {}
        with reading() as session:
            for start in range(0, len(wanted), MAX_PARAMETERS):
                mine = select(RewardScore).where(
                    RewardScore.model_digest == self.digest,
                    RewardScore.content_sha256.in_(wanted[start : start + MAX_PARAMETERS]),
                )
                found.update({row.content_sha256: row.score for row in session.scalars(mine)})
        return found

    def _keep(self, names: Sequence[str], scores: Sequence[float | None]) -> None:
        rows = [
            {"model_digest": self.digest, "content_sha256": name, "score": score}
            for name, score in zip(names, scores, strict=True)
        ]
        with writing() as session:
            session.execute(insert(RewardScore).values(rows).on_conflict_do_nothing())


def canonical(messages: Sequence[Mapping[str, Any]]) -> bytes:
    """What decides a score: roles, texts, and which replies do not count."""
    shown = [
        {"role": one["role"], "content": one["content"], **({"weight": 0} if one.get("weight") == 0 else {})}
        for one in messages
    ]
    return orjson.dumps(shown)
