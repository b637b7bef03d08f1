"""`selfreward view`: a local page to walk through the rows of a run, and to say what one thinks of them.

`server` starts and stops it, `app` holds its addresses and who may ask, `shelf` the verified datasets, `orders` any page
of a table in any order, `filters` what a reader typed, `pages` a row and all around it, `questions` SQL and comparisons,
`reviews` a person's verdicts.
"""
