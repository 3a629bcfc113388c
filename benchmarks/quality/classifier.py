"""The classifier on COLD: trained on its train part, read once on its dev part."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.quality.figures import CLEAN, Figure, records, turns
from curation.classifier import Classifier, ClassifierRef, evaluate
from curation.classifier_training import train_classifier


def figures() -> Iterator[Figure]:
    train, dev = (
        [(str(record["text"]), str(record["label"])) for record in records(f"cls.cold.{part}")]
        for part in ("train", "dev")
    )
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "classifier"
        began = time.process_time()
        train_classifier(train, folder)
        yield Figure("COLD: training, CPU seconds", time.process_time() - began, 120, at_most=True)
        found, classifier, ref = evaluate(folder, dev), Classifier.load(folder), ClassifierRef.at(folder)
    yield Figure("COLD dev: macro-F1", found["macro_f1"], 0.905)
    column = ref.labels.index("1")
    for name in CLEAN:
        scores = classifier.scores(list(turns(name)))[:, column]
        flagged = float((scores >= ref.thresholds[column]).mean())
        yield Figure(f"{name}: turns that the COLD classifier flags", flagged, 0.01, at_most=True)
