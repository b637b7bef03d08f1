"""`selfreward evaluate human-export` and `human-import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from selfreward.cli.output import Json, print_json
from selfreward.evaluation.cli.compare import ModelA, ModelB, PromptsFile, Temperature, prompts_of
from selfreward.evaluation.cli.options import Engine, MaxCost, MaxTokens, Out, RunOption, terms


def human_export(
    a: ModelA,
    b: ModelB,
    out: Out,
    prompts: PromptsFile = None,
    run: RunOption = None,
    n: Annotated[int, typer.Option("--n", min=1, help="Prompts on each sheet.")] = 50,
    annotators: Annotated[int, typer.Option(min=1, help="People, one sheet each.")] = 3,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw, the order and the sides.")] = 0,
    max_tokens: MaxTokens = 1024,
    temperature: Temperature = 0.0,
    engine: Engine = None,
    max_cost: MaxCost = None,
    as_json: Json = False,
) -> None:
    """Write blind sheets for people.  Example: selfreward evaluate human-export --run runs/x --a M2 --b M1 --out people"""
    from selfreward.engines.base import Sampling
    from selfreward.evaluation.ask.answers import GREEDY, Models, answers_of
    from selfreward.evaluation.pairwise.human_sheet import export_sheets
    from selfreward.store import durable, lock

    models = Models(run)
    chosen = prompts_of(prompts, models, n)  # drawn before anything is answered
    sampling = Sampling(temperature, GREEDY.top_p, max_tokens)
    with lock.hold(durable.make_folder(out), "selfreward evaluate human-export"):
        answers = [
            answers_of(side, chosen, models, out, terms(engine, max_cost), sampling) for side in (a, b)
        ]
        sheets = export_sheets(answers[0], answers[1], out, n, annotators, seed)
    left_out = {"not_drawn": chosen.n_in_source - len(chosen.texts), **sheets.key.left_out}
    written = {
        "sheets": [str(path) for path in sheets.paths],
        "key": str(sheets.key_path),
        "prompts": len(sheets.key.prompts),
        "left_out": left_out,
    }
    if as_json:
        print_json(written)
        return
    words = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
    print(f"{written['prompts']} prompts" + (f" (left out: {words})" if words else ""))
    print("\n".join(f"{path}: for one annotator" for path in sheets.paths))
    print(f"{sheets.key_path}: says whose answer is whose; keep it from the annotators")


def human_import(
    sheets: Annotated[list[Path], typer.Argument(metavar="SHEET…", help="The filled sheets (csv).")],
    key: Annotated[Path, typer.Option("--key", help="The key.json that human-export wrote.")],
    run: RunOption = None,
    as_json: Json = False,
) -> None:
    """Read filled sheets: majority and agreement.  Example: selfreward evaluate human-import --key people/key.json people/sheet-*.csv"""
    from selfreward.evaluation.pairwise.human_result import format_human, publish_human, read_sheets
    from selfreward.evaluation.pairwise.human_sheet import read_key
    from selfreward.store.run import Run

    result = read_sheets(read_key(key), sheets)
    if run is not None:
        publish_human(Run(run), result)
    if as_json:
        print_json(result.to_dict())
    else:
        print(format_human(result))
