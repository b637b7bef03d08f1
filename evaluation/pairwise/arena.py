"""`evaluate arena`: one model against a baseline before any judge, in five grades and both orders, as Arena-Hard does.

    result = measure(Arena(model="M2", baseline="gpt-4-answers.json", judge="openai:…", prompts=Path("hard.jsonl"), out=Path("arena")))

Each prompt is two games, one for each order. A win counts 1, a tie a half, a loss 0; a *much better* either way weighs
three games. The score is the weighted mean in percent: 50 is the baseline itself. (A Bradley-Terry fit of games against
one baseline gives the same number.) A game whose verdict cannot be read is counted and left out. Intervals are 95 %
bootstrap intervals over prompts. Not done: Arena-Hard's style control, and its own prompts and wording, which are a file away.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass as pydantic_dataclass

from selfreward.engines.base import Completion, Request, Sampling
from selfreward.errors import ConfigError
from selfreward.evaluation.ask.answers import (
    EFT_EVAL_SPLIT,
    ModelAccess,
    greedy,
    output_rows,
    prompts_sha256,
)
from selfreward.evaluation.ask.files import Answers
from selfreward.evaluation.ask.results import Evaluation, Tables
from selfreward.evaluation.measure import (
    File,
    Judge,
    ModelName,
    NMax,
    Out,
    PromptsFile,
    Result,
    WithAnswers,
    WithJudge,
)
from selfreward.evaluation.pairwise.result import percent
from selfreward.judging.parsing.scores import own_words
from selfreward.judging.prompts.markers import fill
from selfreward.statistics import Figure, Resampler, Share, share_figures
from selfreward.store.sealed import digest
from selfreward.tables import Message, row_id
from selfreward.unkeyed import Count

TABLE = "arena"
_SLOTS = ("prompt", "answer_a", "answer_b")
_SLOT = rf"\{{({'|'.join(_SLOTS)})\}}"
_VERDICT = re.compile(r"\[\[\s*(A>>B|A>B|A=B|B=A|B>A|B>>A)\s*\]\]")
_STRONG_GAMES = 3


@dataclass(frozen=True, slots=True)
class Game:
    """One prompt in one order. Row of the table `arena`."""

    evaluation_id: str
    comparison_id: str
    prompt: str
    model: str
    baseline: str
    judge: str
    model_is: str
    """`a` or `b`: where the model's answer was shown."""
    verdict: str | None
    """`A>>B`, …; NULL unless `status` is `ok`."""
    win: float | None
    """1, 0.5 or 0, the model's."""
    weight: int | None
    status: str
    """`ok`, `no_verdict`, `engine_error`, `missing_model`, `missing_baseline`."""
    judgement: str | None
    n_chars_model: int | None
    n_chars_baseline: int | None


@dataclass(frozen=True, slots=True)
class ArenaResult(Result):
    """The score against the baseline, and how the judge came to it."""

    model: str
    baseline: str
    judge: str
    n_prompts: int
    n_games: int
    score: Figure
    order_decided: Figure
    """Of the prompts with both verdicts: the same place won twice."""
    verdicts: dict[str, int]
    """From the model's side: `much_better`, `better`, `tie`, `worse`, `much_worse`."""
    unjudged: dict[str, int]
    avg_length_model: float | None
    avg_length_baseline: float | None
    rows: tuple[Game, ...]

    @property
    def failed(self) -> bool:
        """No game has a verdict."""
        return self.n_games == 0

    def text(self) -> str:
        """For a terminal."""
        grades = ", ".join(f"{name.replace('_', ' ')} {n}" for name, n in self.verdicts.items())
        lost = ", ".join(f"{n} {status}" for status, n in self.unjudged.items())
        a, b = (
            "n/a" if x is None else f"{x:,.0f}" for x in (self.avg_length_model, self.avg_length_baseline)
        )
        return "\n".join(
            [
                f"{self.model} against the baseline {self.baseline}, judged by {self.judge} in both orders",
                f"  score    {percent(self.score)}; 50 % is the baseline",
                f"  games    {self.n_games} of {2 * self.n_prompts}" + (f" ({lost})" if lost else ""),
                f"  verdicts {grades or 'none'}",
                f"  order    the same place won twice on {percent(self.order_decided)}",
                f"  length   {a} against {b} characters",
            ]
        )


@pydantic_dataclass(frozen=True, kw_only=True)
class Arena(WithAnswers[list[Game], ArenaResult], WithJudge[list[Game], ArenaResult]):
    """A model and a baseline on the same prompts."""

    name = "arena"
    model: ModelName
    """A model, M1 of --run, or a file of answers."""
    baseline: ModelName
    """The same: what 50 % is."""
    judge: Judge
    out: Out
    prompts: PromptsFile | None = None
    template: File | None = None
    """A judge's prompt of your own, with {prompt}, {answer_a}, {answer_b}, that asks for [[A>>B]] and its kind."""
    n_max: NMax | None = None
    judge_tokens: Annotated[Count, Field(description="New tokens of a verdict.")] = 1024

    def rows(self, ask: ModelAccess) -> list[Game]:
        """Answer, judge; OUT gets `answers_model.json`, `answers_baseline.json` and `games.jsonl`."""
        template = load_template(self.template)
        prompts = ask.prompts(self.prompts, self.n_max)
        answers = []
        for side, source in (("model", self.model), ("baseline", self.baseline)):
            answers.append(ask.answers(source, prompts, greedy(self.max_tokens)))
            ask.write(f"answers_{side}.json", output_rows(answers[-1]))
        requests = _requests(answers[0], answers[1], template, self.judge_tokens)
        judge = ask.models.ref(self.judge).name
        with ask.judge(self.judge) as generation:
            completions = generation.complete(list(requests.values()), f"by {judge}")
        games = _games(answers[0], answers[1], judge, requests, completions)
        ask.write("games.jsonl", map(asdict, games))
        return games

    def figures(self, rows: list[Game]) -> ArenaResult:
        """The score and its interval."""
        return summarize_games(rows)

    def tables(self, result: ArenaResult) -> Iterable[Tables]:
        """`arena`, a row for each game."""
        evaluation = Evaluation(
            measure=TABLE,
            model=result.model,
            against=result.baseline,
            judge=result.judge,
            prompts=self.prompts.name if self.prompts else EFT_EVAL_SPLIT,
            n_prompts=result.n_prompts,
            settings={
                "prompts": prompts_sha256(row.prompt for row in result.rows),
                "max_tokens": self.max_tokens,
                "template": digest(load_template(self.template)),
            },
        )
        figures = [
            *evaluation.shares(result, "score", "order_decided"),
            evaluation.figure("avg_length", result.avg_length_model, unit="characters", part="model"),
            evaluation.figure("avg_length", result.avg_length_baseline, unit="characters", part="against"),
        ]
        yield Tables(evaluation, figures, {TABLE: result.rows})


def load_template(path: File | None) -> str:
    """The judge's prompt. ConfigError for one without its slots."""
    if path is None:
        return (files("selfreward.evaluation") / "pairwise" / "arena.txt").read_text("utf-8").rstrip("\n")
    try:
        text = path.read_text("utf-8-sig").rstrip("\n")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"--template {path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None
    if absent := [slot for slot in _SLOTS if f"{{{slot}}}" not in text]:
        raise ConfigError(
            f"--template {path}: the slot {{{absent[0]}}} is missing; expected {{{'}, {'.join(_SLOTS)}}}"
        )
    return text


def read_verdict(completion: Completion) -> tuple[str | None, str]:
    """The last verdict, and the status.

    >>> read_verdict(Completion("x", 0, "A errs. [[B>>A]]", "stop", 4))
    ('B>>A', 'ok')
    """
    if completion.finish_reason == "error":
        return None, "engine_error"
    found = _VERDICT.findall(own_words(completion.text))
    return (found[-1].replace("B=A", "A=B"), "ok") if found else (None, "no_verdict")


def outcome(verdict: str, model_is: str) -> tuple[float, int]:
    """The model's win (1, 0.5, 0) and how many games it weighs.

    >>> outcome("A>>B", "a"), outcome("A>B", "b"), outcome("A=B", "b")
    ((1.0, 3), (0.0, 1), (0.5, 1))
    """
    if verdict == "A=B":
        return 0.5, 1
    won = verdict[0].lower() == model_is
    return float(won), _STRONG_GAMES if ">>" in verdict else 1


def _requests(
    model: Answers, baseline: Answers, template: str, tokens: int
) -> dict[tuple[str, str], Request]:
    """(prompt, where the model is) -> the request; prompts without both answers have none."""
    requests = {}
    for prompt, ours in model.outputs.items():
        theirs = baseline.outputs.get(prompt)
        if ours is None or theirs is None:
            continue
        for model_is, shown in (("a", (ours, theirs)), ("b", (theirs, ours))):
            values = dict(zip(_SLOTS, (prompt, *shown), strict=True))
            text = fill(template, _SLOT, values)
            id = row_id("game", prompt, model_is)
            requests[prompt, model_is] = Request(id, (Message("user", text),), Sampling(0.0, 1.0, tokens))
    return requests


def _games(
    model: Answers,
    baseline: Answers,
    judge: str,
    requests: dict[tuple[str, str], Request],
    completions: dict[tuple[str, int], Completion],
) -> list[Game]:
    names = (model.generator or "model", baseline.generator or "baseline")
    games = []
    for prompt, ours in model.outputs.items():
        theirs = baseline.outputs.get(prompt)
        for model_is in ("a", "b"):
            request = requests.get((prompt, model_is))
            completion = completions[request.id, 0] if request else None
            verdict, status = (
                read_verdict(completion)
                if completion
                else (None, "missing_model" if ours is None else "missing_baseline")
            )
            win, weight = outcome(verdict, model_is) if verdict else (None, None)
            games.append(
                Game("", row_id("cmp", prompt, *names), prompt, *names, judge, model_is, verdict, win, weight, status,
                     completion.text if completion else None, None if ours is None else len(ours),
                     None if theirs is None else len(theirs))
            )  # fmt: skip
    return games


_GRADES = {
    (1.0, 3): "much_better",
    (1.0, 1): "better",
    (0.5, 1): "tie",
    (0.0, 1): "worse",
    (0.0, 3): "much_worse",
}


def summarize_games(games: Sequence[Game]) -> ArenaResult:
    """The score from the games of one model against one baseline, two for each prompt."""
    prompts = list(dict.fromkeys(game.prompt for game in games))
    place = {prompt: number for number, prompt in enumerate(prompts)}
    won, played, both, same = (np.zeros(len(prompts)) for _ in range(4))
    by_prompt: dict[str, list[Game]] = {}
    for game in games:
        by_prompt.setdefault(game.prompt, []).append(game)
        if game.win is not None and game.weight is not None:
            won[place[game.prompt]] += game.weight * game.win
            played[place[game.prompt]] += game.weight
    for prompt, pair in by_prompt.items():
        verdicts = [game.verdict for game in pair]
        both[place[prompt]] = all(verdicts)
        # The same letter in both orders: once for the model, once for the baseline.
        same[place[prompt]] = all(verdicts) and len({v[0] for v in verdicts if v and v != "A=B"}) == 1 and "A=B" not in verdicts  # fmt: skip
    shares = share_figures(
        {"score": Share(won, played, "games"), "order_decided": Share(same, both, "prompts")}, Resampler(len(prompts), 1000)
    )  # fmt: skip
    counts = Counter(_GRADES[game.win, game.weight] for game in games if game.win is not None and game.weight)
    first = [pair[0] for pair in by_prompt.values()]
    return ArenaResult(
        model=games[0].model,
        baseline=games[0].baseline,
        judge=games[0].judge,
        n_prompts=len(prompts),
        n_games=sum(game.win is not None for game in games),
        **shares,
        verdicts={grade: counts[grade] for grade in _GRADES.values() if counts[grade]},
        unjudged=dict(Counter(game.status for game in games if game.status != "ok")),
        avg_length_model=_mean([game.n_chars_model for game in first]),
        avg_length_baseline=_mean([game.n_chars_baseline for game in first]),
        rows=tuple(games),
    )


def _mean(values: Sequence[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
