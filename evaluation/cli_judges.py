"""`selfreward evaluate judge`."""

from __future__ import annotations


def judge() -> None:
    """x"""
