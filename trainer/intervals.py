"""How sure a share of a few is."""

import math

CONFIDENCE_Z = 1.959964
"""Of a two-sided interval of 95 %."""


def wilson(share: float, count: int) -> tuple[float, float]:
    """The 95 % interval of a share of so many (Wilson, 1927)."""
    spread = CONFIDENCE_Z**2 / count
    centre = (share + spread / 2) / (1 + spread)
    half = CONFIDENCE_Z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)
