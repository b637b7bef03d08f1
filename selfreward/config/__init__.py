"""The run configuration: one YAML file, typed and checked before anything runs.

`run` is the whole of it; `data`, `judging`, `training`, `meta` and `evaluation` are its sections, by stage. `files` reads
and writes it, `by_iteration` reads lists in place of one value, `starter` writes a commented file to start from.
"""
