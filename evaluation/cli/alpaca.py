"""`selfreward evaluate alpaca` and `leaderboard`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.options import (
    Engine,
    JudgeConfiguration,
    JudgeEngine,
    MaxCost,
    MaxTokens,
    NMax,
    RunOption,
    terms,
)
from selfreward.text import printable

if TYPE_CHECKING:
    from selfreward.evaluation.alpaca.result import AlpacaResult


Board = Annotated[
    Path | None,
    typer.Option("--leaderboard", metavar="FILE", help="Another leaderboard (csv) than the snapshot."),
]
Sort = Annotated[str, typer.Option(help="Column of the leaderboard to sort by.")]


def alpaca(
    reference: Annotated[
        Path, typer.Option(help="Prompts with reference answers, in AlpacaEval's format (.gz is fine).")
    ],
    outputs: Annotated[Path | None, typer.Option(help="A model's answers (model_outputs.json).")] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="MODEL", help="Or a model that answers them now: hf:…, M2"),
    ] = None,
    model_name: Annotated[str | None, typer.Option(help="What to call the model on the leaderboard.")] = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Verdicts that exist already; without them --judge is needed.")
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", metavar="MODEL", help="The model that compares the answers.")
    ] = None,
    annotator: JudgeConfiguration = None,
    both_orders: Annotated[bool, typer.Option(help="Judge each pair in both orders.")] = False,
    judge_constant: Annotated[
        bool, typer.Option(help="Have a constant answer judged as well: as many verdicts again.")
    ] = False,
    difficulty: Annotated[
        Path | None, typer.Option(help="Instruction difficulties (csv) for length control.")
    ] = None,
    gamed: Annotated[
        Path | None, typer.Option(help="df_gamed.csv from the Hub, for length_controlled_v1.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for model_outputs.json, annotations.json and the journal."),
    ] = None,
    run: RunOption = None,
    n_max: NMax = None,
    max_tokens: MaxTokens = 1024,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    engine: Engine = None,
    judge_engine: JudgeEngine = None,
    max_cost: MaxCost = None,
    strict: Annotated[bool, typer.Option(help="Missing, empty or lost rows are an error.")] = False,
    board: Board = None,
    sort: Sort = "length_controlled_winrate",
    as_json: Json = False,
) -> None:
    """AlpacaEval's figures.  Example: selfreward evaluate alpaca --reference r.json --outputs o.json --annotations a.json"""
    from selfreward.errors import UsageError
    from selfreward.evaluation.alpaca.run import DEFAULT_ANNOTATOR, AlpacaJob, run_alpaca, summarise_run
    from selfreward.evaluation.alpaca.score import evaluate_files
    from selfreward.evaluation.ask.answers import Models

    if (outputs is None) == (model is None):
        raise UsageError("evaluate alpaca: expected either --outputs FILE or --model MODEL")
    models = Models(run)
    if annotations is not None:
        if outputs is None or judge is not None or n_max is not None:
            raise UsageError(
                "evaluate alpaca: --annotations are verdicts on the answers of a file: give --outputs FILE, without "
                "--model, --judge or --n-max"
            )
        result = evaluate_files(
            outputs, reference, annotations, difficulty, gamed, strict, model_name, annotator
        )
        rows_file = annotations
    else:
        if judge is None or out is None:
            raise UsageError(
                "evaluate alpaca: expected --annotations FILE, or a judge and a folder: --judge MODEL --out DIR"
            )
        job = AlpacaJob(
            reference=reference,
            judge_model=judge,
            out=out,
            model=model,
            outputs=outputs,
            annotator=annotator or DEFAULT_ANNOTATOR,
            both_orders=both_orders,
            n_max=n_max,
            max_tokens=max_tokens,
            temperature=temperature,
            model_name=model_name,
            judge_constant=judge_constant,
            models=models,
            terms=terms(engine, max_cost),
            judge_terms=terms(judge_engine, max_cost),
        )
        files = run_alpaca(job)
        result, rows_file = summarise_run(files, difficulty, gamed, strict), files.annotations
    if models.run is not None:
        from selfreward.evaluation.alpaca.tables import publish_alpaca

        publish_alpaca(models.run, result, rows_file)
    _print(result, board, sort, as_json)


def _print(result: AlpacaResult, board: Path | None, sort: str, as_json: bool) -> None:
    from selfreward.evaluation.alpaca.leaderboard import (
        PUBLISHED_ANNOTATOR,
        PUBLISHED_REFERENCE,
        format_leaderboard,
    )
    from selfreward.evaluation.alpaca.leaderboard import leaderboard as read
    from selfreward.evaluation.alpaca.result import format_result

    if as_json:
        print_json(result.to_dict())
        return
    print(printable(format_result(result)))
    comparable = (result.annotator, result.reference) == (PUBLISHED_ANNOTATOR, PUBLISHED_REFERENCE)
    if board is None and not comparable:
        print(
            f"\nNo leaderboard beside it: that is judged by {PUBLISHED_ANNOTATOR} against {PUBLISHED_REFERENCE}, this "
            f"by {result.annotator or 'an unnamed judge'} against {result.reference or 'an unnamed reference'}. Show one "
            "with --leaderboard FILE."
        )
        return
    mine = {key: value for key, value in result.to_dict().items() if key in _BOARD_COLUMNS}
    mine["n_total"] = result.n_annotated  # the leaderboard counts only what was annotated
    print(printable("\n" + format_leaderboard(read(board), sort, 20, {result.model: mine})))


_BOARD_COLUMNS = (
    "win_rate",
    "standard_error",
    "length_controlled_winrate",
    "avg_length",
    "discrete_win_rate",
)


def leaderboard(
    file: Board = None,
    sort: Sort = "length_controlled_winrate",
    n: Annotated[int, typer.Option("-n", min=1, help="Rows to show.")] = 20,
    as_json: Json = False,
) -> None:
    """The AlpacaEval leaderboard snapshot, with its date and hash.  Example: selfreward evaluate leaderboard --sort win_rate"""
    from selfreward.evaluation.alpaca.leaderboard import format_leaderboard
    from selfreward.evaluation.alpaca.leaderboard import leaderboard as read

    board = read(file)
    if as_json:
        rows = [{"model": name, **row} for name, row in board.sorted_by(sort)]
        print_json({"source": board.source, "date": board.date, "sha256": board.sha256, "rows": rows[:n]})
    else:
        print(format_leaderboard(board, sort, n))
