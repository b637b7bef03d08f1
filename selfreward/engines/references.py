"""Resolves a model name of a plan: to a model string, an identity for the key, and a name for rows.

`M1`, `M2`, … and `SFT` are versions of the run's store, identified by their manifest. `M0` is the configured
`model`; that and every other model string is a foreign model: a folder is hashed once (cached by path, size and
time), a server can only be identified by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from selfreward.engines.registry import parse_model_string
from selfreward.errors import UsageError
from selfreward.store.run import Run, is_model
from selfreward.store.sealed import digest
from selfreward.store.version import Version


@dataclass(frozen=True)
class ModelRef:
    """A model ready to be opened."""

    name: str
    """For rows: `M1@3f0c9a…`, `hf:smollm2-135m-instruct@81bb…`, `openai:…#gpt-4`."""
    model_string: str
    content_sha256: str
    folder: Path | None
    """Where its weights are, None for a server or a Hub name."""
    revision: str | None = None
    """The Hub commit that a Hub name stood for."""


def resolve(name: str, run: Run, base_model: str, trained: bool = True) -> ModelRef:
    """The model called `name` in a run whose M0 is `base_model`; untrained runs have no other."""
    if name == "M0" or (is_model(name) and not trained):
        return foreign(base_model)
    if is_model(name):
        return of_version(run.current(name), base_model)
    return foreign(name)


def of_version(version: Version, base_model: str) -> ModelRef:
    """A model that the run trained; it is opened with the engine of M0."""
    engine = parse_model_string(base_model).engine
    return ModelRef(
        name=f"{version.name}@{version.content_sha256[:12]}",
        model_string=f"{engine}:{version.folder.resolve()}",
        content_sha256=version.content_sha256,
        folder=version.folder.resolve(),
    )


def trainable(ref: ModelRef) -> Path:
    """The folder to train from; UsageError if the model is not a local folder."""
    if ref.folder is None:
        raise UsageError(
            f"model {ref.model_string!r} cannot be trained: expected a local folder or a known name behind hf: or "
            "vllm:, such as hf:smollm2-135m-instruct"
        )
    return ref.folder


def foreign(model_string: str) -> ModelRef:
    """A model that is no version of a run: a folder, a known name, a Hub name, a server, a script."""
    from selfreward.models.identity import model_identity
    from selfreward.models.known import cached_commit, fetch_model

    parsed = parse_model_string(model_string)
    if parsed.engine == "scripted":
        from selfreward.store.version import file_sha256

        return ModelRef(
            f"scripted:{Path(parsed.target).name}", model_string, file_sha256(Path(parsed.target)), None
        )
    if parsed.engine == "openai":
        # Not the address: moving a server to another host must not rebuild what its model wrote.
        server_model = parsed.target.rpartition("#")[2]
        return ModelRef(f"openai:{server_model}", model_string, digest({"server_model": server_model}), None)
    folder = fetch_model(parsed.target)
    sha256 = model_identity(folder).sha256
    is_path = Path(parsed.target).expanduser().is_dir()
    shown = Path(parsed.target).name if is_path else parsed.target
    return ModelRef(
        f"{parsed.engine}:{shown}@{sha256[:12]}",
        f"{parsed.engine}:{folder}",
        sha256,
        folder,
        None if is_path else cached_commit(folder),
    )
