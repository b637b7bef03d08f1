"""Checkpoint selection: each is compared with the one before it until it no longer wins (the paper's early stopping).

    selection = CheckpointSelection(judge)           # judge(previous answers, new answers) -> HeadToHeadResult
    step = selection.add(answers_of_checkpoint_200)  # and so on, as training writes them
    if selection.should_stop: …                      # selection.chosen is the one before

A checkpoint wins if it won more prompts than its predecessor; ties count for neither. The first one is compared with
the answers of the model that training started from, if those are given, and otherwise kept without a comparison.
With few prompts the difference is often noise: `CheckpointStep.net` has its interval.

A pure function of answers and judge: training calls it between two checkpoints, with the judge in a process of its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from selfreward.errors import EmptyResultError, UsageError
from selfreward.evaluation.alpaca.annotators import PairwiseTemplate, load_annotator
from selfreward.evaluation.alpaca.judge import annotator_name
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.files import Answers
from selfreward.evaluation.ask.requests import CachedGeneration
from selfreward.evaluation.ask.results import Tables
from selfreward.evaluation.measure import DEFAULT_ANNOTATOR, ModelName, Result
from selfreward.evaluation.pairwise.head_to_head import Compared, compare
from selfreward.evaluation.pairwise.result import HeadToHeadResult, percent, summarise
from selfreward.statistics import Figure, Resampler, Share, share_figures

Compare = Callable[[Answers, Answers], HeadToHeadResult]
"""(the previous answers, the new ones) -> the outcome, in which model b is the new one."""


@plain_dataclass(frozen=True, slots=True)
class CheckpointStep:
    """One checkpoint and its result against the one before."""

    checkpoint: str
    n_prompts: int
    against: str | None = None
    """None: the first one, kept without a comparison."""
    n_judged: int = 0
    n_wins: int = 0
    n_ties: int = 0
    n_losses: int = 0
    net: Figure | None = None
    """(wins - losses) / judged, in [-1, 1], with its interval."""
    improved: bool = True
    result: HeadToHeadResult | None = None

    @property
    def is_clear(self) -> bool:
        """Whether the interval of `net` excludes 0."""
        if self.net is None or self.net.low is None or self.net.high is None:
            return False
        return self.net.low > 0 or self.net.high < 0

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        net = self.net and {"value": self.net.value, "low": self.net.low, "high": self.net.high}
        names = ("checkpoint", "against", "n_prompts", "n_judged", "n_wins", "n_ties", "n_losses", "improved")
        return {**{name: getattr(self, name) for name in names}, "net": net, "is_clear": self.is_clear}


class CheckpointSelection(Result):
    """Takes checkpoints in the order of training; `chosen` is the last one that won."""

    def __init__(self, judge: Compare, start: Answers | None = None) -> None:
        self._judge = judge
        self._last = start
        self._start_name = start.generator if start else None
        self.steps: list[CheckpointStep] = []
        self.should_stop = False

    @property
    def chosen(self) -> str | None:
        """The checkpoint to keep; None if not even the first beat the model training started from."""
        kept = [step.checkpoint for step in self.steps if step.improved]
        return kept[-1] if kept else self._start_name

    def add(self, answers: Answers) -> CheckpointStep:
        """Compare the next checkpoint's answers with those of the one before. UsageError after the stop."""
        if self.should_stop:
            raise UsageError(
                f"checkpoint {answers.generator}: the one before it no longer won; the selection is over"
            )
        name = answers.generator or answers.source
        if self._last is None:
            step = CheckpointStep(name, len(answers.outputs))
        else:
            step = _step(name, self._last.generator or self._last.source, self._judge(self._last, answers))
        self.steps.append(step)
        self.should_stop = not step.improved
        self._last = answers
        return step

    def to_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return {"chosen": self.chosen, "steps": [step.to_dict() for step in self.steps]}

    def text(self) -> str:
        """A line for each comparison, and the choice."""
        lines = []
        for step in self.steps:
            if step.net is None:
                lines.append(f"{step.checkpoint}: the first, kept without a comparison")
                continue
            verdict = "better, continue" if step.improved else "no longer wins, stop"
            clear = "" if step.is_clear else "; within chance"
            lines.append(
                f"{step.checkpoint} against {step.against}: {step.n_wins} won, {step.n_ties} tied, {step.n_losses} lost "
                f"of {step.n_judged} judged ({step.n_prompts} prompts), net {percent(step.net, '+')}: {verdict}{clear}"
            )
        return "\n".join([*lines, f"chosen: {self.chosen or 'none'}"])


def select_checkpoint(
    checkpoints: Iterable[Answers], judge: Compare, start: Answers | None = None
) -> CheckpointSelection:
    """All checkpoints in order, up to the first that does not win."""
    selection = CheckpointSelection(judge, start)
    # later checkpoints are never requested: answering is the expensive part
    for answers in checkpoints:
        selection.add(answers)
        if selection.should_stop:
            break
    if not selection.steps:
        raise EmptyResultError("there are no checkpoints to choose from")
    return selection


def judge_with(generation: CachedGeneration, template: PairwiseTemplate, judge: str | None) -> Compare:
    """A judge for `CheckpointSelection` from an open engine (see `selfreward.evaluation.ask.requests`)."""
    return lambda previous, new: summarise(compare(previous, new, template, generation, judge))


@dataclass(frozen=True, kw_only=True)
class Checkpoints(Compared[CheckpointSelection, CheckpointSelection]):
    """Each checkpoint against the one before, until it no longer wins."""

    name = "checkpoints"
    folders: Annotated[tuple[str, ...], Field(title="CHECKPOINT…")]
    """Model folders, model strings or files of answers, in order; or one folder of checkpoint-N."""
    start: ModelName | None = None
    """The model training started from, for the first one."""

    def rows(self, ask: ModelAccess) -> CheckpointSelection:
        """Answer for and compare one checkpoint after the other."""
        prompts = ask.prompts(self.prompts, self.n_max)
        template = load_annotator(self.annotator or DEFAULT_ANNOTATOR)
        name = annotator_name(template, ask.models.ref(self.judge))

        def judged(previous: Answers, new: Answers) -> HeadToHeadResult:
            """Compare, with the judge opened for this comparison only."""
            # it need not fit into memory beside a checkpoint
            with ask.judge(self.judge) as generation:
                return judge_with(generation, template, name)(previous, new)

        start = ask.answers(self.start, prompts, self.sampling) if self.start else None
        each = (ask.answers(source, prompts, self.sampling) for source in expand(self.folders))
        return select_checkpoint(each, judged, start)

    def tables(self, result: CheckpointSelection) -> Iterable[Tables]:
        """`head_to_head`, a row for each prompt of each comparison."""
        for step in result.steps:
            if step.result is not None:
                yield self.tables_of(step.result, self.name)


def expand(sources: Iterable[str]) -> list[str]:
    """Folders become `hf:` models; a folder of `checkpoint-N` becomes these, by number."""
    found: list[str] = []
    for source in sources:
        path = Path(source)
        if not path.is_dir():
            found.append(source)
        elif (path / "config.json").is_file():
            found.append(f"hf:{path}")
        else:
            names = ((re.fullmatch(r"checkpoint-(\d+)", p.name), p) for p in path.iterdir())
            # by number, not by name: checkpoint-1000 sorts before checkpoint-200
            numbered = sorted((int(match[1]), p) for match, p in names if match)
            if not numbered:
                raise UsageError(
                    f"{source}: not a model folder (no config.json), and has no checkpoint-N folders"
                )
            found += [f"hf:{p}" for _, p in numbered]
    return found


def _step(name: str, against: str, result: HeadToHeadResult) -> CheckpointStep:
    verdicts = [row.verdict for row in result.rows if row.verdict is not None]
    if not verdicts:
        unjudged = ", ".join(f"{n} {status}" for status, n in result.unjudged.items())
        raise EmptyResultError(
            f"{name} against {against}: no verdict on any of {result.n_prompts} prompts ({unjudged})"
        )
    n_wins, n_losses = verdicts.count("b"), verdicts.count("a")
    signs = np.array([(verdict == "b") - (verdict == "a") for verdict in verdicts], dtype=float)
    net = Share(signs, np.ones(len(signs)), "prompts")
    return CheckpointStep(
        checkpoint=name,
        against=against,
        n_prompts=result.n_prompts,
        n_judged=len(verdicts),
        n_wins=n_wins,
        n_ties=verdicts.count("tie"),
        n_losses=n_losses,
        net=share_figures({"net": net}, Resampler(len(verdicts), 2000))["net"],
        improved=n_wins > n_losses,
        result=result,
    )
