"""Requests, tokens and costs of a server, and a cost limit that is checked before a request is sent.

Promises: money is *reserved* for the worst case (all of `max_tokens` for every sample) before a request is sent, and
replaced by the server's own count when the answer arrives, so that even requests in flight cannot exceed the limit. An
attempt that may have been billed though its answer was lost (time-out, reset) is charged at the reserved sum and
counted in `n_uncertain`. Not covered: prices that depend on caching or the time of day.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from selfreward.engines.base import Request
from selfreward.errors import CostLimitError

# Deliberately low: reserving too much delays a request, reserving too little breaks the limit.
_BYTES_PER_PROMPT_TOKEN = 2


@dataclass(frozen=True, slots=True)
class Prices:
    """In any one currency, per million tokens; a free server has zeros."""

    per_million_in: float = 0.0
    per_million_out: float = 0.0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        return (prompt_tokens * self.per_million_in + completion_tokens * self.per_million_out) / 1e6

    def worst_case(self, request: Request, n: int) -> float:
        """The highest cost of `n` samples, from the length of the prompt in bytes."""
        # 16 bytes per message for the chat template's own tokens.
        n_bytes = sum(
            len(message.content.encode(errors="surrogatepass")) + 16 for message in request.messages
        ) + len(request.prefix)
        return self.cost(n_bytes // _BYTES_PER_PROMPT_TOKEN, n * request.sampling.max_tokens)


@dataclass(slots=True)
class Usage:
    """Totals of one engine since it was opened. Money is in the currency of the prices."""

    prices: Prices = field(default_factory=Prices)
    max_cost: float | None = None
    spent: float = 0.0
    """Starts at what the same run spent earlier."""
    reserved: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    n_sent: int = 0
    """Requests sent, repetitions included."""
    n_retries: int = 0
    n_uncertain: int = 0
    """Attempts charged at their worst case, because the answer (or its token counts) never came."""
    n_estimated: int = 0
    """Completions whose length in tokens is an estimate from their characters."""

    def affords(self, sum_: float) -> bool:
        """Whether another `sum_` stays within the limit, even if all requests in flight cost their worst case."""
        return self.max_cost is None or self.spent + self.reserved + sum_ <= self.max_cost

    def charge(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Charge an answer by the server's counts; ValueError for negative ones."""
        # They would reduce what was spent, and with it lift the limit.
        if prompt_tokens < 0 or completion_tokens < 0:
            raise ValueError(f"{prompt_tokens} and {completion_tokens} are not numbers of tokens")
        self.prompt_tokens += prompt_tokens
        self.completion_tokens += completion_tokens
        self.spent += self.prices.cost(prompt_tokens, completion_tokens)

    def charge_uncertain(self, sum_: float) -> None:
        """Charge an attempt that may have been billed."""
        self.n_uncertain += 1
        self.spent += sum_

    def limit_error(self, model: str, sum_: float) -> CostLimitError:
        """The error for a request of up to `sum_` that would exceed the limit."""
        return CostLimitError(
            f"{model}: the next request can cost {sum_:.6g}, {self.spent:.6g} of max_cost {self.max_cost:.6g} are spent; "
            "finished answers are kept: raise max_cost and run the same command again"
        )
