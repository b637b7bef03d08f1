"""The judge: the steps `judgements` and `scores`, the `judge` they use, parsing, prompts, agreement, audits."""
