"""People's files as rows, with row numbers in every error; the formats of Open Assistant."""
