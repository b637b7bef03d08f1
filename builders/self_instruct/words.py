"""The words of the prompt filters, by language (`filter_words.yaml`), or from a file of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from selfreward.errors import ConfigError, UsageError


class FilterWords(BaseModel):
    """One language; see the comments of `filter_words.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str | None = None
    unavailable: tuple[str, ...] = ()
    starts: tuple[str, ...] = ()
    starts_in_ascii: bool = False

    @cached_property
    def mentions_unavailable(self) -> re.Pattern[str] | None:
        """Finds one of the words, as a whole word, blanks of any length between its parts."""
        words = [r"\s+".join(map(re.escape, word.split())) for word in self.unavailable]
        return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE) if words else None


def words_text(lang: str) -> str:
    """The entry of a language, or a user's file, as it enters keys. UsageError if there is neither."""
    shipped = yaml.safe_load(_shipped())
    if lang in shipped:
        return yaml.safe_dump(shipped[lang], allow_unicode=True)
    path = Path(lang)
    if not path.is_file():
        raise UsageError(
            f"prompts.lang {lang!r}: no filter words for it; expected {', '.join(shipped)}, or the path of a YAML file "
            "with name, unavailable, starts and starts_in_ascii"
        )
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"prompts.lang {path}: byte {error.start} is not UTF-8; save the file as UTF-8"
        ) from None


def read_words(text: str, where: str = "prompts.lang") -> FilterWords:
    """The words in such a text. ConfigError names the key that is wrong."""
    try:
        return FilterWords.model_validate(yaml.safe_load(text) or {})
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: is not valid YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        raise ConfigError(f"{where}: {place}: {problem['msg'][0].lower()}{problem['msg'][1:]}") from error


def keyed_words(lang: str) -> dict[str, str]:
    """What enters the key of a step that filters by these words; English ones are part of the step itself."""
    return {} if lang == "en" else {"filter_words": words_text(lang)}


def words_of(texts: Mapping[str, str]) -> FilterWords:
    """The words in a step's texts, see `keyed_words`."""
    return read_words(texts["filter_words"]) if "filter_words" in texts else english()


def english() -> FilterWords:
    """Self-Instruct's own."""
    return read_words(words_text("en"))


def _shipped() -> str:
    return (files("selfreward.builders") / "self_instruct" / "filter_words.yaml").read_text("utf-8")
