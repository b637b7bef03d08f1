"""Three sampled judgements or token probabilities: ties and cost of the judge's modes on the same candidates.

    python benchmarks/judge_modes.py CANDIDATES --model hf:runs/demo/models/M1 [--template additive-short]
                                     [--max-tokens 60] [--samples 3] [--n-prompts 40] [--engine-batch 32]
                                     [--dtype bfloat16] [--json]

CANDIDATES is a run folder (its candidates of iteration 1) or a file of replies that people ranked, as `selfreward
evaluate judge` reads them. One run, one opened engine, the same items for every mode:

    sampled            the paper's: the mean of the sampled judgements (failed ones asked for once more)
    expected, reasons  mean score under the token probabilities, after one greedy justification
    expected, bare     the same with no justification

Ties are what costs preference pairs: `tied pairs` are pairs of scored candidates of one prompt with equal scores
(closer than 1e-9), `no pair` the prompts whose scored candidates all tie, `top tied` those whose highest score
is not one candidate's alone. Seconds include reading the prompts, not loading the model; the engine is warmed up first. On a machine that does
other work as well, CPU seconds are the ones to compare (for a model that runs in this process).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import defaultdict
from itertools import combinations
from pathlib import Path

from selfreward.config.judging import JudgingConfig
from selfreward.engines import open_engine
from selfreward.engines.base import EngineOptions
from selfreward.evaluation.judges.ranked_replies import read_ranked
from selfreward.judging.agreement.agreement import measure_agreement
from selfreward.judging.judge.files import model_target
from selfreward.judging.judge.judge import Item, judge_items
from selfreward.judging.prompts.templates import load_template
from selfreward.steps.generation import Generation
from selfreward.store.run import Run
from selfreward.text import format_table

MODES = {
    "sampled": {"mode": "sampled"},
    "expected, reasons": {"mode": "expected", "justify": True},
    "expected, bare": {"mode": "expected", "justify": False},
}


def main():
    options = arguments()
    replies = read_candidates(options.candidates, options.n_prompts)
    template = load_template(options.template)
    items = [Item(reply["response_id"], reply["prompt"], reply["response"]) for reply in replies]
    engine_options = EngineOptions(batch_size=options.engine_batch, dtype=options.dtype)
    with open_engine(model_target(options.model), engine_options) as engine:
        run_mode(engine, items[:2], template, settings_of("sampled", template, options))
        figures = {
            mode: measure(engine, replies, items, template, settings_of(mode, template, options))
            for mode in MODES
        }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    n_prompts = len({reply["prompt_id"] for reply in replies})
    print(f"{options.model}, template {options.template}: {len(items)} candidates of {n_prompts} prompts")
    names = list(next(iter(figures.values())))
    print(format_table(("", *figures), [(name, *(row[name] for row in figures.values())) for name in names]))


def arguments():
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("candidates")
    parser.add_argument("--model", required=True)
    parser.add_argument("--template", default="additive")
    parser.add_argument("--max-tokens", type=int, default=400, help="of one judgement or justification")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--n-prompts", type=int)
    parser.add_argument("--engine-batch", type=int, default=16)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def read_candidates(place, n_prompts):
    """Rows with prompt_id, response_id, prompt, response, and human_rank where people ranked them."""
    if not (Path(place) / "run.json").is_file():
        return list(read_ranked(place, n_prompts=n_prompts).rows)
    run = Run(Path(place))
    prompts = {
        row["prompt_id"]: row["prompt"]
        for row in run.current("iter1/prompts").table().to_pylist()
        if row["kept"]
    }
    chosen = set(sorted(prompts)[:n_prompts])
    return [
        {
            "prompt_id": row["prompt_id"],
            "response_id": row["candidate_id"],
            "prompt": prompts[row["prompt_id"]],
            "response": row["response"],
        }
        for row in run.current("iter1/candidates").table().to_pylist()
        if row["prompt_id"] in chosen
    ]


def settings_of(mode, template, options):
    return JudgingConfig.model_validate(
        {
            **MODES[mode],
            "samples": options.samples,
            "max_tokens": options.max_tokens,
            "min_score": template.minimum,
            "max_score": template.maximum,
        }
    )


def run_mode(engine, items, template, settings):
    """The judgements, and what they took."""
    with (
        tempfile.TemporaryDirectory() as work,
        Generation("judge-modes", Path(work) / "work", engine) as generation,
    ):
        started, cpu_started = time.perf_counter(), time.process_time()
        judged = judge_items(generation, engine, items, template, settings, seed=0)
        cost = {"seconds": time.perf_counter() - started, "CPU seconds": time.process_time() - cpu_started}
        notes = generation.notes()
    return judged, {"completions": notes["completions"], "new tokens": notes["new_tokens"], **cost}


def measure(engine, replies, items, template, settings):
    judged, cost = run_mode(engine, items, template, settings)
    by_item = defaultdict(list)
    for judgement in judged:
        if judgement.score is not None:
            by_item[judgement.item_id].append(judgement.score)
    scores = {item_id: round(sum(found) / len(found), 9) for item_id, found in by_item.items()}
    by_prompt = defaultdict(list)
    for reply in replies:
        if reply["response_id"] in scores:
            by_prompt[reply["prompt_id"]].append(scores[reply["response_id"]])
    several = [found for found in by_prompt.values() if len(found) > 1]
    pairs = [one == other for found in several for one, other in combinations(found, 2)]
    return {
        "candidates scored": len(scores),
        "different scores": len(set(scores.values())),
        "pairs of candidates": len(pairs),
        "tied pairs": sum(pairs),
        "tied pairs %": 100 * sum(pairs) / len(pairs) if pairs else None,
        "prompts compared": len(several),
        "no pair": sum(len(set(found)) == 1 for found in several),
        "top tied": sum(found.count(max(found)) > 1 for found in several),
        **agreement_of(replies, scores),
        **cost,
    }


def agreement_of(replies, scores):
    """Pairs ordered as people order them, where they did."""
    if "human_rank" not in replies[0]:
        return {}
    import pandas as pd

    table = pd.DataFrame({**reply, "score": scores.get(reply["response_id"])} for reply in replies)
    figure = measure_agreement(table.astype({"score": "float64"})).judge.pairwise_ties_half
    if figure.value is None:
        return {"agreement with humans %, ties half": None}
    return {"agreement with humans %, ties half": f"{figure.shown()} of {figure.n}"}


if __name__ == "__main__":
    main()
