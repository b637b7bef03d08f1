"""A run's figures, computed once from its versions (`facts`, `funnel`), the paper's (`paper`), and the report (`report`)."""

PAGE = "report.html"
"""The name of the page in the run folder."""
