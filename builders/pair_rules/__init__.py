"""Pair rules, one .sql file each, and the views that they may read beside `eligible` (`views`)."""

from selfreward.builders.pair_rules.views import (
    check_needs,
    further_inputs,
    further_views,
    known_rules,
    rule_text,
)

__all__ = ["check_needs", "further_inputs", "further_views", "known_rules", "rule_text"]
