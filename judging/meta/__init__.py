"""Meta-rewarding: the prompt that compares two judgements, the verdict in the answer, and ratings from verdicts."""
