"""AlpacaEval 2: pairwise verdicts, win rates, length control, the leaderboard."""
