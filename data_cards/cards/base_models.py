"""The base models of a run: their names on the Hub and their licenses, if known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from selfreward.config.run import RunConfig
from selfreward.data_cards.cards.licences import licence_id
from selfreward.data_cards.cards.redact import public_value
from selfreward.errors import UsageError

_KNOWN = {"smollm2-135m-instruct": ("HuggingFaceTB/SmolLM2-135M-Instruct", "apache-2.0")}
"""Model name -> its repository on the Hub, its licence."""


def hub_name(model_string: str) -> str | None:
    """The Hub repository of a model string, None for a folder, a server or a script.

    >>> hub_name("hf:smollm2-135m-instruct")
    'HuggingFaceTB/SmolLM2-135M-Instruct'
    """
    engine, _, target = model_string.partition(":")
    if target in _KNOWN:
        return _KNOWN[target][0]
    # `./x`, `~/x` and an existing folder have one slash too, and would expose a local path as a Hub name
    named = (
        engine in ("hf", "vllm", "ray") and target.count("/") == 1 and not target.startswith((".", "~", "/"))
    )
    # Without the revision, which is no part of a base model's name.
    return target.partition("@")[0] if named and not Path(target).exists() else None


def base_licence(model_string: str) -> str | None:
    """The license of a base model: known here, or read from the card in its folder."""
    target = model_string.partition(":")[2]
    if target in _KNOWN:
        return _KNOWN[target][1]
    card = Path(target).expanduser() / "README.md"
    return _licence_in(card) if card.is_file() else None


def require_base_licence(model_string: str | None, wanted: str | None) -> str:
    """The license of trained models: the base model's or the given one. Raises UsageError if neither is known."""
    known = base_licence(model_string) if model_string else None
    wanted = licence_id("--model-license", wanted) if wanted is not None and wanted != known else wanted
    if wanted is None and known is None:
        raise UsageError(
            f"the license of the base model {model_string or '(no config.yaml in the run)'} is unknown, and models "
            "trained from it inherit it; give it with --model-license"
        )
    if wanted is not None and known is not None and wanted != known:
        raise UsageError(
            f"--model-license {wanted}: the base model {model_string} is under {known}, which its models inherit"
        )
    return wanted or known or ""


def generating_licences(config: RunConfig | None, generators: Sequence[str]) -> list[str]:
    """For the card: each generating model from outside the run, with its license."""
    if config is None or not generators:
        return []
    strings = {config.model, config.prompts.generator, *config.judging.judges, *config.candidates.also} - {
        "fixed",
        "current",
        "previous",
        "first",
        "M0",
    }
    return [
        f"{hub_name(s) or public_value(s)}: {base_licence(s) or 'unknown, look it up'}"
        for s in sorted(strings)
    ]


def _licence_in(card: Path) -> str | None:
    from huggingface_hub import ModelCard

    try:
        licence = ModelCard(card.read_text(encoding="utf-8")).data.license
    except (ValueError, OSError):  # the README is not a model card
        return None
    return licence if isinstance(licence, str) else None
