"""The judge: `judgements` and `scores` are steps, `judge` is what they use; parsing, prompts, agreement, audits in rooms."""
