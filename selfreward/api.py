"""The Python interface: a run in a notebook, and the judge and the agreement measures without a run.

    run = selfreward.open_run("runs/demo")
    run["iter1/pairs"]                        # a datasets.Dataset; .table() Arrow, .df() pandas
    run.judgements_of(run.df("iter1/pairs")["chosen_id"][0])
    selfreward.agreement(selfreward.judge(rows, model="hf:runs/demo/models/M1"))

A thin layer over the code of the commands, with the same errors (`selfreward.errors`). Every read is of
the versions current at that moment, verified against their hashes.
"""

from __future__ import annotations

import importlib
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from selfreward.errors import UsageError
from selfreward.store.run import Run, is_model
from selfreward.text import format_table

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from datasets import Dataset

    from selfreward.config.run import RunConfig
    from selfreward.judging.agreement.agreement import Agreement
    from selfreward.judging.audits.runner import AuditReport
    from selfreward.sql.diff import Diff
    from selfreward.sql.lineage import Node
    from selfreward.sql.views import OpenRun

Rows = TypeVar("Rows", list[dict[str, Any]], "pd.DataFrame")
_HEAD = ("name", "rows", "version", "versions", "made by")


def open_run(path: Path | str) -> OpenedRun:
    """Open a run folder for reading only. Raises UsageError unless it is a run folder."""
    return OpenedRun(path)


def run(
    config: RunConfig | Mapping[str, Any] | Path | str,
    folder: Path | str | None = None,
    *,
    until: str | None = None,
    settings: Sequence[str] = (),
    trust: bool = False,
) -> OpenedRun:
    """Run the whole loop as `selfreward run` does, or resume it, and open the run.

    `config` is a file, its values, or a `RunConfig`; `settings` are overrides of a file's, such as
    "judging.samples=1". Errors of steps propagate; after Ctrl-C (KeyboardInterrupt) the same call resumes.
    """
    from selfreward.config.files import check_config, load_config
    from selfreward.config.run import RunConfig
    from selfreward.page.write import write_page
    from selfreward.steps.pipeline import run_pipeline
    from selfreward.steps.signals import Interrupted
    from selfreward.steps.trust import require_trust
    from selfreward.summary.report import report_run

    if isinstance(config, Path | str):
        resolved = load_config(Path(config), list(settings))
        # A file may come from a stranger; values given in code are the caller's own.
        require_trust(Path(config), resolved, trust)
    elif settings:
        raise UsageError("run: `settings` override a file's values; change the values that you give instead")
    else:
        resolved = config if isinstance(config, RunConfig) else check_config(dict(config), "config")
    path, started = Path(folder or resolved.run), time.monotonic()
    try:
        steps = run_pipeline(resolved, path, until)
    # Notebooks and scripts expect Python's own exception for Ctrl-C.
    except Interrupted as stop:
        raise KeyboardInterrupt from stop
    write_page(report_run(path, steps, time.monotonic() - started))
    return OpenedRun(path)


def judge(
    rows: Rows,
    model: str,
    *,
    template: str = "additive",
    samples: int = 3,
    seed: int = 0,
    engine: Sequence[str] = (),
    **settings: Any,
) -> Rows:
    """Judge each row's `response` to its `prompt`; the rows again, with `score`, `scores`, `statuses`, `judgements`, …

    `score` is the mean of the judgements that have one, None without any. `settings` are those of the section
    `judging` (docs/settings.md): mode, justify, temperature, max_tokens, …; `engine` as for `judge score`.
    """
    from selfreward.engines.registry import engine_options

    records = rows if isinstance(rows, list) else rows.to_dict("records")
    options = engine_options(list(engine)) if engine else None
    files = _stage("selfreward.judging.judge.files")
    files.check_records(records, "rows")
    judge_template = files.load_template(template)
    judging = files.template_settings(judge_template, samples=samples, **settings)
    judged: list[dict[str, Any]]
    with tempfile.TemporaryDirectory() as work:
        judged, _ = files.judge_records(
            records, model, judge_template, judging, seed, options, Path(work, "judge"), "judge"
        )
    return judged if isinstance(rows, list) else type(rows)(judged, index=rows.index)


def agreement(rows: list[dict[str, Any]] | pd.DataFrame | pa.Table, **options: Any) -> Agreement:
    """Agreement of scores with humans, from `prompt_id`, `human_rank` (0 best) or `human_score`, and `score`.

    Options: n_bootstrap, seed, perfect_score. `print` shows the table of `selfreward judge agreement`. InputError names
    the first bad cell.
    """
    import pandas as pd

    table = pd.DataFrame(rows) if isinstance(rows, list) else rows
    measured: Agreement = _stage("selfreward.judging.agreement.agreement").measure_agreement(table, **options)
    return measured


def sent_prompt(run: Run, judgement_id: str, **options: Any) -> str:
    """The prompt that a judge was sent for a stored judgement; InputError if it cannot be made again exactly."""
    return str(_stage("selfreward.judging.prompts.sent").sent_prompt(run, judgement_id, **options))


class OpenedRun:
    """A run folder: a mapping from dataset names (`iter1/pairs`) to `datasets.Dataset`s, with queries."""

    def __init__(self, path: Path | str) -> None:
        self._run = Run(path)
        self.folder = self._run.path
        self._views: tuple[list[str], OpenRun] | None = None

    @property
    def datasets(self) -> list[str]:
        """Names of the current datasets."""
        return [name for name in self._run.names() if not is_model(name)]

    @property
    def models(self) -> list[str]:
        """Names of the current models."""
        return [name for name in self._run.names() if is_model(name)]

    def __iter__(self) -> Iterator[str]:
        return iter(self.datasets)

    def __len__(self) -> int:
        return len(self.datasets)

    def _ipython_key_completions_(self) -> list[str]:
        return self.datasets

    def _inventory(self) -> list[tuple[Any, ...]]:
        versions = [self._run.current(name) for name in (*self.datasets, *self.models)]
        return [
            (v.name, v.n_rows, v.version, len(self._run.versions(v.name)), v.manifest["builder"])
            for v in versions
        ]

    def __repr__(self) -> str:
        return f"run {self.folder}\n{format_table(_HEAD, self._inventory())}"

    def _repr_html_(self) -> str:
        rows = [_HEAD, *self._inventory()]
        lines = [f"<tr>{''.join(f'<td>{escape(str(v))}</td>' for v in row)}</tr>" for row in rows]
        return f"<p>run <code>{escape(str(self.folder))}</code></p><table>{''.join(lines)}</table>"

    def __getitem__(self, name: str) -> Dataset:
        """The rows of a dataset; what `map` and `filter` make of it stays in memory. UsageError for a model."""
        if is_model(name):
            raise UsageError(f"{name}: is a model, not a dataset; its folder is run.path({name!r})")
        return self._run.current(name).dataset()

    def path(self, name: str) -> Path:
        """The folder of the current version of a dataset or model."""
        return self._run.current(name).folder

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table:
        """The rows as an Arrow table over memory-mapped files."""
        return self._run.current(name).table(columns)

    def df(self, name: str, columns: list[str] | None = None) -> pd.DataFrame:
        """The rows as a pandas frame; NULL is NaN or None there, as pandas decides."""
        frame: pd.DataFrame = self.table(name, columns).to_pandas()
        return frame

    def sql(self, query: str) -> Any:
        """A DuckDB relation over the views of docs/audits.md: `.df()`, `.arrow()`, `.show()`."""
        return self._opened().sql(query)

    @property
    def connection(self) -> Any:
        """The DuckDB connection with every view in it."""
        return self._opened().connection

    def _opened(self) -> OpenRun:
        """The views of the current versions."""
        from selfreward.sql.views import OpenRun

        current = [f"{name}@{entry.version}" for name, entry in sorted(self._run.state().current.items())]
        # A notebook outlives many builds: views of replaced versions must not answer.
        if self._views is None or self._views[0] != current:
            self._views = (current, OpenRun(self.folder))
        return self._views[1]

    def candidates_of(self, prompt_id: str) -> pd.DataFrame:
        """The responses to a generated prompt, by sample."""
        return self._rows_of("candidates", "prompt_id", prompt_id, "prompts")

    def judgements_of(self, candidate_id: str) -> pd.DataFrame:
        """The judgements of a candidate, by sample."""
        return self._rows_of("judgements", "candidate_id", candidate_id, "candidates")

    def lineage(self, row_id: str) -> Node:
        """Where a row comes from, down to the seeds; any id. A tree: `facts`, `children`, `to_dict()`."""
        from selfreward.sql.lineage import lineage

        return lineage(self._run, row_id)

    def judge_prompt(self, judgement_id: str) -> str:
        """The prompt that the judge was sent; InputError if it cannot be made again exactly."""
        return sent_prompt(self._run, judgement_id)

    def _rows_of(self, dataset: str, column: str, row_id: str, parents: str) -> pd.DataFrame:
        from selfreward.sql.queries import quoted

        opened = self._opened()
        for name in (dataset, parents):
            if name not in opened.views():
                raise UsageError(f"{self.folder}: has no {name} yet")
        opened.load([dataset, parents])
        ask = opened.bare_connection.execute
        frame: pd.DataFrame = ask(
            f"FROM {quoted(dataset)} WHERE {quoted(column)} = $1 ORDER BY iteration, sample", [row_id]
        ).df()
        # An empty result may be right (not judged yet); an unknown id is an error.
        if (
            frame.empty
            and ask(f"FROM {quoted(parents)} WHERE {quoted(column)} = $1", [row_id]).fetchone() is None
        ):
            raise UsageError(f"{self.folder}: no row of {parents} has the {column} {row_id!r}")
        return frame

    def audit(self, **options: Any) -> AuditReport:
        """Run the audits (`checks`, `pack`, `thresholds`, `iteration`, `save`: as `selfreward audit`)."""
        report: AuditReport = _stage("selfreward.judging.audits.runner").run_audits(self._run, **options)
        return report

    def diff(self, dataset: str, a: str = "previous", b: str = "current", with_run: Path | str = "") -> Diff:
        """Rows added, removed and changed between two versions (B of `with_run`); `print` shows them."""
        from selfreward.sql.diff import diff

        return diff(self._run, dataset, a, b, Run(with_run) if with_run else None)

    def publish(self, repo: str, *, dry_run: Path | str | None = None, **options: Any) -> list[Any]:
        """Push to the Hub, or write what would be pushed into the folder `dry_run`; options as `selfreward publish`.

        A list of what was pushed (`url`, `revision`, `tag`, …), or of the folders written.
        """
        module = _stage("selfreward.data_cards.publish")
        wanted = module.PublishOptions(repo, **options)
        send = module.publish if dry_run is None else partial(module.dry_run, folder=Path(dry_run))
        return list(send(self.folder, wanted))


def _stage(module: str) -> Any:
    """A module of a stage package."""
    # By name, and only here: no import of the spine may point to a stage.
    return importlib.import_module(module)
