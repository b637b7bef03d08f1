"""The run configuration: one YAML file, typed and checked before anything runs.

`run` is the whole of it, `training` its training sections, `starter` writes a commented file to start from.
"""
