"""Queries over a run: every dataset as a DuckDB view, lineage of a row, the difference of two versions.

`views` opens a run read-only; `output` prints and writes results; `file` writes a .duckdb file.
"""
