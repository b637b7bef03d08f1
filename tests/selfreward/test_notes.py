"""What steps note in manifests: stored under the same keys as ever, read whatever an older or imported version holds."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfreward.notes import (
    AlpacaFigures,
    EftNotes,
    GenerationNotes,
    JudgeEvalNotes,
    JudgementsNotes,
    Notes,
    PromptsNotes,
    TrainingNotes,
)

GENERATION = GenerationNotes(
    completions=4,
    truncated=1,
    engine_errors=0,
    first_engine_error=None,
    new_tokens=90,
    resumed=0,
    tokens_per_second=None,
)


def kinds(base: type[Notes] = Notes) -> list[type[Notes]]:
    return [kind for child in base.__subclasses__() for kind in (child, *kinds(child))]


def test_the_counts_of_the_generation_stand_among_the_steps_own():
    """As every manifest since 0.1 has them; what was not measured is null, not absent."""
    notes = PromptsNotes(generation=GENERATION, kept=3, wanted=4, rejected={"not_novel": 1}, rounds=2)
    assert notes.stored() == {
        "completions": 4, "truncated": 1, "engine_errors": 0, "first_engine_error": None, "new_tokens": 90,
        "resumed": 0, "tokens_per_second": None, "kept": 3, "wanted": 4, "rejected": {"not_novel": 1}, "rounds": 2,
    }  # fmt: skip
    assert PromptsNotes.read(json.loads(json.dumps(notes.stored()))) == notes


def test_what_only_some_versions_have_is_absent_where_it_is_not():
    """Targets that people wrote took no generation; judgements that were generated were read again from nowhere."""
    written = EftNotes(
        train=1, train_accepted=1, train_rejected={}, train_scores=[(3.0, 1)], eval=2, eval_prompts=1
    )
    assert "completions" not in written.stored()
    judged = JudgementsNotes(
        generation=GENERATION, by_status={}, resampled=0, scored_after_resampling=0, injection_suspected=0
    )
    assert "read_again_from" not in judged.stored()
    assert TrainingNotes(gate="off", effect=None, metrics=None, seconds=1.0, preflight=None).stored() == {
        "gate": "off", "effect": None, "metrics": None, "seconds": 1.0, "preflight": None
    }  # fmt: skip


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
@given(st.dictionaries(st.text(max_size=8), st.integers()))
def test_any_kind_is_read_from_any_manifest(kind, stored):
    """An imported version has no notes, a later release's has keys that nobody here knows."""
    assert isinstance(kind.read(stored), kind)


def test_figures_of_the_agreement_are_typed_and_absent_ones_none():
    figure = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 8, "of": "pairs", "n_undefined": 0}
    notes = JudgeEvalNotes.read(
        {"agreement": {"judge": {"spearman": figure}, "counts": {"n_prompts": 3, "n_rows": 9}}}
    )
    spearman = notes.figure("spearman")
    assert spearman is not None
    assert (spearman.value, spearman.n, notes.n_prompts) == (0.5, 8, 3)
    assert notes.figure("five_best") is None
    assert JudgeEvalNotes.read({}).figure("spearman") is None


def test_the_change_of_an_answer_is_read_from_the_effect():
    notes = TrainingNotes.read({"effect": {"rows": 2, "chosen": {"change": 0.5}, "margin_change": 0.1}})
    assert (notes.change("chosen"), notes.change("completion"), notes.change("rows")) == (0.5, None, None)
    assert AlpacaFigures.read({"win_rate": 51.0}).win_rate_ci_low is None
