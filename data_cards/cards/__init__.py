"""Dataset and model cards: facts, plots, weaknesses, licences, Croissant."""
