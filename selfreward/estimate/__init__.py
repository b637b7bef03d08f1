"""`selfreward run --estimate`: requests, tokens, time and money of a run before it is made."""
