"""When to retry a request, and how long to wait before it. Pure functions; time comes from a `Clock`.

Promises: the waits of one request depend on its key, its number of retries and the server's `Retry-After`, not on
other requests or the time of day, so that tests can predict them. Not covered: what to do when the retries are used
up; the engine decides that.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from selfreward.engines.base import row_seed

RETRYABLE_STATUS = frozenset({408, 409, 429, *range(500, 505)})
"""Time-outs, conflicts, rate limits, server errors: the same request may succeed later."""

# A server that asks for a longer wait is out of capacity; stopping with a message is better than hours of silence.
LONGEST_SERVER_DELAY_S = 600.0


class Clock:
    """Real time; tests use a clock of their own."""

    def wall(self) -> float:
        """Seconds since 1970, for comparison with the dates in HTTP headers."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never decrease."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with jitter: retry k waits between half and all of `base_s * 2**(k-1)`."""

    base_s: float = 0.5
    longest_s: float = 30.0
    seed: int = 0

    def delay_s(self, key: str, retry: int, server_delay_s: float | None = None) -> float:
        """Seconds before the `retry`-th (1, 2, …) repetition of request `key`; the server's own delay is a minimum."""
        # The exponent is bounded, since 2.0 ** 1025 overflows. The jitter is a hash, so that it is the same in every run.
        full = min(self.longest_s, self.base_s * 2.0 ** min(retry - 1, 32))
        share = row_seed(self.seed, key, retry) / 2**63
        return max(full * (0.5 + share / 2), server_delay_s or 0.0)


def server_delay_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds of a response's `Retry-After`, a number or an HTTP date; None if it has no usable one.

    OpenAI's and Azure's `retry-after-ms` takes precedence, being more exact. `headers` has lower-case names or ignores
    case; `now` is in seconds since 1970. A date in the past is 0.

    >>> server_delay_s({"retry-after": "Thu, 01 Jan 1970 00:01:00 GMT"}, now=20.0)
    40.0
    >>> server_delay_s({"retry-after": "1", "retry-after-ms": "250"}, now=20.0)
    0.25
    """
    in_ms, text = headers.get("retry-after-ms", "").strip(), headers.get("retry-after", "").strip()
    with suppress(ValueError):
        if in_ms and math.isfinite(float(in_ms)):
            return max(0.0, float(in_ms) / 1000)
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(text).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
