"""What a classifier is least sure of in a version: the texts whose labels would teach it most."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.classifier import Classifier
from curation.operator import BLANK


def uncertain_texts(segments: Iterable[Path], classifier: Classifier, limit: int) -> list[dict[str, Any]]:
    """The distinct turns whose two likeliest labels are nearest to each other, the nearest first.

    Each with its label, its score, the `margin` to the second label, and a conversation that it stands in. System
    messages are left out. Memory: one segment, and `limit` texts.
    """
    nearest = pl.DataFrame()
    for path in segments:
        rows = pl.scan_parquet(path).filter(pl.col("window") <= 1).select("conversation_id", "messages").collect()
        said = rows.explode("messages").unnest("messages").filter(
            pl.col("role") != "system", ~pl.col("content").str.contains(BLANK)
        )  # fmt: skip
        texts = said.select("conversation_id", "role", text="content").unique("text", keep="first", maintain_order=True)
        if len(texts):
            nearest = pl.concat([nearest, _scored(texts, classifier)], how="diagonal")
            nearest = nearest.unique("text", keep="first", maintain_order=True).sort("margin", "text").head(limit)
    return (
        nearest.select("text", "label", "score", "margin", "role", "conversation_id").to_dicts() if len(nearest) else []
    )


def _scored(texts: pl.DataFrame, classifier: Classifier) -> pl.DataFrame:
    scores = classifier.scores(texts["text"])
    ranked = np.sort(scores, axis=1)
    labels = np.array(classifier.labels, dtype=object)[scores.argmax(axis=1)]
    return texts.with_columns(
        label=pl.Series(labels.tolist(), dtype=pl.String),
        score=pl.Series(ranked[:, -1]),
        margin=pl.Series((ranked[:, -1] - ranked[:, -2]).round(4)),
    )
