"""The last filter of a prompt: neither a repetition of an earlier text nor one of an evaluation set.

    screen = Screen(job, max_rouge_l=0.7, n=24)
    rows += screen.take(rows_of_a_round)

Earlier texts are IFT's prompts and those kept before, in this iteration and in earlier ones. Every row comes back, kept or
with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from selfreward.similarity.evaluation_sets import load_evaluation_prompts
from selfreward.store.version import Version
from selfreward.tables import Prompt

if TYPE_CHECKING:
    from selfreward.similarity.overlap import Overlap
    from selfreward.steps.step import Job


class Screen:
    """The texts that count as earlier, and how many of `n` prompts are kept."""

    def __init__(self, job: Job, max_rouge_l: float, n: int) -> None:
        from selfreward.similarity.rouge import NoveltyIndex

        self.n_kept = 0
        self._n, self._max_rouge_l = n, max_rouge_l
        self.ift = {
            row["ift_id"]: row["prompt"] for row in job.table("ift", ["ift_id", "prompt"]).to_pylist()
        }
        self.kept: dict[str, str] = {}
        self._novelty = NoveltyIndex()
        for ift_id, text in self.ift.items():
            self._novelty.add(ift_id, text)
        for role in sorted(name for name in job.inputs if name.startswith("prompts")):
            for row in job.table(role, ["prompt_id", "prompt", "kept"]).to_pylist():
                if row["kept"]:
                    self.kept[row["prompt_id"]] = row["prompt"]
                    self._novelty.add(row["prompt_id"], row["prompt"])
        eft = job.inputs.get("eft")
        self._evaluation = load_evaluation_prompts(job.files, held_out(eft).items() if eft else ())

    def overlap(self, text: str) -> Overlap | None:
        """The evaluation prompt that a text repeats."""
        return self._evaluation.overlap(text)

    def take(self, rows: Sequence[Prompt]) -> list[Prompt]:
        """The rows with their verdicts; kept ones are earlier texts from now on."""
        screened = self._novelty.screen(
            [(row.prompt_id, row.prompt) for row in rows if row.reason is None],
            threshold=self._max_rouge_l,
            against="kept",
        )
        verdicts = {verdict.id: verdict for verdict in screened}
        taken = []
        for row in rows:
            if row.reason is None:
                verdict = verdicts[row.prompt_id]
                row = replace(
                    row,
                    reason=None if verdict.novel else "not_novel",
                    nearest_id=verdict.nearest.id if verdict.nearest else None,
                    nearest_rouge_l=verdict.nearest.rouge_l if verdict.nearest else None,
                )
                # A last round may yield more than wanted; the rest stays as rows, marked as surplus.
                if row.reason is None and self.n_kept == self._n:
                    row = replace(row, reason="surplus")
            if row.reason is None:
                row = replace(row, kept=True)
                self.kept[row.prompt_id] = row.prompt
                self.n_kept += 1
            taken.append(row)
        return taken


def held_out(eft: Version) -> dict[str, str]:
    """Prompts of the eval split, in their order: other prompts must not repeat them."""
    rows = eft.table(["prompt_id", "prompt", "split"]).to_pylist()
    return {row["prompt_id"]: row["prompt"] for row in rows if row["split"] == "eval"}
