"""Shared by all measures: prompts, models' answers, journalled requests, tables of results."""
