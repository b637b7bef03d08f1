"""`selfreward run --estimate`: the requests, tokens, time and money that a run still needs.

requests   the requests of each open step, counted from the plan and from existing rows
measure    one timed batch for each kind of request
report     the two multiplied, as a table or as JSON
"""
