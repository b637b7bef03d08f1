"""Pair rules, one .sql file each, the views that they may read beside `eligible` (`views`), and a last test of each pair."""

from selfreward.builders.pair_rules.near_identical import mark_near_identical
from selfreward.builders.pair_rules.views import (
    check_needs,
    further_inputs,
    further_views,
    known_rules,
    rule_text,
)

__all__ = [
    "check_needs",
    "further_inputs",
    "further_views",
    "known_rules",
    "mark_near_identical",
    "rule_text",
]
