"""Evaluation of models: `judge_eval`, `model_outputs`, `annotations` are steps; each other measure is a command."""
