"""How fast a run is, and when it will be done."""

import time
from collections import deque
from collections.abc import Sequence

from app.models import Json

WINDOW_S = 60.0
"""Of training time that the speed is the mean of; a single step says little."""
MIN_OBSERVED_S = 5.0
"""Less of the wall clock says less about what lies ahead than the steps' own times do."""


class Pace:
    """Made from the lines of metrics.jsonl as they are seen."""

    def __init__(self) -> None:
        self._steps: deque[tuple[int, float]] = deque()  # tokens and seconds of each
        self._seen: deque[tuple[float, int]] = deque()  # the clock and the newest step

    def see(self, lines: Sequence[Json]) -> None:
        """Takes in new lines, in order."""
        for line in lines:
            self._steps.append((line["tokens"], line["tokens"] / max(line["tokens_per_second"], 1e-9)))
        while len(self._steps) > 1 and sum(seconds for _, seconds in self._steps) - self._steps[0][1] > WINDOW_S:
            self._steps.popleft()
        self._seen.append((time.monotonic(), lines[-1]["step"]))
        while len(self._seen) > 2 and self._seen[1][0] < self._seen[-1][0] - WINDOW_S:
            self._seen.popleft()

    @property
    def tokens_per_second(self) -> float | None:
        """Of the steps of the last minute of training, what lies between steps left out."""
        seconds = sum(seconds for _, seconds in self._steps)
        return round(sum(tokens for tokens, _ in self._steps) / seconds, 1) if seconds else None

    def seconds_left(self, num_steps: int) -> float | None:
        """What so many steps will take, with what lies between steps: checkpoints, evaluations."""
        (began, first), (ended, last) = self._seen[0], self._seen[-1]
        if ended - began >= MIN_OBSERVED_S and last > first:
            return num_steps * (ended - began) / (last - first)
        return num_steps * sum(seconds for _, seconds in self._steps) / len(self._steps) if self._steps else None
