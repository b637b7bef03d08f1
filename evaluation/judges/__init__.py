"""Judges measured against people's rankings and pairwise preferences."""
