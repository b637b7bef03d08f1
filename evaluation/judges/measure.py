"""`evaluate judge`: judges on human-ranked replies, one after the other, with every template, or pair by pair."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from selfreward.errors import UsageError
from selfreward.evaluation.alpaca.annotators import load_annotator
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.results import Tables
from selfreward.evaluation.judges.pairwise import JudgedPairs, PairwiseRun, judge_pairs_of, measure_pairwise
from selfreward.evaluation.judges.ranked_replies import RankedReplies, check_ranks, read_ranked, run_replies
from selfreward.evaluation.judges.report import format_comparison, format_judge_run, format_pairwise_run
from selfreward.evaluation.judges.run import (
    JudgedReplies,
    JudgeRun,
    Judging,
    judge_replies,
    judge_tables,
    measure_judge,
)
from selfreward.evaluation.measure import Out, RandomSeed, Result, WithJudge
from selfreward.judging.judge.files import template_settings
from selfreward.judging.prompts.templates import load_template
from selfreward.progress import say
from selfreward.unkeyed import Count


@plain_dataclass(frozen=True, slots=True)
class JudgeRuns(Result):
    """Each judge with each template, or each pairwise judge."""

    runs: tuple[JudgeRun, ...] = ()
    pairwise: tuple[PairwiseRun, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """For `--json`: by template; by judge and template for several judges; pairwise by judge."""
        if self.pairwise:
            return {run.judged.model: run.to_dict() for run in self.pairwise}
        by_model: dict[str, dict[str, Any]] = {}
        for run in self.runs:
            by_model.setdefault(run.judged.model, {})[run.judged.how.name] = run.to_dict()
        return by_model if len(by_model) > 1 else by_model[self.runs[0].judged.model]

    def text(self) -> str:
        """One after the other, then side by side."""
        parts = [format_pairwise_run(run) for run in self.pairwise]
        parts += [format_judge_run(run) for run in self.runs]
        text = "\n\n".join(parts)
        return f"{text}\n\n{format_comparison(self.runs)}" if len(self.runs) > 1 else text


@dataclass(frozen=True, kw_only=True)
class JudgeMeasure(WithJudge[Sequence[JudgedReplies | JudgedPairs], JudgeRuns]):
    """Run a judge over human-ranked replies and measure it."""

    name = "judge"
    model: Annotated[tuple[str, ...], Field(title="MODEL")]
    """The judge: hf:NAME_OR_PATH, M1, …; repeat to compare several."""
    out: Out
    data: str | None = None
    """Human-ranked replies: an oasst export (messages or trees), PandaLM's test set, a table, a Hub dataset. Without it:
    the EFT eval split of --run."""
    template: tuple[str, ...] = ("additive",)
    """Judge template; repeat to compare several."""
    pairwise: Annotated[str, Field(title="NAME")] | None = None
    """A pairwise judge instead, both orders: selfreward_weighted, selfreward_pairwise, a folder, …"""
    samples: Count = 1
    """Judgements of each reply."""
    mode: str = "sampled"
    """sampled or expected."""
    justify: bool = True
    """In mode expected: let the judge justify before it scores."""
    temperature: Annotated[float, Field(ge=0)] = 0.7
    """Temperature of sampled judgements."""
    max_tokens: Count = 200
    """New tokens of a judgement."""
    n_prompts: Count | None = None
    """Only this many prompts with all their replies, drawn by a hash."""
    lang: str = "en"
    """Language of the replies to use from Open Assistant exports."""
    split: str = "train"
    """Split to use of a Hub dataset."""
    seed: RandomSeed = 0
    """Seed of sampled judgements."""

    def __post_init__(self) -> None:
        if self.mode not in ("sampled", "expected"):
            raise UsageError(f"--mode {self.mode!r}: expected sampled or expected")
        if len(set(self.model)) < len(self.model):
            raise UsageError(f"--model {', '.join(self.model)}: one of them is given twice")
        if len(set(map(_file_name, self.template))) < len(self.template):
            raise UsageError(f"two of the templates {', '.join(self.template)} have one name; rename a file")

    def rows(self, ask: ModelAccess) -> list[JudgedReplies | JudgedPairs]:
        """Judge the replies with every judge; excluded data is reported on stderr."""
        annotator = load_annotator(self.pairwise) if self.pairwise else None
        ways = [] if annotator else [self._judging(name) for name in self.template]
        replies = self._replies(ask)
        say(replies.sentence)
        judged: list[JudgedReplies | JudgedPairs] = []
        for model in self.model:
            # each of several judges has a folder of its own: their files have the same names
            inside = replace(ask, out=self._folder(model))
            if annotator is not None:
                judged.append(judge_pairs_of(inside, model, replies, annotator, self.seed))
            else:
                judged += judge_replies(inside, model, replies, ways)
        return judged

    def figures(self, rows: Sequence[JudgedReplies | JudgedPairs]) -> JudgeRuns:
        """The measures of each."""
        return JudgeRuns(
            tuple(measure_judge(judged) for judged in rows if isinstance(judged, JudgedReplies)),
            tuple(measure_pairwise(judged) for judged in rows if isinstance(judged, JudgedPairs)),
        )

    def tables(self, result: JudgeRuns) -> Iterable[Tables]:
        """`judge_scores`, a row for each reply; verdicts on pairs are in their file alone."""
        return map(judge_tables, result.runs)

    def _replies(self, ask: ModelAccess) -> RankedReplies:
        """The human-ranked replies: the given data, or the run's own."""
        if self.data is not None:
            replies = read_ranked(self.data, self.lang, self.split, self.n_prompts)
        elif ask.models.run is not None:
            replies = run_replies(ask.models.run, self.n_prompts)
        else:
            raise UsageError("nothing to judge: give --data FILE, or --run RUN for its EFT eval split")
        check_ranks(replies)
        return replies

    def _judging(self, name: str) -> Judging:
        template = load_template(name)
        settings = template_settings(
            template,
            mode=self.mode,
            justify=self.justify,
            samples=1 if self.mode == "expected" else self.samples,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            max_attempts=1,  # measure the judge as it is: unscored replies are not retried
        )
        return Judging(_file_name(name), template, settings, self.seed)

    def _folder(self, model: str) -> Path:
        """One judge writes into OUT, each of several into a folder of its own there."""
        if len(self.model) == 1:
            return self.out
        return self.out / re.sub(r"[^\w.-]+", "-", model).strip("-")


def _file_name(template: str) -> str:
    """A template's name, or the stem of its file, as a file name."""
    path = Path(template)
    return re.sub(r"[^\w.-]+", "-", path.stem if path.suffix else path.name)
