"""Self-Instruct: what the generator is shown, how its answer is read, which prompts are refused."""
