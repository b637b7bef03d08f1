"""`meta_judgements`: the judge's judgements of one answer, compared two by two in both orders (arXiv 2407.19594).

    {"meta_judgement_id": "mj-…", "candidate_id": "c-…", "first_id": "j-…", "second_id": "j-…", "winner": "second",
     "status": "ok", "judgement": "B quotes the reply, A does not …\\nWinner: B", "judge": "M1@3f0c…", …}

Of each prompt the answer whose scores vary most is taken, where the judge is least sure of itself; of the prompts the
share `meta.share` with the highest variance. Answers whose scores all agree are not compared. Rows are
comparisons, every one in both orders; an unreadable one has winner NULL and a `status`. Off without the section `meta`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

from selfreward.chats import judge_texts
from selfreward.config.meta import MetaConfig
from selfreward.config.run import RunConfig
from selfreward.engines.base import Completion, Request, Sampling
from selfreward.errors import CapabilityError, EmptyResultError
from selfreward.estimate.requests import Known, Range, Requests
from selfreward.judging.judgements import template_name
from selfreward.judging.meta.prompt import MetaTemplate, load_meta_template
from selfreward.judging.meta.ratings import Contest, consistent, position_weights
from selfreward.judging.meta.verdicts import CHOICES, LABEL, VERDICT_VERSION, likelier, read_winner
from selfreward.judging.prompts.templates import RENDER_VERSION, JudgeTemplate, load_for_range
from selfreward.notes import MetaJudgementsNotes
from selfreward.sql.queries import connect
from selfreward.steps.generation import Generation
from selfreward.steps.step import Job, Plan, Rows
from selfreward.store.run import Counts
from selfreward.tables import DatasetName, Message, MetaJudgement, row_id, to_table

if TYPE_CHECKING:
    import pyarrow as pa

NAME = "judging.meta_judgements"
VERSION = 1

_INPUTS = ("prompts", "candidates", "judgements", "scores")

# Of each prompt the usable answer with the highest variance. Equal variances: the lower sample number.
_MOST_VARIED = """
SELECT p.prompt_id, c.candidate_id, c.response, s.score_variance AS variance
FROM prompts p JOIN candidates c USING (prompt_id) JOIN scores s USING (candidate_id)
WHERE p.kept AND s.n_scored > 1 AND round(s.score_variance, 9) > 0 AND NOT s.injection_suspected
QUALIFY row_number() OVER (PARTITION BY p.prompt_id ORDER BY round(s.score_variance, 9) DESC, c.sample) = 1
ORDER BY round(variance, 9) DESC, p.prompt_id
"""
_KEPT = "SELECT count(*) FROM prompts WHERE kept"
# Of the run's first template alone: judgements of two different questions are not compared.
_SCORED = """
SELECT candidate_id, judgement_id, judgement, sample FROM judgements
WHERE status = 'ok' AND template = $template ORDER BY ALL
"""


@dataclass(frozen=True, slots=True)
class TwoJudgements:
    """Two judgements of one answer, in the order shown."""

    candidate: dict[str, Any]
    first: dict[str, Any]
    second: dict[str, Any]

    @property
    def id(self) -> str:
        return f"{self.first['judgement_id']}/{self.second['judgement_id']}"


def plan(config: RunConfig, iteration: int) -> Plan | None:
    """One version for each judgements version, meta-judge, template and settings; None without `meta`."""
    settings = config.meta
    if settings is None:
        return None
    judge_template = load_for_range(config.judging.template, config.judging.min_score).text
    texts = {"template": load_meta_template(settings.template).text, "judge_template": judge_template}
    return Plan(
        name=str(DatasetName("meta_judgements", iteration)),
        module=__name__,
        inputs={role: str(DatasetName(role, iteration)) for role in _INPUTS},
        models={"model": f"M{iteration}" if settings.judge == "current" else settings.judge},
        texts=texts,
        params={
            "iteration": iteration,
            "seed": config.seed,
            "meta": settings.keyed(),
            "verdicts": VERDICT_VERSION,
            "render": RENDER_VERSION,
            "engine": config.engine.keyed(),
        },
        requests=partial(_planned, config, settings, iteration, texts),
    )


def _planned(
    config: RunConfig, settings: MetaConfig, iteration: int, texts: dict[str, str], known: Known
) -> list[Requests] | None:
    """Two requests per pair of judgements; before there are scores, for every prompt and sample, sized like IFT's."""
    found = {role: known.get(str(DatasetName(role, iteration))) for role in _INPUTS}
    if all(found.values()):
        tables = {role: version.table() for role, version in found.items() if version}
        pairs, _ = _pairs(tables, settings.share, template_name(texts["judge_template"]))
        return [Requests(_requests(pairs, texts, settings, config.seed))]
    n_pairs = math.comb(config.judging.samples, 2) * 2
    most = config.prompts.n * settings.share * n_pairs
    judged = {"judgement_id": "j", "judgement": ""}
    examples = [
        TwoJudgements({"candidate_id": row["ift_id"], **row}, judged, judged)
        for row in known["ift"].table(["ift_id", "prompt", "response"]).to_pylist()
    ]
    requests = [
        Request(pair.candidate["candidate_id"], request.messages, request.sampling, 1, config.seed)
        for pair in examples
        for request in _requests([pair], texts, settings, config.seed)
    ]
    assumed = "prompt tokens are without the two judgements; scores of none, half, all prompts' answers vary"
    return [Requests(requests, Range(0, most / 2, most), assumed)]


def shortest_request(plan: Plan) -> Request:
    """The shortest request that the meta-judge must have room for."""
    empty = {"candidate_id": "shortest", "prompt": "", "response": ""}
    judged = {"judgement_id": "shortest", "judgement": ""}
    settings = MetaConfig(max_tokens=plan.params["meta"]["max_tokens"])
    return _requests([TwoJudgements(empty, judged, judged)], plan.texts, settings, 0)[0]


def build(job: Job) -> Rows:
    """Compare; every kept prompt gives comparisons or is counted under its reason."""
    settings = job.section("meta", MetaConfig)
    template = template_name(job.texts["judge_template"])
    pairs, dropped = _pairs({role: job.table(role) for role in _INPUTS}, settings.share, template)
    if not pairs:
        reasons = ", ".join(f"{reason} {n}" for reason, n in dropped.items())
        raise EmptyResultError(
            f"{job.name}: no prompt has an answer with two judgements that give different scores ({reasons}); raise "
            "judging.samples or judging.temperature, or leave out the section meta"
        )
    requests = _requests(pairs, job.texts, settings, job.seed)
    with job.open_engine() as engine, Generation(job.name, job.work, engine) as generation:
        able = engine.capabilities
        if settings.mode == "choice" and not (able.logprobs and able.prefix):
            raise CapabilityError(
                f"meta.mode choice needs token probabilities after a given answer prefix, and {engine.name} does not offer "
                "both; use meta.mode: written, or an hf: or vllm: judge"
            )
        completions = generation.complete(requests, "comparisons")
        asked = generation.notes()
    rows = [_row(job, pair, completions[pair.id, 0], settings.mode) for pair in pairs]
    if not any(row.winner for row in rows):
        counts = ", ".join(f"{status} {n}" for status, n in Counter(row.status for row in rows).items())
        raise EmptyResultError(
            f"{job.name}: no comparison names a winner ({counts}); take another meta.judge or meta.template, or raise "
            "meta.max_tokens"
        )
    compared = [Contest(row.first_id, row.second_id, row.winner) for row in rows if row.winner]
    weights = position_weights(compared)
    both = {(c.first, c.second) for c in compared}
    notes = MetaJudgementsNotes(
        generation=asked,
        by_status=dict(Counter(row.status for row in rows)),
        by_winner=dict(Counter(row.winner for row in rows if row.winner)),
        compared_in_both_orders=sum(pair[::-1] in both for pair in both) // 2,
        same_winner_in_both_orders=len(consistent(compared)) // 2,
        weight_first=weights.first,
        weight_second=weights.second,
        candidates=len({row.candidate_id for row in rows}),
        prompts_not_compared=dropped,
    )
    return Rows(to_table(rows, MetaJudgement), Counts(len(rows), len(rows), notes=notes.stored()))


def _pairs(
    tables: dict[str, pa.Table], share: float, template: str
) -> tuple[list[TwoJudgements], dict[str, int]]:
    """The comparisons to make, and why the other prompts give none."""
    connection = connect()
    for role, table in tables.items():
        connection.register(role, table)
    ((n_kept,),) = connection.execute(_KEPT).fetchall()
    varied = connection.sql(_MOST_VARIED).to_arrow_table().to_pylist()
    texts = judge_texts(tables["prompts"])
    taken = varied[: math.ceil(share * len(varied))]
    judged: dict[str, list[dict[str, Any]]] = {row["candidate_id"]: [] for row in taken}
    for row in connection.sql(_SCORED, params={"template": template}).to_arrow_table().to_pylist():
        if row["candidate_id"] in judged:
            judged[row["candidate_id"]].append(row)
    pairs = [
        TwoJudgements({**candidate, "prompt": texts[candidate["prompt_id"]]}, *order)
        for candidate in taken
        for one, other in combinations(sorted(judged[candidate["candidate_id"]], key=_by_sample), 2)
        for order in ((one, other), (other, one))
    ]
    dropped = {
        "scores_do_not_vary": n_kept - len(varied),
        "below_share": len(varied) - len(taken),
        "other_template": sum(len(rows) < 2 for rows in judged.values()),
    }
    return pairs, {reason: n for reason, n in dropped.items() if n}


def _by_sample(row: dict[str, Any]) -> tuple[int, str]:
    return row["sample"], row["judgement_id"]


def _requests(
    pairs: Sequence[TwoJudgements], texts: dict[str, str], settings: MetaConfig, seed: int
) -> list[Request]:
    template = MetaTemplate(texts["template"])
    judge_template = JudgeTemplate.from_text(texts["judge_template"])
    sampling = Sampling(settings.temperature, settings.top_p, settings.max_tokens)
    prefix, choices = "", tuple[str, ...]()
    if settings.mode == "choice":
        sampling, prefix, choices = Sampling(0.0, 1.0, 1), LABEL, CHOICES
    prompts = ((pair.id, _prompt(pair, template, judge_template)) for pair in pairs)
    return [Request(id, (Message("user", text),), sampling, 1, seed, prefix, choices) for id, text in prompts]


def _prompt(pair: TwoJudgements, template: MetaTemplate, judge_template: JudgeTemplate) -> str:
    shown = (pair.first["judgement"], pair.second["judgement"])
    return template.render(judge_template, pair.candidate["prompt"], pair.candidate["response"], *shown)


def _row(job: Job, pair: TwoJudgements, completion: Completion, mode: str) -> MetaJudgement:
    judge, template = job.models["model"].name, template_name(job.texts["template"])
    ended = completion.finish_reason
    if mode == "choice":
        winner, status = likelier(completion)
        # One token was asked for; that it ends there is no fault.
        text, ended = f"{LABEL}{completion.text}", "stop" if ended == "length" else ended
    else:
        winner, status = read_winner(completion.text, ended)
        text = completion.text
    return MetaJudgement(
        meta_judgement_id=row_id(
            "mj", pair.first["judgement_id"], pair.second["judgement_id"], judge, template
        ),
        iteration=job.iteration,
        prompt_id=pair.candidate["prompt_id"],
        candidate_id=pair.candidate["candidate_id"],
        first_id=pair.first["judgement_id"],
        second_id=pair.second["judgement_id"],
        judge=judge,
        template=template,
        judgement=text,
        winner=winner,
        status=status,
        finish_reason=ended,
        n_tokens=completion.n_tokens,
        seed=completion.seed,
    )


if __name__ == "__main__":
    from selfreward.cli.alone import run_alone

    run_alone()
