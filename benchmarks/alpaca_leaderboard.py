"""How close our AlpacaEval figures come to the published leaderboard, model by model.

    python benchmarks/alpaca_leaderboard.py DATA [--gamed df_gamed.csv]

DATA holds `models/NAME.outputs.json.gz` and `NAME.annotations.json.gz`, `instruction_difficulty.csv`, the
reference outputs and the leaderboard, all files of AlpacaEval's repository. Prints the largest distance of the
figures that must be exact and the mean distance of the length-controlled ones: about a point without
`df_gamed.csv`, none with it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from selfreward.evaluation.alpaca.leaderboard import leaderboard
from selfreward.evaluation.alpaca.score import evaluate_files

EXACT = ("win_rate", "standard_error", "discrete_win_rate", "n_wins", "n_wins_base", "n_draws", "avg_length")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--gamed", type=Path)
    options = parser.parse_args()
    data = options.data
    published = leaderboard(next(data.glob("leaderboard*.csv"))).rows
    print(f"{'model':<34} {'n':>4} {'exact to':>9} {'LC':>7} {'published':>9} {'distance':>8} {'s':>5}")
    distances = []
    for outputs in sorted(data.glob("models/*.outputs.json.gz")):
        name = outputs.name.removesuffix(".outputs.json.gz")
        start = time.perf_counter()
        result = evaluate_files(
            outputs,
            next(data.glob("reference_outputs*")),
            outputs.with_name(f"{name}.annotations.json.gz"),
            data / "instruction_difficulty.csv",
            options.gamed,
            model=name,
        )
        seconds = time.perf_counter() - start
        row, theirs = result.to_dict(), published[name]
        worst = max(abs(row[key] - theirs[key]) for key in EXACT)
        controlled, figure = row["length_controlled_winrate"], theirs["length_controlled_winrate"]
        if result.lc_weights:  # the reference against itself is 50 by construction and no test
            distances.append(abs(controlled - figure))
        print(
            f"{name:<34} {result.n_annotated:>4} {worst:>9.1e} {controlled:>7.2f} {figure:>9.2f} "
            f"{abs(controlled - figure):>8.2f} {seconds:>5.2f}"
        )
    method = "length_controlled_v1" if options.gamed else "length_controlled_noreg"
    print(f"mean distance of {method} to the published figures: {sum(distances) / len(distances):.2f} points")
    print(f"over {len(distances)} models; the reference against itself is left out")


if __name__ == "__main__":
    main()
