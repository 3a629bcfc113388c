"""How well labels are predicted: accuracy, F1, confusion, and what every threshold of a label would do."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

THRESHOLDS = (*(round(0.05 * step, 2) for step in range(1, 20)), 0.99)
SURE = 0.8
"""Score from which a classifier is sure of a label."""


def measure_labels(
    true: Sequence[str], predicted: Sequence[str], scores: npt.NDArray[np.float64], labels: Sequence[str]
) -> dict[str, Any]:
    """Metrics of predictions against the truth.

    `scores`: one row a text, one column for each of `labels`, the ones the classifier knows. Labels that only the truth
    has are counted as never predicted. `contradicted` is the share of texts of which it is sure of another
    label: where that is large, labels are likely to be wrong.
    """
    known = sorted({*labels, *true})
    matrix = _confusion(true, predicted, known)
    per_label = {label: _of_label(matrix, index) for index, label in enumerate(known)}
    truth = np.array(true, dtype=object)
    missed = np.array([one != other for one, other in zip(true, predicted, strict=True)], dtype=bool)
    tables = {label: _thresholds(truth == label, scores[:, index]) for index, label in enumerate(labels)}
    return {
        "accuracy": _round(matrix.trace() / max(1, matrix.sum())),
        "macro_f1": _round(float(np.mean([one["f1"] for one in per_label.values()]))),
        "per_label": per_label,
        "contradicted": _round(float((missed & (scores.max(axis=1, initial=0) >= SURE)).sum()) / max(1, len(missed))),
        "confusion": {"labels": known, "matrix": matrix.tolist()},
        "thresholds": tables,
        "recommended_threshold": {label: _recommended(table) for label, table in tables.items()},
    }


def _confusion(true: Sequence[str], predicted: Sequence[str], labels: list[str]) -> npt.NDArray[np.int64]:
    """Rows are the truth, columns the predictions."""
    index = {label: number for number, label in enumerate(labels)}
    matrix = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(matrix, ([index[label] for label in true], [index[label] for label in predicted]), 1)
    return matrix


def _of_label(matrix: npt.NDArray[np.int64], index: int) -> dict[str, float | int]:
    hits, support = int(matrix[index, index]), int(matrix[index].sum())
    return {**_scores(hits, int(matrix[:, index].sum()), support), "support": support}


def _thresholds(true: npt.NDArray[np.bool_], scores: npt.NDArray[np.float64]) -> list[dict[str, float]]:
    rows = []
    for threshold in THRESHOLDS:
        flagged = scores >= threshold
        made = _scores(int((flagged & true).sum()), int(flagged.sum()), int(true.sum()))
        rows.append({"threshold": threshold, **made, "flagged": _round(float(flagged.mean()) if len(flagged) else 0.0)})
    return rows


def _recommended(table: list[dict[str, float]]) -> float:
    """The threshold with the best F1; of several, the one nearest to a half, since small differences are chance."""
    best = max(row["f1"] for row in table)
    return min((row["threshold"] for row in table if row["f1"] == best), key=lambda value: (abs(value - 0.5), -value))


def _scores(hits: int, predicted: int, support: int) -> dict[str, float]:
    precision = hits / predicted if predicted else 0.0
    recall = hits / support if support else 0.0
    f1 = 2 * hits / (predicted + support) if predicted + support else 0.0
    return {"precision": _round(precision), "recall": _round(recall), "f1": _round(f1)}


def _round(value: float) -> float:
    return round(float(value), 4)
