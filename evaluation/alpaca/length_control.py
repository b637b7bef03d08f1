"""Length-controlled win rate: alpaca-eval's own regression, with our joins around it.

What the win rate would be if the model's answers were as long as the reference's (arXiv 2404.04475): a
logistic regression of the preference on tanh(length difference in standard deviations), the difficulty of the
instruction and the model itself, then a prediction with the length difference set to 0. Formula, folds and fit are
alpaca-eval's (`GLM_INFO`, `make_dmatrix_for_model`, `fit_LogisticRegressionCV`).

- `length_controlled_v1`: regularized with the two gamed models of `df_gamed.csv` (from the Hub).
- `length_controlled_noreg`: without that file; about a point away from the published figures.
- no difficulty: no figure (NULL), with the reason. alpaca-eval does not ship the file either.

The five folds follow the row order, which moves the figure by up to 0.04 points; `_fit_order` fixes it.
"""

from __future__ import annotations

import csv
import hashlib
import io
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.evaluation.alpaca.harness import contained, import_alpaca_eval
from selfreward.reading.opening import read_text
from selfreward.text import shorten

if TYPE_CHECKING:
    import pandas as pd

PUBLISHED_ORDER_SHA256 = "bfe8c45991f635de0b1f94abeeb1335ef665d58eddd87ddf6fa71b7b0c2ce7a5"
"""Of AlpacaEval's 805 instructions in published order, joined by NUL."""

FEATURES = ("preference", "std_delta_len", "instruction_difficulty", "not_gamed_baseline")
DIFFICULTY_TOLERANCE = 1e-3
MIN_PROMPTS = 5
"""One for each of alpaca-eval's five folds."""


@dataclass(frozen=True, slots=True)
class JudgedPair:
    """One annotated prompt: lengths in characters, preference in [1, 2]."""

    instruction: str
    reference_length: int
    output_length: int
    preference: float


@dataclass(frozen=True, slots=True)
class LengthControl:
    """Win rate and its standard error in percent; all None with a `reason` if it cannot be computed."""

    winrate: float | None = None
    standard_error: float | None = None
    method: str | None = None
    reason: str | None = None
    preferences: dict[str, float] = field(default_factory=dict)
    """Predicted probability in [0, 1] that the model wins at equal length, by instruction."""
    weights: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def read_difficulty(path: Path, instructions: Sequence[str]) -> dict[str, float]:
    """Difficulty by instruction from a CSV with the columns `instruction` and `instruction_difficulty`.

    The Hub's own `instruction_difficulty.csv` has row numbers in place of instructions; it is accepted only if
    `instructions` (those of the reference) are AlpacaEval's 805 in their published order.
    """
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    if not rows or "instruction_difficulty" not in rows[0]:
        raise InputError(
            f"{path.name}: expected a CSV with the columns instruction and instruction_difficulty"
        )
    values = [
        _number(row["instruction_difficulty"], path, number) for number, row in enumerate(rows, start=2)
    ]
    # without instructions the rows go by number, which only AlpacaEval's published order gives a meaning
    if "instruction" in rows[0]:
        keys: Sequence[str] = [row["instruction"] for row in rows]
    else:
        keys = _published(instructions, len(rows), path)
    difficulty = dict(zip(keys, values, strict=True))
    if len(difficulty) < len(keys):
        repeated = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise InputError(f"{path.name}: gives {shorten(repeated, 60)!r} more than once")
    return difficulty


def read_gamed(path: Path) -> pd.DataFrame:
    """`df_gamed.csv` of `tatsu-lab/alpaca_eval` on the Hub: two models' preferences, features ready made."""
    import pandas as pd

    frame = pd.read_csv(io.StringIO(read_text(path)))
    lacking = [column for column in (*FEATURES, "index") if column not in frame.columns]
    if lacking or frame.empty:
        raise InputError(
            f"{path.name}: is not AlpacaEval's df_gamed.csv (lacks {', '.join(lacking) or 'rows'})"
        )
    frame["not_gamed_baseline"] = frame["not_gamed_baseline"].astype(bool)
    return frame


def difficulty_from_gamed(gamed: pd.DataFrame, instructions: Sequence[str], path: Path) -> dict[str, float]:
    """The difficulties inside `df_gamed.csv`, which go by row number of the published order."""
    unique = gamed.drop_duplicates("index").sort_values("index")
    keys = _published(instructions, len(unique), path)
    return dict(zip(keys, unique["instruction_difficulty"].astype(float), strict=True))


def disagreement(difficulty: Mapping[str, float], gamed: pd.DataFrame) -> tuple[str, ...]:
    """A note if the two files cannot stem from the same estimate: v1 needs both on one scale."""
    inside = sorted(gamed.drop_duplicates("index")["instruction_difficulty"].astype(float))
    given = sorted(difficulty.values())
    if len(inside) != len(given):
        return (f"difficulty file has {len(given)} instructions, df_gamed.csv {len(inside)}",)
    largest = max(abs(a - b) for a, b in zip(inside, given, strict=True))
    if largest > DIFFICULTY_TOLERANCE:
        return (
            f"difficulty file and df_gamed.csv differ by up to {largest:.4f}; they are not of one estimate",
        )
    return ()


def control_length(
    pairs: Sequence[JudgedPair],
    difficulty: Mapping[str, float] | None,
    gamed: pd.DataFrame | None = None,
    reference_order: Sequence[str] = (),
    is_baseline: bool = False,
) -> LengthControl:
    """Fit and predict. `is_baseline`: the model *is* the reference, 50 by construction as on the leaderboard."""
    method = "length_controlled_noreg" if gamed is None else "length_controlled_v1"
    if is_baseline and pairs:
        return LengthControl(50.0, 0.0, method, preferences={pair.instruction: 0.5 for pair in pairs})
    reason = _why_not(pairs, difficulty)
    if reason is not None or difficulty is None:
        return LengthControl(reason=reason)
    rank = {instruction: n for n, instruction in enumerate(_fit_order(list(difficulty), reference_order))}
    ordered = sorted(pairs, key=lambda pair: rank[pair.instruction])
    predicted, weights, notes = _fit(_features(ordered, difficulty), gamed, method)
    preferences = {pair.instruction: p for pair, p in zip(ordered, predicted, strict=True)}
    mean = sum(predicted) / len(predicted)
    return LengthControl(
        100 * mean, 100 * _standard_error(predicted), method, None, preferences, weights, notes
    )


def is_published_order(instructions: Sequence[str]) -> bool:
    """Whether these are AlpacaEval's 805 instructions in the order of the published files."""
    return hashlib.sha256("\0".join(instructions).encode()).hexdigest() == PUBLISHED_ORDER_SHA256


def _why_not(pairs: Sequence[JudgedPair], difficulty: Mapping[str, float] | None) -> str | None:
    if difficulty is None:
        return "no instruction difficulty was given, neither a difficulty file nor df_gamed.csv"
    unknown = [pair.instruction for pair in pairs if pair.instruction not in difficulty]
    if unknown:
        return f"{len(unknown)} of {len(pairs)} annotated instructions have no difficulty, first {shorten(unknown[0], 60)!r}"
    if len(pairs) < MIN_PROMPTS:
        return f"{len(pairs)} annotated prompts are too few; the regression needs {MIN_PROMPTS}"
    for side, n in _heard(pairs):
        if n < MIN_PROMPTS:  # alpaca-eval's fit would learn nothing and return 50
            return f"the judge gave the {side} something on {n} of {len(pairs)} prompts; fitting needs {MIN_PROMPTS}"
    # a constant regressor: its standard deviation is 0
    if len({pair.reference_length - pair.output_length for pair in pairs}) == 1:
        return "all answers differ from the reference by the same length, so its effect cannot be estimated"
    return None


def _heard(pairs: Sequence[JudgedPair]) -> tuple[tuple[str, int], tuple[str, int]]:
    """On how many prompts each side got any part of the preference."""
    return (
        ("model", sum(pair.preference > 1 for pair in pairs)),
        ("reference", sum(pair.preference < 2 for pair in pairs)),
    )


def _fit_order(difficulty_order: list[str], reference_order: Sequence[str]) -> Sequence[str]:
    # sorted by instruction otherwise: any fixed order will do, as long as it is not the file's
    for order in (difficulty_order, reference_order):
        if is_published_order(order):
            return order
    return sorted(difficulty_order)


def _features(pairs: Sequence[JudgedPair], difficulty: Mapping[str, float]) -> pd.DataFrame:
    """The columns of `FEATURES`; the length difference is in standard deviations (n - 1) of these pairs."""
    import pandas as pd

    # n - 1, as pandas computes it
    delta = pd.Series([float(pair.reference_length - pair.output_length) for pair in pairs])
    return pd.DataFrame(
        {
            "preference": [pair.preference - 1 for pair in pairs],
            "std_delta_len": delta / delta.std(),
            "instruction_difficulty": [difficulty[pair.instruction] for pair in pairs],
            "not_gamed_baseline": True,
        }
    )


def _fit(
    frame: pd.DataFrame, gamed: pd.DataFrame | None, method: str
) -> tuple[list[float], dict[str, float], tuple[str, ...]]:
    """Predicted preferences at equal length, in the rows' order; the weights; the fit's warnings."""
    import pandas as pd

    # not alpaca-eval's own entry point: it looks difficulty up by row position, fetches df_gamed.csv from the
    # Hub at every call, and writes the weights into site-packages
    glm = import_alpaca_eval("metrics.glm_winrate")
    info = glm.GLM_INFO[method]
    train = frame if gamed is None else pd.concat([gamed[list(FEATURES)], frame], ignore_index=True)
    at_equal_length = frame[["instruction_difficulty", "not_gamed_baseline"]].assign(std_delta_len=0)
    design, design_test = glm.make_dmatrix_for_model(train, at_equal_length, formula=info["formula"])
    known = design["preference"].notna()
    sample_weight = None
    if gamed is not None:
        # lambda is shared by both gamed models, as in alpaca-eval
        gamed_weight = info["regularize_to_baseline_lambda"] / 2
        sample_weight = train["not_gamed_baseline"].map({True: 1.0, False: gamed_weight})[known]
    model, notes = _fit_quietly(glm, design[known], sample_weight, info["kwargs"])
    weights = dict(zip(design_test.columns, map(float, model.coef_[0]), strict=True))
    return [float(p) for p in model.predict_proba(design_test)[:, 1]], weights, notes


def _fit_quietly(
    glm: Any, design: pd.DataFrame, sample_weight: Any, kwargs: Any
) -> tuple[Any, tuple[str, ...]]:
    """alpaca-eval's fit; warnings (such as no convergence) become notes of the result."""
    import sklearn

    # switches of scikit-learn that alpaca-eval sets are undone by `config_context`
    with contained(), sklearn.config_context(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # scikit-learn's deprecations are alpaca-eval's to fix, no problem of this fit
        warnings.filterwarnings("ignore", category=FutureWarning, module="sklearn")
        model = glm.fit_LogisticRegressionCV(
            design, "preference", is_ytrue_proba=True, sample_weight=sample_weight, **kwargs
        )
    return model, tuple(sorted({f"length control: {warning.message}" for warning in caught}))


def _standard_error(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) / len(values))


def _published(instructions: Sequence[str], n_rows: int, path: Path) -> Sequence[str]:
    if is_published_order(instructions) and n_rows == len(instructions):
        return instructions
    raise InputError(
        f"{path.name}: goes by row number and the reference is not AlpacaEval's 805 prompts in their published order; "
        "give a difficulty file with a column instruction"
    )


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{path.name}, row {line}: instruction_difficulty is {text!r}, expected a number")
    return value
