"""Text similarity: ROUGE-L of new prompts, evaluation prompts in training data, near duplicates."""
