"""Five real pairs, each with everything around it: both answers, every judgement, the demonstrations, the answers not used."""

from __future__ import annotations

from typing import Any

from selfreward.page.figures import Fold, RealRow, RealRows, Source, literal
from selfreward.page.rows import N_ROWS, demonstrations_of

_USED = ("chosen", "rejected")


def five_pairs(source: Source) -> RealRows:
    """Five pairs of the last iteration with pairs."""
    last = source.last("pairs")
    if last is None:
        return RealRows("rows-pairs", "Pairs", note="There are no pairs yet.")
    iteration = last.partition("/")[0]
    # By hash: a fixed draw that favors neither early prompts nor large margins.
    query = (
        "SELECT pair_id, prompt_id, prompt, chosen_id, rejected_id, chosen, rejected, margin, rule FROM "
        f"{iteration}.pairs ORDER BY md5(pair_id) LIMIT {N_ROWS}"
    )
    pairs, queries = [], [query]
    for row in source.rows(query):
        pair, asked = _pair(source, iteration, row)
        pairs.append(pair)
        queries += asked
    return RealRows("rows-pairs", f"Five pairs of iteration {iteration.removeprefix('iter')}", pairs, queries)


def _pair(source: Source, iteration: str, row: tuple[Any, ...]) -> tuple[RealRow, list[str]]:
    pair_id, prompt_id, prompt, chosen_id, rejected_id, chosen, rejected, margin, rule = row
    queries: list[str] = []

    def ask(query: str, *needed: str) -> list[tuple[Any, ...]]:
        # A run with imported pairs may have nothing that led to them.
        if not source.has(*needed):
            return []
        queries.append(query)
        return source.rows(query)

    answers = ask(
        "SELECT c.candidate_id, c.response, c.finish_reason, s.score, s.injection_suspected "
        f"FROM {iteration}.candidates c LEFT JOIN {iteration}.scores s USING (candidate_id) "
        f"WHERE c.prompt_id = {literal(prompt_id)} ORDER BY c.sample",
        f"{iteration}/candidates", f"{iteration}/scores",
    )  # fmt: skip
    judged = ask(
        f"SELECT candidate_id, score, status, judgement FROM {iteration}.judgements "
        f"WHERE prompt_id = {literal(prompt_id)} ORDER BY candidate_id, sample",
        f"{iteration}/judgements",
    )
    scores = {answer[0]: answer[3] for answer in answers}
    roles = {chosen_id: _USED[0], rejected_id: _USED[1]}

    def shown(answer: tuple[Any, ...]) -> RealRow:
        id, text, ended, score, flagged = answer
        role = roles.get(id)
        title = role or why_not(
            text, ended, score, flagged, scores.get(chosen_id), scores.get(rejected_id), rule
        )
        judgements = [
            RealRow("", (("score", value), ("status", status)), (("", said),))
            for candidate, value, status, said in judged
            if candidate == id
        ]
        fold = Fold(f"{len(judgements)} judgements of {id}", judgements, opened=role is not None)
        facts = () if score is None else (("mean score", score),)
        return RealRow(title, facts, (("", text),), folds=(fold,) if judgements else ())

    # Imported pairs may come without the candidates that they were made from.
    known = {answer[0] for answer in answers}
    answers += [
        (id, turns[-1]["content"], "stop", None, None)
        for id, turns in ((chosen_id, chosen), (rejected_id, rejected))
        if id not in known
    ]
    used = sorted((a for a in answers if a[0] in roles), key=lambda answer: _USED.index(roles[answer[0]]))
    others = [shown(answer) for answer in answers if answer[0] not in roles]
    demonstrations = demonstrations_of(ask, iteration, prompt_id)
    folds = (
        Fold(f"{len(others)} other candidates, and why each was not used", others),
        Fold(f"{len(demonstrations)} demonstrations that its prompt was written from", demonstrations),
    )
    facts = (("margin", margin), ("rule", rule))
    # The whole conversation, not its last turn: imported prompts may have several.
    turns = [(str(turn["role"]) if len(prompt) > 1 else "prompt", str(turn["content"])) for turn in prompt]
    return RealRow(pair_id, facts, turns, [shown(answer) for answer in used], folds), queries


def why_not(text: str, ended: str, score: float | None, flagged: bool | None, best: float | None, worst: float | None,
            rule: str) -> str:  # fmt: skip
    """Why a candidate is not in the pair, as the builder of pairs decides it."""
    # In the order of `builders.pairs`: the first reason that holds is the one that was counted.
    if ended == "error":
        return "not used: the request failed"
    if ended == "length":
        return "not used: cut off at the limit of tokens"
    if not text.strip(" "):
        return "not used: empty"
    if score is None:
        return "not used: no judgement of it has a score"
    if flagged and best is not None and score >= best:
        return "not used: it seems to speak to the judge, so it may not be chosen"
    if best is not None and worst is not None and worst < score < best:
        return f"not used: its score lies between those of the pair (rule {rule})"
    if score in (best, worst):
        return f"not used: as good as one of the pair, which the rule {rule} took first"
    return f"not used: the rule {rule} did not take it"
