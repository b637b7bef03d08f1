"""Models by name: which names are known, how their weights are fetched, and what identifies a model in a key."""
