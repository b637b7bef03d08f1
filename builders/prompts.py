"""`prompts`: self-instructed prompts in rounds (paper section 2.2, step 1; filters and novelty after Self-Instruct).

    {"prompt_id": "p-…", "iteration": 1, "prompt": "Suggest three …", "demonstration_ids": ["ift-…", …],
     "generator": "hf:smollm2…", "kept": True, "reason": None, "nearest_id": "ift-…", "nearest_rouge_l": 0.31, "round": 0}

Each request shows eight demonstrations, six from IFT and two that earlier rounds kept, and asks for one more.
Every generated prompt is a row; a rejected one has a `reason` and the nearest earlier text. Rounds continue
until `n` are kept, `max_rounds` is reached, or three rounds in a row keep nothing.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from selfreward.builders.self_instruct.filters import filter_prompt, parse_generated_prompt, prompt_request
from selfreward.builders.self_instruct.screening import Screen, held_out
from selfreward.builders.self_instruct.words import keyed_words, words_of
from selfreward.chats import with_system
from selfreward.config.data import PromptsConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Engine, Request
from selfreward.errors import EmptyResultError
from selfreward.estimate.requests import Known, Range, Requests
from selfreward.notes import PromptsNotes
from selfreward.progress import say
from selfreward.similarity.evaluation_sets import evaluation_files
from selfreward.steps.generation import Completions, Generation
from selfreward.steps.reuse import differs_only_unused
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.recipe import Recipe
from selfreward.store.run import Counts, Run
from selfreward.store.version import Version
from selfreward.tables import DatasetName, Prompt, row_id, to_table

NAME = "builders.prompts"
VERSION = 2
# After so many rounds without a new prompt the generator only repeats itself.
_BARREN_ROUNDS = 3


@dataclass(frozen=True)
class _Draw:
    """One request: its demonstrations, in the order shown."""

    request: Request
    demonstration_ids: list[str]
    round: int


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each iteration; earlier iterations' prompts count as earlier texts. None if prompts are given."""
    settings = config.prompts
    if settings.source is not None:
        return None
    generator = {"fixed": "M0", "current": f"M{iteration}"}.get(settings.generator, settings.generator)
    earlier = {f"prompts{k}": str(DatasetName("prompts", k)) for k in range(1, iteration)}
    return Plan(
        name=str(DatasetName("prompts", iteration)),
        module=__name__,
        inputs={"ift": "ift", **({"eft": "eft"} if config.eft else {}), **earlier},
        models={"model": generator},
        files=evaluation_files(settings.evaluation_sets),
        texts=keyed_words(settings.lang),
        params={
            "iteration": iteration,
            "seed": config.seed,
            "prompts": settings.keyed(),
            "engine": config.engine.keyed(),
        },
        requests=partial(_requests, settings),
    )


def reusable(run: Run, recipe: Recipe) -> Version | None:
    """A version whose EFT differs only in its targets, not in its held-out prompts."""
    return differs_only_unused(run, recipe, "eft", held_out)


def build(job: Job) -> Rows:
    """Generate round after round until enough prompts are kept."""
    builder = _Builder(job)
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        barren = 0
        for round_number in range(builder.settings.max_rounds):
            draws = builder.draw(round_number, engine)
            kept_before = builder.n_kept
            builder.add(draws, generation.complete([d.request for d in draws], f"round {round_number + 1}"))
            barren = barren + 1 if builder.n_kept == kept_before else 0
            if builder.n_kept >= builder.settings.n or barren == _BARREN_ROUNDS:
                break
        asked = generation.notes()
    builder.require_some()
    rows = builder.rows
    notes = PromptsNotes(
        generation=asked,
        kept=builder.n_kept,
        wanted=builder.settings.n,
        rejected=dict(Counter(row.reason for row in rows if row.reason)),
        rounds=round_number + 1,
    )
    table = with_system(to_table(rows, Prompt), builder.settings.system)
    return Rows(table, Counts(len(rows), len(rows), notes=notes.stored()))


def requests_in_round(settings: PromptsConfig, n_kept: float, n_answers: int) -> int:
    """Requests of the next round, from the yield so far, at most `round_size`.

    >>> requests_in_round(PromptsConfig(n=100, samples_per_draw=4), n_kept=40, n_answers=60)
    23
    """
    # Half before any yield is known; never below a tenth, so that one bad round cannot inflate the next.
    kept_share = max(0.1, n_kept / n_answers) if n_answers else 0.5
    n_wanted = math.ceil((settings.n - n_kept) / kept_share)
    return min(settings.round_size, math.ceil(n_wanted / settings.samples_per_draw))


def requests_needed(settings: PromptsConfig, kept_share: float) -> int:
    """Requests until `n` prompts are kept or the rounds are used up, at a given yield.

    >>> requests_needed(PromptsConfig(n=24, samples_per_draw=4, round_size=32), kept_share=0.4)
    15
    """
    n_requests = 0
    for _ in range(settings.max_rounds):
        n_answers = n_requests * settings.samples_per_draw
        if kept_share * n_answers >= settings.n:
            break
        n_requests += requests_in_round(settings, kept_share * n_answers, n_answers)
    return n_requests


def _requests(settings: PromptsConfig, known: Known) -> list[Requests]:
    """Draws of IFT prompts alone; how many are needed depends on the share of kept answers."""
    texts = known["ift"].table(["prompt"])["prompt"].to_pylist()
    n_shown = _n_shown(settings, len(texts))
    draws = [random.Random(i).sample(texts, n_shown) for i in range(requests_in_round(settings, 0, 0))]
    examples = [prompt_request(f"draw-{i}", shown, settings, 0, prefix=True) for i, shown in enumerate(draws)]
    needed = Range(*(requests_needed(settings, share) for share in (1, 0.5, 0.1)))
    return [Requests(examples, needed, "kept are all of the answers, one in two, or one in ten")]


def _n_shown(settings: PromptsConfig, n_ift: int) -> int:
    """Demonstrations per request. Raises EmptyResultError if IFT has too few for the first round."""
    n_shown = settings.n_demonstrations_ift + settings.n_demonstrations_generated
    if n_ift < n_shown:
        raise EmptyResultError(
            f"prompts: {n_ift} IFT prompts are too few to draw {n_shown} different demonstrations"
        )
    return n_shown


class _Builder:
    """The growing table and the texts that count as earlier."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self.settings = job.section("prompts", PromptsConfig)
        self._words = words_of(job.texts)
        self.rows: list[Prompt] = []
        self.screen = Screen(job, self.settings.max_rouge_l, self.settings.n)
        _n_shown(self.settings, len(self.screen.ift))

    @property
    def n_kept(self) -> int:
        """Prompts kept so far."""
        return self.screen.n_kept

    def draw(self, round_number: int, engine: Engine) -> list[_Draw]:
        """The requests of a round."""
        seed, prefix = self._job.seed + self._job.iteration, engine.capabilities.prefix
        draws = []
        for number in range(requests_in_round(self.settings, self.n_kept, len(self.rows))):
            ids, texts = self._demonstrations(round_number, number)
            request = prompt_request(
                f"round{round_number}-{number}", texts, self.settings, seed, prefix, self._words.name
            )
            draws.append(_Draw(request, ids, round_number))
        return draws

    def _demonstrations(self, round_number: int, number: int) -> tuple[list[str], list[str]]:
        settings = self.settings
        # Seeded by place, not by a shared stream: a resumed run draws the same demonstrations.
        rng = random.Random(f"{self._job.seed}/{self._job.iteration}/{round_number}/{number}")
        # IFT fills the places that kept prompts cannot fill yet, so that all requests show equally many.
        n_generated = min(settings.n_demonstrations_generated, len(self.screen.kept))
        n_ift = settings.n_demonstrations_ift + settings.n_demonstrations_generated - n_generated
        ids = rng.sample(sorted(self.screen.ift), n_ift) + rng.sample(sorted(self.screen.kept), n_generated)
        rng.shuffle(ids)
        return ids, [self.screen.ift.get(i) or self.screen.kept[i] for i in ids]

    def add(self, draws: Sequence[_Draw], completions: Completions) -> None:
        """Read, filter and screen a round's completions; kept ones can be demonstrations from the next round on."""
        rows = [self._read(draw, sample, completions) for draw in draws for sample in range(draw.request.n)]
        self.rows += self.screen.take(rows)

    def _read(self, draw: _Draw, sample: int, completions: Completions) -> Prompt:
        completion = completions[draw.request.id, sample]
        parsed = parse_generated_prompt(
            completion.text, completion.finish_reason, len(draw.demonstration_ids)
        )
        reason = (
            "engine_error"
            if completion.finish_reason == "error"
            else filter_prompt(parsed.text, parsed.finish_reason, self._words)
        )
        overlap = self.screen.overlap(parsed.text) if reason is None else None
        return Prompt(
            prompt_id=row_id("p", self._job.iteration, draw.request.id, sample),
            iteration=self._job.iteration,
            prompt=parsed.text,
            demonstration_ids=draw.demonstration_ids,
            generator=self._job.models["model"].name,
            kept=False,
            reason="contamination" if overlap else reason,
            nearest_id=overlap.id if overlap else None,
            nearest_rouge_l=overlap.rouge_l if overlap else None,
            round=draw.round,
            seed=completion.seed,
        )

    def require_some(self) -> None:
        """Raise EmptyResultError if nothing was kept; report if it is less than wanted."""
        reasons = ", ".join(
            f"{reason} {n}" for reason, n in Counter(r.reason for r in self.rows if r.reason).items()
        )
        if self.n_kept == 0:
            raise EmptyResultError(
                f"{self._job.name}: none of {len(self.rows)} generated prompts is left: {reasons}"
            )
        if self.n_kept < self.settings.n:
            say(f"{self._job.name}: kept {self.n_kept} of {self.settings.n} prompts wanted ({reasons})")


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
