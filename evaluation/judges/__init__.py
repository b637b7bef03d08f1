"""Judges measured against human rankings and pairwise preferences."""
