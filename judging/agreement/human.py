"""Human preferences as rows: PandaLM's test set with its three annotators, and any table of chosen and rejected.

`pair_rows` and `preference_rows` give the rows that `judging.agreement.agreement` measures, once a judge scored them;
`selfreward.judging.parsing.verdicts` (its functions can be imported from here) compares verdicts with verdicts.

Promised: nothing is dropped; a three-way split of annotators and two equal texts are ties, and are counted.
Not promised: judging; the rows go through the same judge as any candidate.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError
from selfreward.judging.parsing.verdicts import (
    VERDICTS,
    AnnotatorAgreement,
    PositionFlips,
    Verdict,
    VerdictAgreement,
    annotator_agreement,
    has_majority,
    majority_verdict,
    position_flips,
    verdict_agreement,
    verdicts_from_scores,
)
from selfreward.reading.files import read_rows
from selfreward.tables import row_id

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

__all__ = [
    "ANNOTATORS",
    "VERDICTS",
    "AnnotatorAgreement",
    "PositionFlips",
    "Verdict",
    "VerdictAgreement",
    "annotator_agreement",
    "has_majority",
    "majority_verdict",
    "pair_rows",
    "position_flips",
    "preference_rows",
    "read_pandalm",
    "verdict_agreement",
    "verdicts_from_scores",
]

ANNOTATORS = ("annotator1", "annotator2", "annotator3")


def read_pandalm(path: str | Path) -> pd.DataFrame:
    """PandaLM's human-annotated test set (WeOpenML/PandaLM, testset-v1.json, also .gz), one row per pair.

    Columns: `pair_id`, `prompt` (instruction, a blank line and the input if there is one), `response_1`,
    `response_2`, `model_1`, `model_2`, the three annotators, `majority`, `has_majority`. Raises InputError.
    """
    import pandas as pd

    name = Path(path).name
    rows = [_pandalm_row(pair, f"{name}, row {number}") for number, pair in read_rows(Path(path), name)]
    first: dict[str, int] = {}
    for number, row in enumerate(rows, start=1):
        if first.setdefault(row["pair_id"], number) != number:
            before = first[row["pair_id"]]
            raise InputError(
                f"{name}, row {number}, column idx: {row['pair_id']} stands in row {before} already."
            )
    return pd.DataFrame(rows)


def pair_rows(pairs: pd.DataFrame) -> pd.DataFrame:
    """Pairs with `majority` as rows for a pointwise judge: two per pair, `human_rank` 0 and 1, or 0 and 0 for a tie.

    The first response's row comes first; `response_id` is `<pair_id>-1` and `-2`; `verdicts` are the
    annotators' own.
    """
    import pandas as pd

    rows = []
    for pair in pairs.to_dict("records"):
        for side in (1, 2):
            lost = pair["majority"] == 3 - side
            rows.append(
                {
                    "prompt_id": pair["pair_id"],
                    "response_id": f"{pair['pair_id']}-{side}",
                    "prompt": pair["prompt"],
                    "response": pair[f"response_{side}"],
                    "human_rank": int(lost),
                    "verdicts": [pair[annotator] for annotator in ANNOTATORS],
                }
            )
    return pd.DataFrame(rows)


def preference_rows(
    table: pd.DataFrame | pa.Table,
    *,
    prompt: str = "prompt",
    chosen: str = "chosen",
    rejected: str = "rejected",
) -> pd.DataFrame:
    """A table of chosen and rejected responses as rating rows: two per preference, `human_rank` 0 and 1.

    Cells are text or message lists; the last message of a list is the response, and if the table has no prompt
    column, the messages before it are the prompt. A prompt of several messages becomes labeled turns.
    """
    import pandas as pd

    columns = table.to_dict("list") if isinstance(table, pd.DataFrame) else table.to_pydict()
    for name in (chosen, rejected):
        if name not in columns:
            raise InputError(
                f"The table has no column {name}; it has: {', '.join(map(str, columns)) or 'none'}."
            )
    rows = []
    for number, (won, lost) in enumerate(zip(columns[chosen], columns[rejected], strict=True), start=1):
        given = (
            columns[prompt][number - 1]
            if prompt in columns
            else _messages_before(won, number, chosen, prompt)
        )
        text = _turns(given, number, prompt)
        responses = (_last_text(won, number, chosen), _last_text(lost, number, rejected))
        # With the row number: a prompt that occurs twice is two comparisons, whose ranks must not mix.
        prompt_id = row_id("h", number, text)
        for rank, (side, response) in enumerate(zip(("chosen", "rejected"), responses, strict=True)):
            # The same text twice is no preference: measured as tied by people.
            human_rank = 0 if responses[0] == responses[1] else rank
            identity = {"prompt_id": prompt_id, "response_id": f"{prompt_id}-{side}"}
            rows.append({**identity, "prompt": text, "response": response, "human_rank": human_rank})
    return pd.DataFrame(rows)


def _pandalm_row(pair: Any, place: str) -> dict[str, Any]:
    texts = ("instruction", "input", "response1", "response2", "cmp_key")
    absent = [key for key in ("idx", *texts, *ANNOTATORS) if not isinstance(pair, dict) or key not in pair]
    if absent:
        raise InputError(f"{place} has no {absent[0]}, which each pair of PandaLM's test set has.")
    for column in texts:
        if not isinstance(pair[column], str | int | float):
            raise InputError(f"{place}, column {column}: found {pair[column]!r:.60} where text was expected.")
    for column in ANNOTATORS:
        if isinstance(pair[column], bool) or pair[column] not in VERDICTS:
            raise InputError(
                f"{place}, column {column}: found {pair[column]!r:.60}; a verdict is 0 (tie), 1 or 2."
            )
    verdicts = [int(pair[column]) for column in ANNOTATORS]
    model_1, _, model_2 = str(pair["cmp_key"]).partition("_")
    return {
        "pair_id": str(pair["idx"]),
        "prompt": "\n\n".join(filter(None, (str(pair["instruction"]), str(pair["input"])))),
        # Six answers "True" are JSON booleans in the published file; the model wrote the word.
        "response_1": str(pair["response1"]),
        "response_2": str(pair["response2"]),
        "model_1": model_1,
        "model_2": model_2,
        **dict(zip(ANNOTATORS, verdicts, strict=True)),
        "majority": majority_verdict(verdicts),
        "has_majority": has_majority(verdicts),
    }


def _is_messages(cell: Any) -> bool:
    return isinstance(cell, list) and bool(cell) and all(isinstance(m, dict) and "content" in m for m in cell)


def _last_text(cell: Any, row: int, column: str) -> str:
    text = cell[-1]["content"] if _is_messages(cell) else cell
    if not isinstance(text, str):
        raise InputError(
            f"Row {row}, column {column}: found {cell!r:.60} where text or a list of messages was expected."
        )
    return text


def _messages_before(cell: Any, row: int, column: str, prompt: str) -> Any:
    if not _is_messages(cell) or len(cell) < 2:
        raise InputError(
            f"Row {row}, column {column}: the table has no column {prompt}, and {cell!r:.60} is not a list of messages "
            f"that starts with it."
        )
    return cell[:-1]


def _turns(cell: Any, row: int, column: str) -> str:
    if not _is_messages(cell) or len(cell) == 1:
        return _last_text(cell, row, column)
    return "\n\n".join(
        f"{message.get('role', 'user').capitalize()}: {message['content']}" for message in cell
    )
