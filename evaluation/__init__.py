"""What a model is worth: `judge_eval`, `model_outputs`, `annotations` are steps; each other measure is a command."""
