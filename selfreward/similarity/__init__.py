"""How alike two texts are: ROUGE-L of new prompts, evaluation prompts in training data, near duplicates."""
