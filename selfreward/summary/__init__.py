"""What a run shows: its figures, computed once from its versions (`facts`, `funnel`), beside the paper's (`paper`), and printed (`report`)."""
