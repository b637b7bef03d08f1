"""How fast is the novelty filter, and does it decide as `rouge_score` does? One process, one core, one run.

    pip install --target /tmp/rouge rouge_score
    python benchmarks/novelty.py --data DATA --rouge-score /tmp/rouge

DATA holds three public files: AlpacaEval's reference outputs as `alpaca_eval/reference_outputs.gpt4_1106_preview.json.gz`,
Open Assistant's validation messages (lang en) as `oasst/oasst1-en-validation.messages.jsonl.gz`, and Self-Instruct's
`seed_tasks.jsonl` in `self_instruct/`.

Prompts are real ones (AlpacaEval, Open Assistant, Self-Instruct seeds), expanded by seeded edits: words
replaced or dropped, halves of two prompts joined. Every prompt is compared with all before it. `rouge_score`
is timed on a random sample of the same pairs (it would need hours for all), in two ways: its public `score`,
and the way Self-Instruct calls it, on ready tokens (the ratio is taken to this one, the faster). Decisions
are compared on every pair of the first `--check` prompts, and the nearest neighbours with them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import sys
import time
from pathlib import Path

from selfreward.similarity.rouge import THRESHOLD, NoveltyIndex, tokens


def real_prompts(data: Path) -> list[str]:
    """Prompts of 4 to 150 words, as the filters before this one leave them; repeated texts once."""
    with gzip.open(data / "alpaca_eval" / "reference_outputs.gpt4_1106_preview.json.gz", "rt") as file:
        texts = [row["instruction"] for row in json.load(file)]
    with gzip.open(data / "oasst" / "oasst1-en-validation.messages.jsonl.gz", "rt") as file:
        messages = map(json.loads, file)
        texts += [message["text"] for message in messages if message["role"] == "prompter"]
    with open(data / "self_instruct" / "seed_tasks.jsonl", encoding="utf-8") as file:
        texts += [json.loads(line)["instruction"] for line in file]
    return [text for text in dict.fromkeys(texts) if 3 < len(text.split()) <= 150]


def expand(prompts: list[str], n: int, seed: int = 0) -> list[str]:
    """The prompts and seeded variations of them, n in all, shuffled."""
    draw = random.Random(seed)
    words = [word for prompt in prompts for word in prompt.split()]
    expanded = list(prompts)
    while len(expanded) < n:
        first, second = draw.choice(prompts).split(), draw.choice(prompts).split()
        if draw.random() < 0.5:
            first = first[: len(first) // 2 + 1] + second[len(second) // 2 :]
        replaced, dropped = draw.random() * 0.8, draw.random() * 0.2
        varied = [draw.choice(words) if draw.random() < replaced else word for word in first]
        varied = [word for word in varied if draw.random() >= dropped]
        if 3 < len(varied) <= 150:
            expanded.append(" ".join(varied))
    draw.shuffle(expanded)
    return expanded[:n]


def time_ours(prompts: list[str]) -> tuple[float, int]:
    """Seconds for `screen` of all prompts, tokenising included, and how many were rejected."""
    start = time.perf_counter()
    verdicts = NoveltyIndex().screen((str(place), prompt) for place, prompt in enumerate(prompts))
    return time.perf_counter() - start, sum(not verdict.novel for verdict in verdicts)


def time_rouge_score(prompts: list[str], n_pairs: int) -> tuple[float, float]:
    """Pairs per second of `RougeScorer.score`, and of its LCS on ready tokens."""
    from rouge_score import rouge_scorer

    draw = random.Random(1)
    pairs = [sorted(draw.sample(range(len(prompts)), 2)) for _ in range(n_pairs)]
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    start = time.perf_counter()
    for a, b in pairs:
        scorer.score(prompts[a], prompts[b])
    public = time.perf_counter() - start
    ready = [(tokens(prompts[a]), tokens(prompts[b])) for a, b in pairs]
    start = time.perf_counter()
    for a_tokens, b_tokens in ready:
        rouge_scorer._score_lcs(a_tokens, b_tokens)
    return n_pairs / public, n_pairs / (time.perf_counter() - start)


def check_decisions(prompts: list[str]) -> int:
    """Assert equal scores, neighbours and decisions on all pairs; returns how many pairs that were."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    verdicts = NoveltyIndex().screen((str(place), prompt) for place, prompt in enumerate(prompts))
    for place, verdict in enumerate(verdicts):
        scores = [scorer.score(earlier, prompts[place])["rougeL"].fmeasure for earlier in prompts[:place]]
        best = max(scores, default=0.0)
        assert verdict.novel == (best <= THRESHOLD), (place, best, verdict)
        if verdict.nearest is None:
            assert best == 0.0, (place, best)
        else:
            assert verdict.nearest.rouge_l == best, (place, best, verdict)
            assert int(verdict.nearest.id) == scores.index(best), (place, verdict)
    return len(prompts) * (len(prompts) - 1) // 2


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1].parent / "shared" / "data")
    parser.add_argument(
        "--rouge-score", type=Path, help="folder with the rouge_score package, if not installed"
    )
    parser.add_argument("--prompts", type=int, default=20_000)
    parser.add_argument("--pairs", type=int, default=20_000, help="pairs to time rouge_score on")
    parser.add_argument("--check", type=int, default=400, help="prompts whose pairs are all compared")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.rouge_score:
        sys.path.append(str(arguments.rouge_score))
    if not arguments.data.is_dir():
        parser.error(
            f"--data {arguments.data}: no such folder; it holds alpaca_eval/, oasst/ and self_instruct/"
        )
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    prompts = expand(real_prompts(arguments.data), arguments.prompts)
    seconds, rejected = time_ours(prompts)
    n_pairs = len(prompts) * (len(prompts) - 1) // 2
    public, ready = time_rouge_score(prompts, arguments.pairs)
    checked = check_decisions(prompts[: arguments.check])
    report = {
        "prompts": len(prompts),
        "mean_tokens": round(sum(len(tokens(prompt)) for prompt in prompts) / len(prompts), 1),
        "rejected": rejected,
        "pairs": n_pairs,
        "seconds": round(seconds, 2),
        "pairs_per_s": round(n_pairs / seconds),
        "rouge_score_pairs_per_s": round(public),
        "rouge_score_ready_tokens_pairs_per_s": round(ready),
        "rouge_score_hours_extrapolated": round(n_pairs / ready / 3600, 2),
        "times_rouge_score": round(n_pairs / seconds / public),
        "times_rouge_score_ready_tokens": round(n_pairs / seconds / ready),
        "pairs_with_equal_decisions": checked,
    }
    lines = [f"{key:40} {value:>15,}" for key, value in report.items()]
    print(json.dumps(report) if arguments.json else "\n".join(lines))
    return 0 if seconds < 30 and n_pairs / seconds >= 1000 * ready else 1


if __name__ == "__main__":
    sys.exit(main())
