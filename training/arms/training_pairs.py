"""Which pairs M_k is trained on: this iteration's, and by `pairs.use` those of earlier ones; never too few."""

from __future__ import annotations

from selfreward.config.run import RunConfig
from selfreward.errors import EmptyResultError
from selfreward.steps.step import Job
from selfreward.summary.facts import summarize
from selfreward.summary.funnel import format_funnel
from selfreward.tables import DatasetName


def pairs_used(config: RunConfig, iteration: int) -> dict[str, str]:
    """Role -> the pairs to train on: this iteration's, and by `pairs.use` earlier ones, latest first."""
    n = config.pairs.n_used(iteration)
    earlier = {f"pairs{k}": str(DatasetName("pairs", k)) for k in range(iteration - 1, iteration - n, -1)}
    return {"pairs": str(DatasetName("pairs", iteration)), **earlier}


def require_pairs(job: Job, least: int) -> None:
    """EmptyResultError if there are too few pairs, of all iterations that are used."""
    found = sum(version.n_rows for role, version in job.inputs.items() if role.startswith("pairs"))
    if found < least:
        raise EmptyResultError(
            f"{job.name}: found {found} pairs, too few to train on; expected at least {least} (pairs.min_pairs).\n"
            f"{_funnel(job)}\n"
            "More prompts (prompts.n), more judgements (judging.samples) or a better judge (more EFT rows) give more pairs."
        )


def _funnel(job: Job) -> str:
    iterations = summarize(job.run).iterations
    return "\n".join(format_funnel(i.funnel, {}) for i in iterations if i.number == job.iteration)
