"""`rule_eval`: how often model M_k keeps rules that a program checks, on prompts that nothing was trained on.

    {"rule_eval_id": "re-…", "iteration": 1, "prompt": "Describe a violin. Use no commas.", "rules": ["no_commas"],
     "sample": 0, "response": "…", "kept": True, "n_chars": 58, …}

Off unless `evaluate.rules` is set. Iteration 0 is M0. No model judges here: a rate that rises is a model that got better
at what was asked.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path

from selfreward.config.evaluation import RuleEvalConfig
from selfreward.config.run import RunConfig
from selfreward.errors import EmptyResultError
from selfreward.estimate.requests import Known, Requests
from selfreward.judging.rules.files import file_of, read_prompts
from selfreward.notes import RuleEvalNotes
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import DatasetName, RuleEval, to_table

NAME = "evaluation.rule_eval"
VERSION = 1


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each model of the run; none unless `evaluate.rules` is set."""
    settings = config.evaluate.rules
    if settings is None or (iteration == 0 and not config.train):
        return None
    file = file_of(settings.prompts)
    return Plan(
        name=str(DatasetName("rule_eval", iteration)),
        module=__name__,
        models={"model": f"M{iteration}"},
        files={"prompts": file},
        params={
            "iteration": iteration,
            "seed": config.seed,
            "rule_eval": settings.keyed()
            | {"prompts": settings.prompts if file != Path(settings.prompts) else "file"},
            "engine": config.engine.keyed(),
        },
        requests=partial(_planned, settings, file, config.seed),
    )


def _planned(settings: RuleEvalConfig, file: Path, seed: int, known: Known) -> list[Requests]:
    from selfreward.evaluation.rules.verdicts import answer_requests, limited

    prompts = limited(read_prompts(settings.prompts, file), settings.n_max)
    return [Requests(answer_requests(prompts, settings, seed))]


def build(job: Job) -> Rows:
    """Answer every prompt, and check the answers."""
    from selfreward.evaluation.rules.verdicts import answer_requests, limited, rule_figures, verdict_rows

    settings = job.section("rule_eval", RuleEvalConfig)
    found = read_prompts(settings.prompts, job.files["prompts"])
    prompts = limited(found, settings.n_max)
    if not prompts:
        raise EmptyResultError(f"{job.name}: there are no prompts; see evaluate.rules.prompts")
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        completions = generation.complete(answer_requests(prompts, settings, job.seed), "answers")
        asked = generation.notes()
    rows = verdict_rows(prompts, completions, settings, job.models["model"].name, job.iteration)
    figures = rule_figures(rows)
    notes = RuleEvalNotes(
        generation=asked,
        prompts=len(prompts),
        prompts_left_out=len(found) - len(prompts),
        kept=asdict(figures.kept),
        by_rule={kind: list(counts) for kind, counts in figures.by_rule.items()},
        unchecked=figures.unchecked,
        mean_chars=figures.mean_chars,
        distinct_words=figures.distinct_words,
        role_leakage=figures.role_leakage,
    )
    return Rows(to_table(rows, RuleEval), Counts(len(rows), len(rows), notes=notes.stored()))


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
