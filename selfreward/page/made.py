"""How the run was made: training curves, what each step took, configuration and versions, and how to make it again."""

from __future__ import annotations

from collections.abc import Iterator

from selfreward.notes import GenerationNotes
from selfreward.page.figures import Panel, Source
from selfreward.page.svg import Chart, Series
from selfreward.store.journal import Journal
from selfreward.store.run import is_model
from selfreward.summary.facts import Trained

_STEPS = (
    "SELECT {columns} FROM (SELECT unnest((counts -> '$.notes.metrics.{what}')::DOUBLE[][]) AS c FROM model_versions "
    "WHERE model = '{model}')"
)
_METRICS = "SELECT model, counts -> '$.notes.metrics' AS metrics FROM model_versions WHERE model = '{model}'"


def training(source: Source) -> list[Panel]:
    """Loss, rewards, change of log-probability, time and money."""
    figures = [figure for trained in source.summary.trained for figure in _curves(source, trained)]
    if source.summary.trained:
        figures.append(source.figure("changes", "Change of log-probability", lambda: _changes(source)))
    return [*figures, source.figure("steps", "Time and cost of each step", lambda: _steps(source))]


def _curves(source: Source, trained: Trained) -> Iterator[Panel]:
    metrics, model = trained.notes.metrics or {}, trained.model
    outdated = source.outdated(model)

    def curve(id: str, title: str, y: str, label: str, what: str, column: int, whole: bool = False) -> Panel:
        points = [(float(entry[0]), float(entry[column])) for entry in metrics[what]]
        query = _STEPS.format(columns=f"c[1] AS step, c[{column + 1}] AS {label}", what=what, model=model)
        chart = Chart("step", y, [Series(label, points)], y_range=(0, 1) if whole else None)
        return Panel(f"{model}-{id}", f"{title} of {model}", [query], chart, outdated=outdated)

    if metrics.get("curve"):
        yield curve("loss", "Loss", "loss (nats)", "loss", "curve", 1)
    if metrics.get("reward_curve"):
        yield curve(
            "accuracy",
            "Reward accuracy",
            "pairs ordered right (share)",
            "accuracy",
            "reward_curve",
            1,
            whole=True,
        )
        yield curve("margin", "Reward margin", "chosen minus rejected (nats)", "margin", "reward_curve", 2)
    elif "rewards/margins" in metrics:
        rows = [
            (name.removeprefix("rewards/"), value)
            for name, value in metrics.items()
            if name.startswith("rewards/")
        ]
        yield Panel(f"{model}-rewards", f"Rewards of {model}", [_METRICS.format(model=model)],
                     head=("reward", "mean of the last tenth of the steps"), rows=rows,
                     note="Trained by an earlier release, which did not note them step by step.", outdated=outdated)  # fmt: skip


def _changes(source: Source) -> Panel:
    answers = ("completion", "chosen", "rejected")
    rows = [
        (t.model, *(t.notes.change(answer) for answer in answers), (t.notes.effect or {}).get("rows"),
         (t.notes.metrics or {}).get("steps"), t.notes.seconds)
        for t in source.summary.trained
    ]  # fmt: skip
    changes = ", ".join(f"(counts ->> '$.notes.effect.{name}.change')::DOUBLE AS {name}" for name in answers)
    query = (
        f"SELECT model, {changes}, counts -> '$.notes.effect.rows' AS rows_measured, counts -> '$.notes.metrics.steps' AS steps, "
        "counts -> '$.notes.seconds' AS seconds FROM model_versions ORDER BY ALL"
    )
    # Without pairs there is one kind of answer, and the table says it.
    changed = [
        (t.model, t.notes.change("chosen"), t.notes.change("rejected")) for t in source.summary.trained
    ]
    compared = [
        (model, {"chosen": c, "rejected": r}) for model, c, r in changed if c is not None and r is not None
    ]
    series = [
        Series(label, [(float(k), values[label]) for k, (_, values) in enumerate(compared)], "bars")
        for label in ("chosen", "rejected")
    ]
    names = [model for model, _ in compared]
    chart = Chart("model", "mean change (nats)", series, names, bar_width=0.6) if compared else None
    return Panel("changes", "Change of log-probability", [query], chart,
                  ("model", "answer", "chosen", "rejected", "rows measured", "steps", "seconds"), rows,
                  "Mean change in nats of an answer's log-probability, from the start model to the saved weights. Preference "
                  "training should raise chosen above rejected; often both fall.",
                  source.outdated(*(t.model for t in source.summary.trained)))  # fmt: skip


def _steps(source: Source) -> Panel:
    paid = _paid(source)
    rows = []
    for name, version in source.summary.versions.items():
        counts = version.manifest["counts"]
        notes = counts.get("notes") or {}
        generation = GenerationNotes.read(notes)
        # Only steps built just now were timed; others have training's own time, or their token rate.
        seconds = source.seconds.get(name) or notes.get("seconds")
        if seconds is None and generation.new_tokens and generation.tokens_per_second:
            seconds = generation.new_tokens / generation.tokens_per_second
        lost = ", ".join(f"{reason} {n:,}" for reason, n in counts["dropped"].items() if n)
        row = (name, counts["in"], version.n_rows, lost, generation.new_tokens, seconds)
        rows.append((*row, paid.get(name)) if paid else row)
    columns = (
        "n_rows, counts -> '$.in' AS rows_in, counts -> '$.dropped' AS dropped, counts -> '$.notes.new_tokens' AS tokens, "
        "coalesce((counts ->> '$.notes.seconds')::DOUBLE, "
        "(counts ->> '$.notes.new_tokens')::DOUBLE / (counts ->> '$.notes.tokens_per_second')::DOUBLE) AS seconds"
    )
    queries = [
        f"SELECT dataset, iteration, {columns} FROM dataset_versions ORDER BY created",
        f"SELECT model, {columns} FROM model_versions ORDER BY created",
    ]
    note = "Seconds: of the whole step where this page was written by the run that built it, of training, or of generation."
    note += f" Spent on paid servers in this run folder: {source.summary.spent:.4g}." if paid else ""
    head = ("step", "rows in", "rows out", "dropped", "tokens written", "seconds", *["spent"] * bool(paid))
    return Panel("steps", "Time and cost of each step", queries, head=head, rows=rows, note=note,
                  outdated=source.outdated(*source.summary.versions))  # fmt: skip


def _paid(source: Source) -> dict[str, float]:
    """Step -> cost on paid servers; nothing in a published copy, since no version holds it."""
    path = source.told.folder / ".work" / "costs.jsonl" if source.told.folder else None
    found: dict[str, float] = {}
    before = 0.0
    # The ledger's lines are running totals: a step's cost is the difference to the line before.
    for line in Journal(path).units() if path and path.is_file() else ():
        found[str(line["stage"])] = found.get(str(line["stage"]), 0.0) + float(line["spent"]) - before
        before = float(line["spent"])
    return found


def versions(source: Source) -> list[Panel]:
    """The current versions, and the libraries they were built with."""
    rows = [
        (name, version.version, version.content_sha256[:12], version.n_rows, version.manifest["created"],
         version.manifest["builder"]) for name, version in source.summary.versions.items()
    ]  # fmt: skip
    datasets = "SELECT dataset, iteration, version, content_sha256, n_rows, created, builder FROM dataset_versions ORDER BY created"
    models = (
        "SELECT model, version, content_sha256, n_rows, created, builder FROM model_versions ORDER BY created"
    )
    head = ("name", "version", "content", "rows", "made", "by")
    # Steps may be built weeks apart with different libraries, so all versions are shown.
    libraries: dict[str, set[str]] = {}
    for version in source.summary.versions.values():
        for name, number in (version.manifest.get("versions") or {}).items():
            libraries.setdefault(name, set()).add(str(number))
    used = [(name, ", ".join(sorted(numbers))) for name, numbers in libraries.items()]
    outdated = source.outdated(*source.summary.versions)
    queries = [datasets] + [models] * any(map(is_model, source.summary.versions))
    figures = [Panel("versions", "Versions", queries, head=head, rows=rows, outdated=outdated)]
    # Of the manifests, which no view shows whole.
    return (
        [*figures, Panel("libraries", "Libraries", head=("library", "version"), rows=used)]
        if used
        else figures
    )
