"""Judge prompts: templates and how they are filled, markers that are neutralized, signs of prompt injection."""
