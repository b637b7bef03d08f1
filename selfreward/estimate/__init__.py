"""`selfreward run --estimate`: the requests, tokens, time and money that a run still needs.

requests   what each open step will ask for: counted from the plan and from the rows that exist
measure    one timed batch for each kind of request
report     the two multiplied, as a table or as JSON
"""
