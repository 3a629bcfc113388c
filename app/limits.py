"""How many requests are listened to: of each key, and of each address that shows none that is valid.

Counted in this process, over the last minute, whatever state the broker is in; so several processes of the service
together listen to as many times more. Probes and `/metrics` are not counted.
"""

import time
from functools import lru_cache

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from app.errors import TooManyRequests
from app.settings import get_settings


class RequestLimits:
    """This process's counts."""

    def __init__(self, per_key: int, refused: int) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._per_key = RateLimitItemPerMinute(per_key, namespace="key") if per_key else None
        self._refused = RateLimitItemPerMinute(refused, namespace="refused") if refused else None

    def count(self, key_id: str) -> None:
        """A valid key is used.

        Raises:
            TooManyRequests: more often than a key may be.
        """
        self._hit(self._per_key, key_id, "the key was used too often within a minute")

    def count_refusal(self, address: str) -> None:
        """An address showed no valid key. Whoever shows a valid one from there is still listened to.

        Raises:
            TooManyRequests: more often than anybody who does not guess would.
        """
        self._hit(self._refused, address, "too many requests without a valid key came from this address")

    def _hit(self, limit: RateLimitItemPerMinute | None, name: str, detail: str) -> None:
        if limit is None or self._limiter.hit(limit, name):
            return
        until = self._limiter.get_window_stats(limit, name).reset_time
        raise TooManyRequests(f"{detail}: wait a moment", retry_after_s=max(1, round(until - time.time())))


@lru_cache(maxsize=1)
def request_limits() -> RequestLimits:
    """This process's own, as the settings say."""
    settings = get_settings()
    return RequestLimits(settings.requests_per_minute, settings.refusals_per_minute)
