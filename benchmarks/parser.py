"""How long the score parser takes on long and on hostile judge text.

    python benchmarks/parser.py [--megabytes 1]

Prints, per text, its size and the best of several runs in milliseconds. The promise is linear time, and 1 MB in
under 10 ms on any of them.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from selfreward.judging.parsing.scores import parse_score


def texts(size: int) -> dict[str, str]:
    """Texts of `size` characters: one plain and honest, one without a score, the others hostile."""
    rng = random.Random(0)
    words = [
        "the",
        "response",
        "answers",
        "most",
        "of",
        "the",
        "question",
        "clearly",
        "but",
        "repeats",
        "itself,",
        "a",
        "rating",
        "would",
        "help.",
    ]
    prose = " ".join(rng.choices(words, k=size // 4))
    units = {
        "`Score:` repeated": "Score:",
        "placeholders": "Score: <total points>\n",
        "quoted scores": '"Score: 5" ',
        "nested quotes": "\"“'«",
        "blockquotes": "> Score: 5\n",
        "digits": "5",
        "spaces": " ",
        "`<`": "<",
        "closed think blocks": "<think>Score: 5</think>",
        "nested think": "<think>",
        "closing tags": "</think>",
        "response tags": "<response>Score: 4</response>",
        "score 1 + 1 + …": "score: 1 + 1 + ",
        "out of 5": "3 out of 5 ",
        "/5": "4/5 ",
        "bracketed": "[[4]] ",
        "objects": '{"score": 4}\n',
        "open objects": '{"a":',
        "channels": "<|channel|>",
        "fillers": "score for the response is the response ",
        "Chinese": "这个回答很好，",
        "rating and total": "rating total ",
    }
    hostile = {name: (unit * (size // len(unit) + 1))[:size] for name, unit in units.items()}
    return {
        "prose, score at the end": prose[: size - 10] + "\nScore: 4\n",
        "prose without a score": prose[:size],
        "prose, score at the start": "Score: 4\n" + prose[: size - 9],
        "`Score:` and spaces": ("Score:" + " " * size)[:size],
        "`Score:`, spaces, figure": ("Score:" + " " * size)[: size - 1] + "4",
        "`Score:` and digits": ("Score:" + "4" * size)[:size],
        "unclosed think": ("<think>" + "Score: 5 " * size)[:size],
        **hostile,
    }


def milliseconds(text: str, repeats: int = 5) -> float:
    """Best of `repeats` runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        parse_score(text)
        times.append(time.perf_counter() - start)
    return min(times) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=1.0)
    size = int(parser.parse_args().megabytes * 1_000_000)
    print(f"{'text':28} {'MB':>6} {'ms':>8}  result")
    for name, text in texts(size).items():
        parsed = parse_score(text)
        print(f"{name:28} {len(text) / 1e6:6.2f} {milliseconds(text):8.2f}  {parsed.status} {parsed.score}")


if __name__ == "__main__":
    main()
