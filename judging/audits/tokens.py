"""The rows after the trainer's tokenizer: lengths, doubled begin and end tokens, lost system turns.

The tokenizer is M0's, as the run's configuration names it, and a row is tokenized as in training: messages through the
chat template, once. All rows that may be too long are tokenized (at most `MAX_TOKENISED`, by hash), and a sample of the
short ones, for checks that do not depend on length. Nothing is downloaded: without the tokenizer on this machine these
audits are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.engines.registry import parse_model_string
from selfreward.errors import EngineError, SelfrewardError
from selfreward.judging.audits.data import AuditData, Unavailable
from selfreward.models.folder import token_limit
from selfreward.models.tokenizer import chat_ids, is_doubled, load_tokenizer
from selfreward.text import one_line

if TYPE_CHECKING:
    import pyarrow as pa

MAX_TOKENISED = 20_000
N_SHORT = 200
# Tokens of the template itself that the measured overhead may miss (a system turn's wording, a name).
_SLACK = 64
# A text that no chat template contains by itself.
_MARK = "Zyzzyva only answers in rhyme."

_SIDES = {
    "ift": ("response",),
    "eft": ("target",),
    "pairs": ("chosen", "rejected"),
    "judge_pairs": ("chosen", "rejected"),
}
_PAIRS = ("pairs", "judge_pairs")
_PAIR_BYTES = """SELECT {id} AS id, iteration, list_sum([strlen(m.content) for m in prompt]) + greatest(
            list_sum([strlen(m.content) for m in chosen]), list_sum([strlen(m.content) for m in rejected])) AS n_bytes
        FROM {dataset}"""
_BYTES = {
    "ift": "SELECT ift_id AS id, NULL::BIGINT AS iteration, strlen(prompt) + strlen(response) AS n_bytes FROM ift",
    "eft": """SELECT eft_id AS id, NULL::BIGINT AS iteration, strlen(judge_prompt) + strlen(target) AS n_bytes
        FROM eft WHERE accepted AND split = 'train'""",
    "pairs": _PAIR_BYTES.format(id="pair_id", dataset="pairs"),
    "judge_pairs": _PAIR_BYTES.format(id="judge_pair_id", dataset="judge_pairs"),
}


def token_counts(data: AuditData) -> pa.Table:
    """A row for each training row that may be too long, and for a sample of the others.

    `outcome` is the trainer's treatment: `fits`, `truncated`, `dropped` (the prompt leaves no room). `n_rows` is how
    many rows of that dataset and iteration there are, so that shares can be computed.
    """
    tokenizer = _tokenizer(data)
    overhead = _overhead(tokenizer) + _SLACK
    rows: list[dict[str, Any]] = []
    for dataset in _SIDES:
        limit = _limit(data, dataset)
        for row in _chosen_rows(data, dataset, limit, overhead):
            rows.append({"dataset": dataset, "limit_tokens": limit, **_count(tokenizer, dataset, row, limit)})
    integers = ("iteration", "n_tokens", "n_prompt_tokens", "limit_tokens", "n_rows")
    flags = ("doubled_begin", "doubled_end", "without_end")
    return _table(rows, strings=("dataset", "id", "outcome"), integers=integers, flags=flags)


def template_facts(data: AuditData) -> pa.Table:
    """One row: `model`, `keeps_system` (a system turn's text survives the chat template), `error` if it refuses one."""
    tokenizer = _tokenizer(data)
    messages = [{"role": "system", "content": _MARK}, {"role": "user", "content": "Hello."}]
    try:
        keeps = _MARK in tokenizer.apply_chat_template(messages, tokenize=False)
        refusal = None
    except Exception as error:
        # A chat template is the model author's program and may raise anything.
        keeps, refusal = False, f"{type(error).__name__}: {error}"
    rows = [{"model": data.config.model, "keeps_system": keeps, "error": refusal}]
    return _table(rows, strings=("model", "error"), integers=(), flags=("keeps_system",))


def special_tokens(data: AuditData) -> pa.Table:
    """The tokenizer's special tokens: user text that spells one becomes that token."""
    # One- and two-letter tokens would be found in ordinary text.
    rows = [{"token": token} for token in sorted(set(_tokenizer(data).all_special_tokens)) if len(token) > 2]
    return _table(rows, strings=("token",), integers=(), flags=())


def _tokenizer(data: AuditData) -> Any:
    """M0's tokenizer, loaded once; Unavailable if it is not on this machine or has no chat template."""
    if "tokenizer" not in data.kept:
        try:
            data.kept["tokenizer"] = load_tokenizer(_folder(data))
        except EngineError as error:
            raise Unavailable(str(error)) from error
    return data.kept["tokenizer"]


def _folder(data: AuditData) -> Path:
    """M0's folder on this machine."""
    from selfreward.models.known import hub_name, resolve_model

    model = parse_model_string(data.config.model)
    if model.engine in ("openai", "scripted"):
        raise Unavailable(f"{data.config.model} has no tokenizer here")
    try:
        found = resolve_model(model.target)
    except SelfrewardError as error:
        raise Unavailable(str(error)) from error
    if isinstance(found, Path):
        return found
    import huggingface_hub

    try:
        name, revision = hub_name(found)
        return Path(huggingface_hub.snapshot_download(name, revision=revision, local_files_only=True))
    except (OSError, ValueError) as error:
        raise Unavailable(f"the tokenizer of {data.config.model} is not on this machine") from error


def _limit(data: AuditData, dataset: str) -> int | None:
    """Tokens a row may have: the configured length, else the model's context."""
    config = data.config.dpo if dataset in _PAIRS else data.config.sft
    return token_limit(_folder(data), config.max_length, "max_length")


def _overhead(tokenizer: Any) -> int:
    """Tokens that the template adds to a turn of the user and one of the assistant."""
    return len(_ids(tokenizer, [*_turn("user", "a"), *_turn("assistant", "a")]))


def _ids(tokenizer: Any, messages: list[dict[str, str]], ask: bool = False) -> list[int]:
    try:
        return chat_ids(tokenizer, messages, answering=ask)
    except Exception as error:
        raise Unavailable(
            f"the chat template refuses a row: {type(error).__name__}: {one_line(error)}"
        ) from error


def _chosen_rows(data: AuditData, dataset: str, limit: int | None, overhead: int) -> list[dict[str, Any]]:
    """Rows that may be too long, and a few of the others, with `n_rows` of their dataset and iteration."""
    seed, key = data.config.seed, f"{dataset.removesuffix('s')}_id"
    # Tokenizing takes a third of a millisecond a row. A token covers at least one byte, so a row with fewer
    # bytes than the limit must fit.
    long = "false" if limit is None else f"n_bytes + {overhead} > {limit}"
    data.create(
        "sized", f"SELECT id, iteration, {long} AS long, hash(id, {seed}) AS place FROM ({_BYTES[dataset]})"
    )
    drawn = " UNION ALL ".join(
        f"(SELECT id, iteration FROM sized WHERE long = {is_long} ORDER BY place LIMIT {n})"
        for is_long, n in ((True, MAX_TOKENISED), (False, N_SHORT))
    )
    query = f"""
        SELECT d.*, n_rows, t.* EXCLUDE (iteration) FROM ({drawn}) d
        JOIN (SELECT iteration, count(*) AS n_rows FROM sized GROUP BY iteration) n
            ON n.iteration IS NOT DISTINCT FROM d.iteration
        JOIN {dataset} t ON t.{key} = d.id ORDER BY d.id"""
    rows: list[dict[str, Any]] = data.connection.sql(_existing(query, dataset)).to_arrow_table().to_pylist()
    n_long, n_all = data.count("SELECT 1 FROM sized WHERE long"), data.count("SELECT 1 FROM sized")
    if n_all:
        short = "cannot be longer than the limit" if limit else "have no limit"
        data.notes.append(
            f"tokens of {dataset}: {min(n_long, MAX_TOKENISED):,} of {n_long:,} rows that may be too long, and "
            f"{min(N_SHORT, n_all - n_long):,} of {n_all - n_long:,} that {short}"
        )
    return rows


def _existing(query: str, dataset: str) -> str:
    """ift and eft have no column `iteration` to leave out."""
    return query if dataset in _PAIRS else query.replace("t.* EXCLUDE (iteration)", "t.*")


def _count(tokenizer: Any, dataset: str, row: dict[str, Any], limit: int | None) -> dict[str, Any]:
    is_pair = dataset in _PAIRS
    prompt = (
        row["prompt"] if is_pair else _turn("user", row["judge_prompt" if dataset == "eft" else "prompt"])
    )
    answers = [row[side] if is_pair else _turn("assistant", row[side]) for side in _SIDES[dataset]]
    n_prompt = len(_ids(tokenizer, prompt, ask=True))
    sides = [_ids(tokenizer, prompt + answer) for answer in answers]
    longest = max(map(len, sides))
    outcome = "fits" if limit is None or longest <= limit else "dropped" if n_prompt >= limit else "truncated"
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    return {
        "id": row["id"],
        "iteration": row["iteration"],
        "n_rows": row["n_rows"],
        "n_tokens": longest,
        "n_prompt_tokens": n_prompt,
        "outcome": outcome,
        "doubled_begin": any(is_doubled(side, bos) for side in sides),
        # The answer only: many templates end the user's turn with the same token.
        "doubled_end": any(is_doubled(side[n_prompt:], eos) for side in sides),
        "without_end": any(eos not in side[n_prompt:] for side in sides),
    }


def _turn(role: str, text: str | None) -> list[dict[str, str]]:
    return [{"role": role, "content": text or ""}]


def _table(
    rows: list[dict[str, Any]], strings: tuple[str, ...], integers: tuple[str, ...], flags: tuple[str, ...]
) -> pa.Table:
    import pyarrow as pa

    kinds = [
        *((s, pa.string()) for s in strings),
        *((i, pa.int64()) for i in integers),
        *((f, pa.bool_()) for f in flags),
    ]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))
