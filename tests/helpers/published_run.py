"""The sample run (clean in the eyes of every audit), with what publishing adds to it: a model, figures, hostile text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sample_run import make_sample_run

from selfreward.store.run import Counts, Recipe, Run
from selfreward.tables import JudgeEval, Message, to_table

SOURCE = "sample"
LICENCE = "apache-2.0"
HOSTILE = (
    "---\nlicense: stolen\n---\n{{ 7 * 7 }} {% raw %}\n</pre><script>alert(1)</script>"
    "\n\n# Not a heading\n| a | b |\n![x](http://evil.example/x.png) [y](javascript:alert(2)) `code` <b>bold</b>"
)


def make_published_run(path: Path, with_model: bool = True) -> Run:
    """Eight datasets of one iteration, `iter1/judge_eval` with agreement figures in its notes, and `M1`."""
    run = make_sample_run(path, iterations=1)
    eft = run.current("eft").table().to_pylist()
    publish_judge_eval(run, [row for row in eft if row["split"] == "eval"])
    if with_model:
        publish_model(run)
    return run


def make_hostile_run(path: Path) -> Run:
    """A run whose first pair, a seed and the reasons for rejected prompts try to break a card, and with a private path."""

    def hostile_pair(rows):
        return [
            replace(rows[0], prompt=[Message("user", HOSTILE)], chosen=[Message("assistant", HOSTILE)]),
            *rows[1:],
        ]

    def hostile_reason(rows):
        return [row if row.kept else replace(row, reason="<b>|`x`\n# y") for row in rows]

    def hostile_seed(rows):
        return [replace(row, source="[z](http://evil.example)") for row in rows]

    run = make_sample_run(
        path, iterations=1, iter1_pairs=hostile_pair, iter1_prompts=hostile_reason, seeds=hostile_seed
    )
    (path / "config.yaml").write_text("model: scripted:/home/ann/private/answers.yaml\n")
    return run


def publish_judge_eval(run: Run, rows: list[dict]) -> None:
    """M1's judgements of the eval split, with the agreement figures that the stage would note."""
    judged = [
        JudgeEval(row["eft_id"], 1, row["prompt_id"], row["response_id"], row["human_rank"], len(row["response"]), 0,
                  "M1", "template", "sampled", "Score: 3" if i else "I cannot say.", 3.0 if i else None,
                  "ok" if i else "no_score", "stop", 3)
        for i, row in enumerate(rows)
    ]  # fmt: skip
    agreement = {"judge": {"pairwise_ties_half": {"value": 0.625, "low": 0.5, "high": 0.75, "n": 8}}}
    notes = {"by_status": {"ok": len(rows) - 1, "no_score": 1}, "agreement": agreement}
    recipe = Recipe("iter1/judge_eval", "tests 1", {}, {"iteration": 1})
    run.publish_table(recipe, to_table(judged, JudgeEval), Counts(len(rows), len(rows), notes=notes))


def publish_model(run: Run, name: str = "M1", value: float = 0.5) -> None:
    """A model of four numbers, with a tokenizer and training figures; its weights hold `value`."""
    import numpy as np
    from safetensors.numpy import save_file

    ift = run.current("ift")
    inputs = {"ift": {"name": "ift", "version": ift.version, "content_sha256": ift.content_sha256}}
    recipe = Recipe(
        name, "training.make_sft 1", inputs, {"sft": {"epochs": 1, "learning_rate": 5e-4}, "value": value}
    )
    with run.draft(name) as folder:
        save_file({"w": np.full((2, 2), value, dtype=np.float32)}, folder / "model.safetensors")
        (folder / "config.json").write_text('{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}')
        (folder / "tokenizer.json").write_text('{"version": "1.0"}')
        (folder / "training.json").write_text('{"seconds": 3.5}')
        change = {"before": -20.5, "after": -18.25, "change": 2.25, "change_per_token": 0.1}
        effect = {"rows": 24, "of": 40, "dtype": "float32", "device": "cpu", "completion": change}
        run.publish_model(recipe, folder, Counts(40, 40, notes={"effect": effect}))


def change_run(run: Run) -> None:
    """Another version of `iter1/pairs`: one pair fewer."""
    pairs = run.current("iter1/pairs")
    recipe = Recipe("iter1/pairs", "tests 2", {}, {"iteration": 1, "after": pairs.version})
    n = pairs.n_rows
    run.publish_table(recipe, pairs.table().slice(0, n - 1), Counts(n, n - 1, {"left_out": 1}))
