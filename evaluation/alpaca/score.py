"""AlpacaEval from files, offline: alpaca-eval's win rate and length control, with every lost prompt counted.

    result = evaluate_files(outputs, reference, annotations, difficulty, gamed)
    print(result.text())

How the figures are defined:

- `win_rate`, `standard_error`, `discrete_win_rate` and the counts are alpaca-eval's `get_winrate` over the
  `n_annotated` prompts that have an answer and a usable preference. `n_total` is the prompts of the reference.
- `win_rate_ci_low`, `_high`: 95 % bootstrap over *all* prompts. With nothing lost it is the plain bootstrap.
- `avg_length`: characters, over all prompts, a missing answer counting 0, cut to an integer (the leaderboard's).
- length control: see `selfreward.evaluation.alpaca.length_control`.

Missing, empty and unannotated answers and verdicts without a preference are counted warnings, and an
`InputError` with `strict`. Files that do not match are always an `InputError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from selfreward.errors import InputError, UsageError
from selfreward.evaluation.alpaca.baselines import baselines
from selfreward.evaluation.alpaca.harness import contained, import_alpaca_eval
from selfreward.evaluation.alpaca.length_control import (
    JudgedPair,
    LengthControl,
    control_length,
    difficulty_from_gamed,
    disagreement,
    read_difficulty,
    read_gamed,
)
from selfreward.evaluation.alpaca.result import AlpacaAnnotation, AlpacaResult, Slice
from selfreward.evaluation.alpaca.verdicts import JudgeVerdict, JudgeVerdicts, verdicts_from_rows
from selfreward.evaluation.ask.files import (
    Answers,
    JsonRow,
    Offenders,
    PromptPair,
    match,
    read_answers,
    read_rows,
)
from selfreward.statistics import open_interval

if TYPE_CHECKING:
    import pandas as pd

BOOTSTRAP_ROUNDS = 10_000
DRAW = 1.5
LOW_MASS = 0.1


@dataclass(frozen=True, slots=True)
class LengthData:
    """Inputs of length control besides the answers; both None: no length control."""

    difficulty: dict[str, float] | None = None
    gamed: pd.DataFrame | None = None
    notes: tuple[str, ...] = ()


def evaluate_files(
    outputs: Path,
    reference: Path,
    annotations: Path | None,
    difficulty: Path | None = None,
    gamed: Path | None = None,
    strict: bool = False,
    model: str | None = None,
    annotator: str | None = None,
) -> AlpacaResult:
    """The leaderboard row of a model from its answers, the reference's and a judge's annotations.

    All files may be gzipped. `model` overrides the generator's name, `annotator` picks one judge's rows out of
    a mixed file. Raises `InputError` for files that do not match, `UsageError` without annotations.
    """
    if annotations is None:
        raise UsageError(
            "no annotations given: a win rate needs a judge's verdicts; give an annotations file or a judge"
        )
    references, answers = read_answers(reference), read_answers(outputs)
    return summarise_rows(
        read_rows(annotations),
        references,
        answers,
        read_length_data(difficulty, gamed, list(references.outputs)),
        strict=strict,
        model=model or answers.generator or outputs.name.split(".")[0],
        annotator=annotator,
        source=annotations.name,
    )


def summarise_rows(
    rows: Sequence[JsonRow],
    references: Answers,
    answers: Answers,
    length_data: LengthData | None = None,
    strict: bool = False,
    model: str | None = None,
    annotator: str | None = None,
    source: str = "annotations",
) -> AlpacaResult:
    """The result for rows of annotations (`selfreward.evaluation.alpaca.judge.annotation_rows`)."""
    verdicts = verdicts_from_rows(rows, source, references, answers, annotator)
    mine = [row for row in rows if annotator is None or row.get("annotator") == annotator]
    length_data = length_data or LengthData()
    model = model or answers.generator or "model"
    prompts = match(references, answers)
    table = [_judged_prompt(prompt, verdicts, length_data) for prompt in prompts]
    problems = _problems(prompts, table, verdicts, answers.source)
    if strict and problems:
        raise InputError("strict: " + "; ".join(problems))
    # lost prompts are not in these figures, as on the leaderboard; the interval below counts them
    figures = _win_rate([row.preference for row in table if row.preference is not None])
    control = _control_length(prompts, table, length_data)
    names: dict[str, Any] = {
        "model": model,
        "reference": references.generator,
        "annotator": verdicts.annotator,
    }
    table = [replace(row, glm_preference=control.preferences.get(row.instruction), **names) for row in table]
    low, high = _bootstrap_interval(table)
    lost = Counter(row.status for row in table if row.status not in ("ok", "missing_output"))
    turned = [row["disagree"] for row in mine if row.get("disagree") is not None]
    return AlpacaResult(
        **names,
        n_total=len(table),
        n_annotated=sum(row.preference is not None for row in table),
        **figures,
        # the leaderboard's definition: missing answers count 0, cut to an integer
        avg_length=sum(row.n_chars or 0 for row in table) // len(table),
        length_controlled_winrate=control.winrate,
        lc_standard_error=control.standard_error,
        lc_method=control.method,
        lc_reason=control.reason,
        lc_weights=control.weights,
        win_rate_ci_low=low,
        win_rate_ci_high=high,
        n_missing=sum(row.status == "missing_output" for row in table),
        n_empty=sum(_is_empty(prompt) for prompt in prompts),
        n_lost=dict(sorted(lost.items())),
        n_disagree=sum(turned) if turned else None,
        avg_length_reference=sum(row.n_chars_reference for row in table) // len(table),
        longer_preferred=_longer_preferred(table),
        baselines=baselines(table, verdicts.annotator, references.generator),
        by_dataset=_by_dataset(table),
        warnings=(
            *problems,
            *verdicts.notes,
            *_row_notes(mine),
            *length_data.notes,
            *control.notes,
            *_control_warnings(figures, control),
        ),
        prompts=tuple(table),
    )


def read_length_data(difficulty: Path | None, gamed: Path | None, instructions: Sequence[str]) -> LengthData:
    """Read the given files; `df_gamed.csv` alone suffices if the reference is in published order."""
    frame = read_gamed(gamed) if gamed else None
    if difficulty is not None:
        by_instruction = read_difficulty(difficulty, instructions)
        notes = disagreement(by_instruction, frame) if frame is not None else ()
        return LengthData(by_instruction, frame, notes)
    if frame is not None and gamed is not None:
        return LengthData(difficulty_from_gamed(frame, instructions, gamed), frame)
    return LengthData()


def _judged_prompt(prompt: PromptPair, verdicts: JudgeVerdicts, length_data: LengthData) -> AlpacaAnnotation:
    """One prompt with its verdict."""
    verdict = verdicts.by_instruction.get(prompt.instruction, JudgeVerdict(None, "not_annotated"))
    # a verdict on an answer that does not exist cannot be about this model
    if prompt.output is None:
        verdict = replace(verdict, preference=None, status="missing_output")
    return AlpacaAnnotation(
        evaluation_id="",
        instruction=prompt.instruction,
        dataset=prompt.dataset,
        model="",
        reference=None,
        annotator=None,
        n_chars=None if prompt.output is None else len(prompt.output),
        n_chars_reference=len(prompt.reference),
        preference=verdict.preference,
        status=verdict.status,
        glm_preference=None,
        order=verdict.order,
        disagree=verdict.disagree,
        difficulty=(length_data.difficulty or {}).get(prompt.instruction),
    )


def _is_empty(prompt: PromptPair) -> bool:
    return prompt.output is not None and not prompt.output.strip()


def _problems(
    prompts: Sequence[PromptPair], table: Sequence[AlpacaAnnotation], verdicts: JudgeVerdicts, source: str
) -> list[str]:
    """One sentence per problem with verdicts, with the count and the first offender."""
    words = {
        "missing_output": "without an answer, counted 0 in avg_length",
        "unseen": "with a verdict but no answer; the verdict is left out",
        "empty_output": "with an empty answer, judged as it is",
        "not_annotated": "with an answer but no annotation",
    }
    found: dict[str, Offenders] = {}
    for number, (prompt, row) in enumerate(zip(prompts, table, strict=True), start=1):
        kinds = [row.status] * (row.status != "ok")
        kinds += ["unseen"] * (prompt.output is None and prompt.instruction in verdicts.by_instruction)
        kinds += ["empty_output"] * _is_empty(prompt)
        for kind in kinds:
            found.setdefault(kind, Offenders("prompt")).add(number, prompt.instruction)
    return [
        rows.sentence(source, words.get(kind, f"with a verdict but no usable preference ({kind})"))
        for kind, rows in found.items()
    ]


def _win_rate(preferences: Sequence[float]) -> dict[str, Any]:
    """alpaca-eval's `get_winrate`; NULL in place of NaN (no prompt, or no standard error of one)."""
    if not preferences:
        rates: dict[str, Any] = dict.fromkeys(("win_rate", "standard_error", "discrete_win_rate"))
        return {**rates, "n_wins": 0, "n_wins_base": 0, "n_draws": 0}
    metrics = import_alpaca_eval("metrics")
    with contained():
        found = metrics.get_winrate([{"preference": preference} for preference in preferences])
    rates = {key: _null_if_nan(found[key]) for key in ("win_rate", "standard_error", "discrete_win_rate")}
    return {**rates, **{key: int(found[key]) for key in ("n_wins", "n_wins_base", "n_draws")}}


def _null_if_nan(value: Any) -> float | None:
    return None if value != value else float(value)


def _control_length(
    prompts: Sequence[PromptPair], table: Sequence[AlpacaAnnotation], length_data: LengthData
) -> LengthControl:
    pairs = [
        JudgedPair(row.instruction, row.n_chars_reference, row.n_chars or 0, row.preference)
        for row in table
        if row.preference is not None
    ]
    # the reference against itself is 50 by construction; a regression on no differences would fail
    is_baseline = all(prompt.output in (None, prompt.reference) for prompt in prompts)
    order = [prompt.instruction for prompt in prompts]
    return control_length(pairs, length_data.difficulty, length_data.gamed, order, is_baseline)


def _control_warnings(figures: dict[str, Any], control: LengthControl) -> list[str]:
    if control.winrate is None:
        return [f"no length-controlled win rate: {control.reason}"]
    found = []
    if control.weights and control.method != "length_controlled_v1":
        found.append(
            f"length control is {control.method} (no df_gamed.csv): not exactly the leaderboard's figure"
        )
    glm = import_alpaca_eval("metrics.glm_winrate")
    if glm.get_is_extreme_changes(figures["win_rate"], control.winrate):
        found.append(
            "the length-controlled win rate is far from the raw one; alpaca-eval treats that as a sign of failure"
        )
    return found


def _bootstrap_interval(table: Sequence[AlpacaAnnotation]) -> tuple[float | None, float | None]:
    """95 % over all prompts."""
    if all(row.preference is None for row in table):
        return None, None
    # a prompt without a verdict could have gone either way: lost in the low end, won in the high end
    least, most = (
        np.array([lost if row.preference is None else row.preference - 1 for row in table])
        for lost in (0.0, 1.0)
    )
    low, high = open_interval(least, most, BOOTSTRAP_ROUNDS)
    return 100 * low, 100 * high


def _longer_preferred(table: Sequence[AlpacaAnnotation]) -> float | None:
    decided = [
        (row.n_chars > row.n_chars_reference) == (row.preference > DRAW)
        for row in table
        if row.preference not in (None, DRAW) and row.n_chars not in (None, row.n_chars_reference)
    ]
    return 100 * sum(decided) / len(decided) if decided else None


def _by_dataset(table: Sequence[AlpacaAnnotation]) -> tuple[Slice, ...]:
    slices = []
    for dataset in dict.fromkeys(row.dataset for row in table):
        rows = [row for row in table if row.dataset == dataset]
        won = [row.preference - 1 for row in rows if row.preference is not None]
        slices.append(Slice(dataset, len(rows), len(won), 100 * sum(won) / len(won) if won else None))
    return tuple(slices)


def _row_notes(rows: Sequence[JsonRow]) -> tuple[str, ...]:
    """Counted notes of the judging about its verdicts."""
    masses = [row["choice_mass"] for row in rows if row.get("choice_mass") is not None]
    counts = {
        "of the answers equal the reference's: a draw without asking": sum(
            "order" in r and r["order"] is None for r in rows
        ),
        "of the verdicts rest on less than 10 % of the judge's probability: it would have written something else": sum(
            mass < LOW_MASS for mass in masses
        ),
        "of the pairs hold text that looks like part of the judge's prompt": sum(
            bool(r.get("injection_suspected")) for r in rows
        ),
    }
    return tuple(f"annotations: {count} {what}" for what, count in counts.items() if count)
