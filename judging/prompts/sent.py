"""The prompt that a judge was sent for a stored judgement, made again and only shown if it is certainly the same.

The rows hold the judgement, not the prompt: it is rendered from the versions and the template that the manifest of the
judgements names by content. If one of them is gone, or the rendering has changed since, an InputError says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from selfreward.errors import InputError, SelfrewardError, UsageError
from selfreward.judging.prompts.templates import RANGES, RENDER_VERSION, JudgeTemplate, load_template
from selfreward.store.recipe import text_input
from selfreward.store.run import Run, is_model
from selfreward.store.version import Version
from selfreward.tables import kind_of

if TYPE_CHECKING:
    import pyarrow as pa

Read = Callable[[Version], "pa.Table"]


def sent_prompt(run: Run, judgement_id: str, read: Read = Version.table) -> str:
    """The user message of the judge's request. Raises InputError if it cannot be made again exactly."""
    version, judgement = _judgement(run, judgement_id, read)
    if judgement["attempts"] == 0:
        raise InputError(
            f"{judgement_id}: the judge was never asked, because the candidate failed in the engine"
        )
    rendered = version.manifest["params"].get("render")
    if rendered is None:
        raise InputError(
            f"{version.name}@{version.version}: its rows were not made by a judge of this project"
        )
    if rendered != RENDER_VERSION:
        raise InputError(
            f"{judgement_id}: its prompt was made by version {rendered} of the rendering, and this is version "
            f"{RENDER_VERSION}; expected the same"
        )
    template = _template(run, version)
    candidate = _row(run, version, "candidates", "candidate_id", judgement["candidate_id"], read)
    prompt = _row(run, version, "prompts", "prompt_id", candidate["prompt_id"], read)
    return template.render(prompt["prompt"], candidate["response"])


def _judgement(run: Run, id: str, read: Read) -> tuple[Version, dict[str, Any]]:
    for name in run.names():
        if not is_model(name) and kind_of(name) == "judgements":
            version = run.current(name)
            for row in _rows(read(version), "judgement_id", id):
                return version, row
    raise UsageError(f"{run.path}: no current judgement has the id {id!r}")


def _row(run: Run, version: Version, role: str, column: str, id: str, read: Read) -> dict[str, Any]:
    entry = version.manifest["inputs"].get(role)
    if entry is None:
        raise InputError(
            f"{version.name}@{version.version}: was imported, so no judge was sent anything from here"
        )
    for source in reversed(run.versions(entry["name"])):
        if source.content_sha256 == entry["content_sha256"]:
            for row in _rows(read(source), column, id):
                return row
    raise InputError(
        f"{version.name}@{version.version}: the version of {entry['name']} that it was made from is gone, or lacks {id}"
    )


def _rows(table: pa.Table, column: str, id: str) -> Iterator[dict[str, Any]]:
    import pyarrow.compute as pc

    place = pc.index(table[column], id).as_py()
    if place >= 0:
        yield table.slice(place, 1).to_pylist()[0]


def _template(run: Run, version: Version) -> JudgeTemplate:
    """The template whose text has the hash in the manifest: one of the project's, or the configured file."""
    wanted = version.manifest["inputs"].get("template", {}).get("content_sha256")
    for name in (*_configured(run), *RANGES):
        with suppress(SelfrewardError):
            template = load_template(name)
            if text_input(name, template.text)["content_sha256"] == wanted:
                return template
    raise InputError(
        f"{version.name}@{version.version}: the text of its judge template is neither one of the project's nor that of "
        "the configured file any more, and the run keeps only its hash"
    )


def _configured(run: Run) -> Iterator[str]:
    from selfreward.config.files import load_config

    path = run.path / "config.yaml"
    if path.is_file():
        with suppress(SelfrewardError):
            yield load_config(path).judging.template
