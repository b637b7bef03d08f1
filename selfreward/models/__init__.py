"""Models by name: known names, how their weights are fetched, and the identity of a model in a key."""
