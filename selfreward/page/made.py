"""How the run was made: training curves, what each step took, configuration and versions, and how to make it again."""

from __future__ import annotations

from collections.abc import Iterator

from selfreward.notes import GenerationNotes
from selfreward.page.figures import Panel, Source
from selfreward.page.svg import Series, chart
from selfreward.store.journal import Journal
from selfreward.store.run import is_model
from selfreward.summary.facts import Trained

_METRICS = "SELECT model, counts -> '$.notes.{what}' AS {what} FROM model_versions WHERE model = '{model}'"


def training(source: Source) -> list[Panel]:
    """Loss, rewards, change of log-probability, time and money."""
    figures = [figure for trained in source.summary.trained for figure in _curves(source, trained)]
    if source.summary.trained:
        figures.append(source.figure("Change of log-probability", lambda: _changes(source)))
    return [*figures, source.figure("Time and cost of each step", lambda: _steps(source))]


def _curves(source: Source, trained: Trained) -> Iterator[Panel]:
    metrics, model = trained.notes.metrics or {}, trained.model
    queries, outdated = [_METRICS.format(what="metrics", model=model)], source.outdated(model)
    if metrics.get("curve"):
        points = [(float(step), float(loss)) for step, loss, _ in metrics["curve"]]
        yield Panel(f"Loss of {model}", queries, chart("step", "loss (nats)", [Series("loss", points)]),
                     outdated=outdated)  # fmt: skip
    rewards = metrics.get("reward_curve")
    if rewards:
        accuracy = [(float(entry[0]), float(entry[1])) for entry in rewards]
        margin = [(float(entry[0]), float(entry[2])) for entry in rewards]
        yield Panel(f"Reward accuracy of {model}", queries,
                     chart("step", "pairs ordered right (share)", [Series("accuracy", accuracy)], y_range=(0, 1)),
                     outdated=outdated)  # fmt: skip
        yield Panel(f"Reward margin of {model}", queries,
                     chart("step", "chosen minus rejected (nats)", [Series("margin", margin)]), outdated=outdated)  # fmt: skip
    elif "rewards/margins" in metrics:
        rows = [
            (name.removeprefix("rewards/"), value)
            for name, value in metrics.items()
            if name.startswith("rewards/")
        ]
        yield Panel(f"Rewards of {model}", queries, head=("reward", "mean of the last tenth of the steps"), rows=rows,
                     note="Trained by an earlier release, which did not note them step by step.", outdated=outdated)  # fmt: skip


def _changes(source: Source) -> Panel:
    answers = ("completion", "chosen", "rejected")
    rows = [
        (t.model, *(t.notes.change(answer) for answer in answers), (t.notes.effect or {}).get("rows"),
         (t.notes.metrics or {}).get("steps"), t.notes.seconds)
        for t in source.summary.trained
    ]  # fmt: skip
    query = "SELECT model, counts -> '$.notes.effect' AS effect FROM model_versions ORDER BY ALL"
    return Panel("Change of log-probability", [query],
                  head=("model", "answer", "chosen", "rejected", "rows measured", "steps", "seconds"), rows=rows,
                  note="Mean change in nats of an answer's log-probability, from the start model to the saved weights.",
                  outdated=source.outdated(*(t.model for t in source.summary.trained)))  # fmt: skip


def _steps(source: Source) -> Panel:
    timed = {
        step.name: step.seconds for step in source.report.steps if step.seconds and step.status == "built"
    }
    paid = _paid(source)
    rows = []
    for name, version in source.summary.versions.items():
        counts = version.manifest["counts"]
        notes = counts.get("notes") or {}
        generation = GenerationNotes.read(notes)
        # Only steps built just now were timed; others have training's own time, or their token rate.
        seconds = timed.get(name) or notes.get("seconds")
        if seconds is None and generation.new_tokens and generation.tokens_per_second:
            seconds = generation.new_tokens / generation.tokens_per_second
        lost = ", ".join(f"{reason} {n:,}" for reason, n in counts["dropped"].items() if n)
        rows.append(
            (name, counts["in"], version.n_rows, lost, generation.new_tokens, seconds, paid.get(name))
        )
    queries = [
        "SELECT dataset, iteration, n_rows, counts FROM dataset_versions ORDER BY ALL",
        "SELECT model, n_rows, counts FROM model_versions ORDER BY ALL",
    ]
    note = "Seconds: of the whole step where this page was written by the run that built it, of training, or of generation."
    note += (
        f" Spent on paid servers in this run folder: {source.summary.spent:.4g}."
        if source.summary.spent
        else ""
    )
    head = ("step", "rows in", "rows out", "dropped", "tokens written", "seconds", "spent")
    return Panel("Time and cost of each step", queries, head=head, rows=rows, note=note,
                  outdated=source.outdated(*source.summary.versions))  # fmt: skip


def _paid(source: Source) -> dict[str, float]:
    """Step -> cost on paid servers."""
    path, found, before = source.report.path / ".work" / "costs.jsonl", dict[str, float](), 0.0
    # The ledger's lines are running totals: a step's cost is the difference to the line before.
    for line in Journal(path).units() if path.is_file() else ():
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
    figures = [
        Panel(
            "Versions",
            [datasets] + [models] * any(map(is_model, source.summary.versions)),
            head=head,
            rows=rows,
            outdated=outdated,
        )
    ]
    return [*figures, Panel("Libraries", head=("library", "version"), rows=used)] if used else figures
