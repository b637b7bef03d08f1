"""Every dataset of a run, defined once: its rows, their key, their ids, and which rows they were made from.

To add one, write its row class in `rows`, `measured` or `meta_rows` and its entry here: the store, import and export, `diff`,
`lineage`, `sql`, the audits of the contract and the data card go by this list.
"""

from __future__ import annotations

from dataclasses import dataclass

from selfreward.tables import measured, meta_rows, rows
from selfreward.tables.reviews import Review


@dataclass(frozen=True)
class Link:
    """A column that holds the id (or a list of ids) of the rows that a row was made from."""

    column: str
    parent: str
    relation: str
    """What the row is to its parent: `judges`, `comes from`."""


@dataclass(frozen=True)
class Dataset:
    """One kind of dataset."""

    kind: str
    row: type
    each_row: str
    """What a row is, for the data card."""
    key: tuple[str, ...] = ()
    """What names a row within one version; first its id."""
    prefix: str = ""
    """How the ids that selfreward makes for its rows begin; empty: the rows are known by the ids of others."""
    links: tuple[Link, ...] = ()
    facts: tuple[str, ...] = ()
    """What `lineage` shows of a row."""
    per_iteration: bool = True
    from_zero: bool = False
    """Is about a model, so that M0 has one too: iter0/judge_eval."""
    importable: bool = True

    def is_in_place(self, iteration: int | None) -> bool:
        """Whether there is such a dataset of this iteration (None: of the run)."""
        if iteration is None or not self.per_iteration:
            return iteration is None and not self.per_iteration
        return iteration > 0 or self.from_zero

    @property
    def pattern(self) -> str:
        """The name in messages: `ift`, `iterN/pairs`."""
        return f"iterN/{self.kind}" if self.per_iteration else self.kind


# In the order in which a run builds them.
DATASETS = (
    Dataset(
        "seeds",
        rows.Seed,
        "a ranked reply to a prompt; `ift` and `eft` are cut from these",
        key=("seed_id",),
        prefix="s",
        facts=("prompt", "response", "source", "human_rank", "quality"),
        per_iteration=False,
    ),
    Dataset(
        "ift",
        rows.Ift,
        "a prompt and its best-ranked reply, for instruction fine-tuning",
        key=("ift_id",),
        prefix="ift",
        links=(Link("source_id", "seeds", "comes from"),),
        facts=("prompt", "response", "human_rank"),
        per_iteration=False,
    ),
    Dataset(
        "eft",
        rows.Eft,
        "a judge's prompt about a ranked reply and the judgement to learn, for evaluation fine-tuning",
        key=("eft_id",),
        prefix="eft",
        links=(Link("source_id", "seeds", "comes from"),),
        facts=("prompt", "response", "split", "human_rank", "target", "target_score"),
        per_iteration=False,
    ),
    Dataset(
        "prompts",
        rows.Prompt,
        "a generated prompt, kept or rejected with its `reason`",
        key=("prompt_id",),
        prefix="p",
        links=(Link("demonstration_ids", "ift", "was shown"),),
        facts=("prompt", "generator", "kept", "reason"),
    ),
    Dataset(
        "candidates",
        rows.Candidate,
        "a sampled answer to a kept prompt",
        key=("candidate_id",),
        prefix="c",
        links=(Link("prompt_id", "prompts", "answers"),),
        facts=("response", "model", "finish_reason", "n_tokens"),
    ),
    Dataset(
        "judgements",
        rows.Judgement,
        "one judgement of an answer: its text, `score` or NULL, `status`",
        key=("judgement_id",),
        prefix="j",
        links=(Link("candidate_id", "candidates", "judges"),),
        facts=("judgement", "score", "status", "judge", "template"),
    ),
    Dataset(
        "scores",
        rows.Score,
        "an answer's mean score",
        # Without the judge: a version has one judging setup, and two setups are compared by candidate.
        key=("candidate_id",),
    ),
    Dataset(
        "meta_judgements",
        meta_rows.MetaJudgement,
        "two judgements of an answer compared, in one order: `winner` or NULL, `status`",
        key=("meta_judgement_id",),
        prefix="mj",
        links=(
            Link("first_id", "judgements", "shown first"),
            Link("second_id", "judgements", "shown second"),
        ),
        facts=("judgement", "winner", "status", "judge", "template"),
    ),
    Dataset(
        "pairs",
        rows.Pair,
        "a preference pair in TRL's conversational form",
        key=("pair_id",),
        prefix="pair",
        links=(
            Link("chosen_id", "candidates", "chosen"),
            Link("rejected_id", "candidates", "rejected"),
        ),
        facts=("rule", "chosen_score", "rejected_score", "margin"),
    ),
    Dataset(
        "judge_pairs",
        meta_rows.JudgePair,
        "two judgements of an answer as a preference pair, for the judge",
        key=("judge_pair_id",),
        prefix="jpair",
        links=(
            Link("chosen_id", "judgements", "chosen"),
            Link("rejected_id", "judgements", "rejected"),
        ),
        facts=("rule", "chosen_rating", "rejected_rating", "chosen_score", "rejected_score"),
    ),
    Dataset(
        "judge_eval",
        measured.JudgeEval,
        "the model's judgement of a ranked reply that nothing was trained on (the `eval` split of `eft`, or a file)",
        key=("eft_id", "sample", "judge", "template", "judge_mode"),
        from_zero=True,
    ),
    Dataset(
        "rule_eval",
        measured.RuleEval,
        "the model's answer to a prompt with rules, and whether a program finds them kept",
        key=("rule_eval_id",),
        prefix="re",
        facts=("prompt", "response", "rules", "kept"),
        from_zero=True,
    ),
    Dataset(
        "model_outputs",
        measured.ModelOutput,
        "the model's answer to an evaluation prompt, and the reference answer",
        key=("output_id",),
        prefix="out",
        facts=("output", "generator", "finish_reason", "n_tokens"),
        from_zero=True,
    ),
    Dataset(
        "annotations",
        measured.Annotation,
        "a verdict on such an answer, in alpaca-eval's columns",
        # One judge per version, as for scores.
        key=("output_id",),
        facts=("annotator", "preference", "status", "order"),
        from_zero=True,
    ),
    Dataset(
        "reviews",
        Review,
        "a person's verdict on a row: agrees or disagrees with the judge, or flags it",
        key=("review_id",),
        prefix="rev",
        links=(Link("row_id", "judgements", "is about"),),
        facts=("verdict", "note", "human_score", "score", "reviewer"),
        per_iteration=False,
    ),
    Dataset(
        "audits",
        measured.OffendingRow,
        "a row that an audit found, with the audit's verdict",
        per_iteration=False,
        importable=False,
    ),
)
BY_KIND = {dataset.kind: dataset for dataset in DATASETS}
