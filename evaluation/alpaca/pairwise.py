"""alpaca-eval's own pairwise annotator, driven by keys instead of prompts.

The order of the answers (a coin seeded by the instruction), the handling of identical answers, the parsers and the
reordering of the preference are alpaca-eval's, unchanged. Its prompt is replaced by the key (instruction, order) of a
comparison, and its completion by what `complete` returns for that key.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from selfreward.engines.base import Completion
from selfreward.evaluation.alpaca.annotators import PairwiseTemplate
from selfreward.evaluation.alpaca.harness import contained, import_alpaca_eval
from selfreward.evaluation.ask.files import PromptPair

REFERENCE_FIRST, MODEL_FIRST = "reference_first", "model_first"
ComparisonKey = tuple[str, str]
"""(instruction, order): one comparison put to the judge."""
Order = str | None
"""One of the two above for all pairs; None: alpaca-eval's coin decides for each."""


def comparisons(
    template: PairwiseTemplate, prompts: Sequence[PromptPair], order: Order, seed: int
) -> set[ComparisonKey]:
    """The pairs that alpaca-eval wants judged, each with the order of its answers."""
    asked: set[ComparisonKey] = set()

    def remember(keys: list[ComparisonKey]) -> list[Any]:
        asked.update(keys)
        # any text will do: the rows of this pass are thrown away
        return [""] * len(keys)

    _run_annotator(template, prompts, remember, order, seed)
    return asked


def parse_replies(
    template: PairwiseTemplate,
    prompts: Sequence[PromptPair],
    replies: Mapping[ComparisonKey, Completion],
    order: Order,
    seed: int,
) -> dict[ComparisonKey, float]:
    """Preferences (2: the model is better) that alpaca-eval can read from the replies."""
    turned: dict[str, str] = {}

    def answer(keys: list[ComparisonKey]) -> list[Any]:
        turned.update(keys)
        return [_for_parser(template, replies.get(key)) for key in keys]

    rows = _run_annotator(template, prompts, answer, order, seed)
    return {
        (row["instruction"], turned[row["instruction"]]): float(row["preference"])
        for row in rows
        if row["instruction"] in turned
        and row["preference"] is not None
        # NaN is the only value unequal to itself
        and row["preference"] == row["preference"]
    }


def _for_parser(template: PairwiseTemplate, reply: Completion | None) -> Any:
    """A completion in the shape that alpaca-eval's parsers read: text, or OpenAI's log-probabilities."""
    if reply is None or reply.finish_reason == "error":
        return ""
    if not template.choices:
        return reply.text
    top = [
        {"token": token, "logprob": value}
        for token, value in (reply.choice_logprobs or {}).items()
        if value > -inf  # alpaca-eval treats an absent token as probability 0
    ]
    return {"logprobs": {"content": [{"top_logprobs": top}]}}


def _run_annotator(
    template: PairwiseTemplate,
    prompts: Sequence[PromptPair],
    complete: Callable[[list[ComparisonKey]], list[Any]],
    order: Order,
    seed: int,
) -> list[dict[str, Any]]:
    """alpaca-eval's pairwise annotator over all pairs, `complete` in the place of the model."""
    if not prompts:
        return []
    pairwise = import_alpaca_eval("annotators.pairwise_evaluator")
    # alpaca-eval only needs to know whether the answers are equal, not the texts
    pairs = [
        {
            "instruction": prompt.instruction,
            "output_1": "reference",
            "output_2": "reference" if prompt.output == prompt.reference else "model",
        }
        for prompt in prompts
    ]
    with contained():
        annotator = _annotator_class(pairwise, complete, order)(
            annotators_config=template.config, seed=seed, caching_path=None, other_output_keys_to_keep=()
        )
        rows: list[dict[str, Any]] = annotator.annotate_pairs(pairs, chunksize=None)
    return rows


def _annotator_class(
    pairwise: Any, complete: Callable[[list[ComparisonKey]], list[Any]], order: Order
) -> Any:
    """`PairwiseAnnotator` whose prompts are keys and whose model is `complete`; all else is alpaca-eval's."""

    class Single(pairwise.SinglePairwiseAnnotator):  # type: ignore[misc]
        def __init__(self, *args: Any, **config: Any) -> None:
            config |= {"fn_completions": self._complete, "completions_kwargs": {}}
            # alpaca-eval would toss its coin again for a fixed order
            if order is not None:
                config["is_randomize_output_order"] = False
            super().__init__(*args, **config)

        def _make_prompts(self, frame: Any, prompt_template: str | None = None) -> tuple[list[str], Any]:
            switched = frame.get("is_switched_outputs", [order == MODEL_FIRST] * len(frame))
            turns = [MODEL_FIRST if switch else REFERENCE_FIRST for switch in switched]
            return [json.dumps(key) for key in zip(frame["instruction"], turns, strict=True)], frame

        def _complete(self, prompts: list[str]) -> dict[str, list[Any]]:
            keys = [(instruction, turn) for instruction, turn in map(json.loads, prompts)]
            return {self.completion_key: complete(keys)}

        def _parse_completions(self, completions: Any) -> tuple[list[Any], list[Any]]:
            """alpaca-eval's own parsing; a fixed order is turned back."""
            parsed, kept = super()._parse_completions(completions)
            # some parsers give 0 for a tie, which alpaca-eval's own check then refuses
            values = [1.5 if value == 0 else value for value in parsed]
            if order == MODEL_FIRST:
                values = [None if value is None else 3 - value for value in values]
            return values, kept

    class Annotator(pairwise.PairwiseAnnotator):  # type: ignore[misc]
        @property
        def SingleAnnotator(self) -> Any:
            return Single

    return Annotator
