"""`ift`: instruction fine-tuning rows, the best human reply to a first-turn prompt (paper section 3.1.1: 3,200).

    {"ift_id": "ift-…", "prompt": "How do I …", "response": "First …", "messages": [{"role": "user", …}, …],
     "source": "OpenAssistant/oasst1", "source_id": "7d05…", "human_rank": 0, "quality": 0.75, "lang": "en"}

Every seed reply is a row here or is counted under the reason for leaving it out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from selfreward.builders.seeds.split import Part, split_prompts
from selfreward.config.data import IftConfig, SplitConfig
from selfreward.config.run import RunConfig
from selfreward.errors import EmptyResultError
from selfreward.progress import say
from selfreward.similarity.evaluation_sets import evaluation_files, load_evaluation_prompts
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import Ift, Message, Seed, from_table, row_id, to_table

NAME = "builders.ift"
VERSION = 1
_ALPACA_TRAP = (
    "ift: warning: the seeds are Open Assistant's and prompts.evaluation_sets is empty. All 188 English validation prompts "
    "of Open Assistant are prompts of AlpacaEval; name AlpacaEval's file there to drop what repeats them, or report no "
    "AlpacaEval figure of these models"
)


def plan(config: RunConfig, iteration: int) -> Plan:
    """One version for each seeds version, split and filter."""
    return Plan(
        name="ift",
        module=__name__,
        inputs={"seeds": "seeds"},
        files=evaluation_files(config.prompts.evaluation_sets),
        params={
            "seed": config.seed,
            "split": (config.split if config.eft else SplitConfig(eft_train=0, eft_eval=0)).keyed(),
            "ift": config.ift.keyed(),
        },
    )


def build(job: Job) -> Rows:
    """Best replies of the prompts that EFT does not hold, filtered, at most `n_max` of them."""
    seeds = from_table(job.table("seeds"), Seed)
    settings, split = job.section("ift", IftConfig), job.section("split", SplitConfig)
    parts = split_prompts(seeds, split, job.seed)
    allowed: set[Part] = {"ift", "eft_train"} if split.ift_also_uses_eft_train else {"ift"}
    evaluation = load_evaluation_prompts(job.files)
    dropped: Counter[str] = Counter()
    kept: list[Seed] = []
    prompts: set[str] = set()
    # A warning, not an error: the prompts are fine as long as nobody reports AlpacaEval figures.
    if not job.files and any("oasst" in seed.source.lower() for seed in seeds):
        say(_ALPACA_TRAP)
    for seed in seeds:
        reason = _reason(seed, settings, parts[seed.prompt_id] in allowed)
        if reason is None and evaluation.overlap(seed.prompt) is not None:
            reason = "contamination"
        # The first reply wins: a prompt under two ids would weigh twice in training.
        if reason is None and seed.prompt.strip().lower() in prompts:
            reason = "duplicate_prompt"
        if reason is None:
            prompts.add(seed.prompt.strip().lower())
            kept.append(seed)
        else:
            dropped[reason] += 1
    if len(kept) > settings.n_max:
        kept, n_over = _sample(kept, settings.n_max, job.seed), len(kept) - settings.n_max
        dropped["over_n_max"] = n_over
    if not kept:
        funnel = ", ".join(f"{reason} {n}" for reason, n in dropped.items())
        raise EmptyResultError(f"ift: none of the {len(seeds)} seed replies is left: {funnel}")
    rows = [_row(seed) for seed in kept]
    return Rows(to_table(rows, Ift), Counts(len(seeds), len(rows), dict(dropped)))


def _reason(seed: Seed, settings: IftConfig, in_split: bool) -> str | None:
    if not in_split:
        return "held_for_eft"
    if seed.human_rank is None:
        return "unranked"
    if seed.human_rank != 0:
        return "not_best"
    # A reply without a quality label passes: an absent label says nothing about quality.
    if settings.min_quality is not None and seed.quality is not None and seed.quality < settings.min_quality:
        return "low_quality"
    if len(seed.prompt) + len(seed.response) > settings.max_chars:
        return "too_long"
    return None


def _sample(seeds: Sequence[Seed], n: int, seed: int) -> list[Seed]:
    """Draw `n` of the seeds, in their order."""
    # By a hash of the id, not by position: the same draw whatever the order of the file.
    chosen = {s.seed_id for s in sorted(seeds, key=lambda s: row_id("draw", seed, s.seed_id))[:n]}
    return [s for s in seeds if s.seed_id in chosen]


def _row(seed: Seed) -> Ift:
    return Ift(
        ift_id=row_id("ift", seed.seed_id),
        prompt=seed.prompt,
        response=seed.response,
        messages=[Message("user", seed.prompt), Message("assistant", seed.response)],
        source=seed.source,
        source_id=seed.seed_id,
        human_rank=seed.human_rank,
        quality=seed.quality,
        lang=seed.lang,
    )


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
