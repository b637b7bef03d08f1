"""Options that several `evaluate` commands share, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from selfreward.evaluation.ask.requests import Terms

RunOption = Annotated[
    Path | None,
    typer.Option(
        "--run", metavar="RUN", help="A run folder: its models (M1, SFT, …) and a place for results."
    ),
]
Judge = Annotated[
    str, typer.Option("--judge", metavar="MODEL", help="The judge: hf:NAME_OR_PATH, openai:URL#MODEL, …")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the files and the journal.")]
NMax = Annotated[
    int | None, typer.Option(min=1, help="Only this many prompts: a fixed draw, not the first ones.")
]
MaxTokens = Annotated[int, typer.Option(min=1, help="New tokens of an answer.")]
Engine = Annotated[
    list[str] | None,
    typer.Option(
        "--engine", metavar="KEY=VALUE", help="Engine of the answering models: batch_size=8, dtype=float32, …"
    ),
]
JudgeEngine = Annotated[
    list[str] | None,
    typer.Option(
        "--judge-engine", metavar="KEY=VALUE", help="Engine of the judge: price_per_million_in=2.5, …"
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option(
        "--max-cost", min=0, help="Most to spend on priced servers from this folder, in the prices' currency."
    ),
]
JudgeConfiguration = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="selfreward_weighted (default), selfreward_pairwise (text), one of alpaca-eval's, or a folder.",
    ),
]


def terms(engine: list[str] | None, max_cost: float | None) -> Terms:
    """The terms of one model."""
    from selfreward.engines.registry import engine_options
    from selfreward.evaluation.ask.requests import Terms

    return Terms(engine_options(engine or []), max_cost)
