"""Dataset and model cards: facts, plots, weaknesses, licenses, Croissant."""
