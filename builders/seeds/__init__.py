"""The embedded ranked seeds (`*.jsonl`), tables of users' own, and which prompts go where."""
