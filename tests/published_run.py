"""A small run made by hand, with everything that `publish`, `pull` and `card` read: no model, well under a second.

12 seed prompts with two ranked replies each; one iteration with 6 prompts (one rejected), 2 candidates each, 3
judgements each, scores, pairs; agreement and alpaca figures in the notes; `M1` as a tiny safetensors folder.
"""

from __future__ import annotations

from pathlib import Path

from selfreward.config import RunConfig, dump_config
from selfreward.store import Counts, Recipe, Run
from selfreward.tables import (
    Candidate,
    Eft,
    Ift,
    JudgeEval,
    Judgement,
    Message,
    Pair,
    Prompt,
    Score,
    Seed,
    to_table,
)

HOSTILE = (
    "---\nlicense: stolen\n---\n{{ 7 * 7 }} {% raw %}\n</pre><script>alert(1)</script>"
    "\n\n# Not a heading\n| a | b |\n![x](http://evil.example/x.png) [y](javascript:alert(2)) `code` <b>bold</b>"
)
SOURCE = "embedded"
JUDGE, TEMPLATE = "M1@0123456789ab", "additive@91ab"


def make_published_run(path: Path, source: str = SOURCE, n_prompts: int = 6, with_model: bool = True) -> Run:
    """The run folder, complete; `source` is what the seed rows name as their source."""
    run = Run.create(path)
    (path / "config.yaml").write_text(dump_config(RunConfig(run=str(path.name))), encoding="utf-8")
    seeds = [_seed(i, rank, source) for i in range(12) for rank in (0, 1)]
    _publish(run, "seeds", to_table(seeds, Seed))
    _publish(run, "ift", to_table([_ift(s) for s in seeds if s.human_rank == 0], Ift), n_in=24)
    _publish(run, "eft", to_table([_eft(s, i) for i, s in enumerate(seeds)], Eft))
    if with_model:
        publish_model(run)
    add_iteration(run, 1, n_prompts)
    return run


def add_iteration(run: Run, iteration: int, n_prompts: int = 6) -> None:
    """The datasets of one more iteration."""
    prompts = [_prompt(iteration, i) for i in range(n_prompts)]
    kept = [p for p in prompts if p.kept]
    candidates = [_candidate(p, sample) for p in kept for sample in (0, 1)]
    judgements = [_judgement(c, i, j) for i, c in enumerate(candidates) for j in range(3)]
    scores = [_score(c, [j for j in judgements if j.candidate_id == c.candidate_id]) for c in candidates]
    pairs = [_pair(p, scores, candidates) for p in kept]
    where = f"iter{iteration}"
    rejected = {"rouge_l": len(prompts) - len(kept)}
    _publish(
        run, f"{where}/prompts", to_table(prompts, Prompt), notes={"kept": len(kept), "rejected": rejected}
    )
    _publish(
        run,
        f"{where}/candidates",
        to_table(candidates, Candidate),
        notes={"truncated": 0, "engine_errors": 0},
    )
    _publish(run, f"{where}/judgements", to_table(judgements, Judgement))
    by_status = {"ok": sum(j.score is not None for j in judgements)}
    by_status["no_score"] = len(judgements) - by_status["ok"]
    values = sorted({j.score for j in judgements if j.score is not None})
    histogram = [[v, sum(j.score == v for j in judgements)] for v in values]
    notes = {"judgements_by_status": by_status, "histogram": histogram, "unscored_candidates": 0}
    _publish(run, f"{where}/scores", to_table(scores, Score), notes=notes)
    _publish(run, f"{where}/pairs", to_table(pairs, Pair), n_in=len(kept))
    _publish(run, f"{where}/judge_eval", to_table([_judge_eval(i) for i in range(4)], JudgeEval), notes={
        "by_status": {"ok": 3, "no_score": 1}, "scored_share": 0.75, "histogram": [[4.0, 3]],
        "agreement": {"judge": {"pairwise_ties_half": {"value": 0.625, "low": 0.5, "high": 0.75, "n": 8}}},
    })  # fmt: skip


def publish_model(run: Run, name: str = "M1", value: float = 0.5) -> None:
    """A model of four numbers, with a tokenizer and training figures."""
    import numpy as np
    from safetensors.numpy import save_file

    recipe = Recipe(
        name, "training.make_sft 1", {}, {"sft": {"epochs": 1, "learning_rate": 5e-4}, "value": value}
    )
    with run.draft(name) as folder:
        save_file({"w": np.full((2, 2), value, dtype=np.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
        (folder / "tokenizer.json").write_text('{"version": "1.0"}')
        (folder / "training.json").write_text('{"seconds": 3.5}')
        run.publish_model(recipe, folder, Counts(24, 24, notes={"effect": {"target": 0.25, "n": 24}}))


def _publish(run, name, table, n_in=None, notes=None):
    n_in = table.num_rows if n_in is None else n_in
    dropped = {"not_best": n_in - table.num_rows} if n_in != table.num_rows else {}
    recipe = Recipe(
        name, f"tests.{name.rpartition('/')[2]} 1", {}, {"name": name, "iteration": _iteration(name)}
    )
    return run.publish_table(recipe, table, Counts(n_in, table.num_rows, dropped, notes or {}))


def _iteration(name):
    return int(name.split("/")[0].removeprefix("iter")) if "/" in name else 0


def _seed(i, rank, source):
    prompt = HOSTILE if i == 0 else f"Question {i}?"
    return Seed(f"s{i}-{rank}", f"q{i}", prompt, f"Reply {rank} to {i}.", rank, 0.5 if i % 2 else None, "en",
                None, source)  # fmt: skip


def _ift(seed):
    messages = [Message("user", seed.prompt), Message("assistant", seed.response)]
    return Ift(f"ift-{seed.seed_id}", seed.prompt, seed.response, messages, seed.source, seed.seed_id,
               seed.human_rank, seed.quality, seed.lang)  # fmt: skip


def _eft(seed, i):
    """Splits interleave (every third prompt is held out), so their order in the store matters."""
    split = "eval" if int(seed.prompt_id[1:]) % 3 == 0 else "train"
    score = float(5 - i % 4)
    target = f"Clear. Score: {score:g}" if split == "train" else None
    accepted = split == "train" and i % 5 != 0
    return Eft(f"eft-{seed.seed_id}", split, seed.prompt_id, seed.prompt, seed.seed_id, seed.response,
               seed.human_rank, f"Review: {seed.prompt}", target, score if target else None, accepted,
               None if accepted else "held_out", seed.source, seed.seed_id)  # fmt: skip


def _prompt(iteration, i):
    kept = i != 1
    text = HOSTILE if i == 0 else f"Explain thing {i} of round {iteration}."
    return Prompt(f"p{iteration}-{i}", iteration, text, [f"ift-s{i}-0"], "hf:base", kept,
                  None if kept else "rouge_l", f"ift-s{i}-0", 0.25, 1, 7)  # fmt: skip


def _candidate(prompt, sample):
    text = f"Answer {sample} to {prompt.prompt_id}. " + "More words. " * (3 * sample)
    return Candidate(f"c-{prompt.prompt_id}-{sample}", prompt.iteration, prompt.prompt_id, sample, text, "stop",
                     len(text) // 4, len(text), "M1@0123456789ab", 11, None)  # fmt: skip


def _judgement(candidate, i, j):
    score = None if (i, j) == (2, 2) else float((i + j) % 5 + (candidate.sample == 0))
    return Judgement(f"j-{candidate.candidate_id}-{j}", candidate.iteration, candidate.prompt_id,
                     candidate.candidate_id, j, JUDGE, TEMPLATE, "sampled", f"Fine. Score: {score}", score,
                     "ok" if score is not None else "no_score", "stop", 9, 1, False, 13)  # fmt: skip


def _score(candidate, judgements):
    scored = [j.score for j in judgements if j.score is not None]
    return Score(candidate.candidate_id, JUDGE, TEMPLATE, "sampled", candidate.iteration, candidate.prompt_id,
                 sum(scored) / len(scored), 0.1, 3, len(scored), False)  # fmt: skip


def _pair(prompt, scores, candidates):
    mine = sorted((s for s in scores if s.prompt_id == prompt.prompt_id), key=lambda s: -(s.score or 0))
    texts = {c.candidate_id: c.response for c in candidates}
    best, worst = mine[0], mine[-1]
    return Pair(f"pair-{prompt.prompt_id}", prompt.iteration, prompt.prompt_id, [Message("user", prompt.prompt)],
                [Message("assistant", texts[best.candidate_id])], [Message("assistant", texts[worst.candidate_id])],
                best.candidate_id, worst.candidate_id, best.score, worst.score, best.score - worst.score,
                "max_min")  # fmt: skip


def _judge_eval(i):
    return JudgeEval(f"eft-s0-{i}", 1, "q0", f"s0-{i}", i, 40, 0, JUDGE, TEMPLATE, "sampled", "Score: 4",
                     4.0 if i else None, "ok" if i else "no_score", "stop", 5)  # fmt: skip
