"""Canned answers and faults, for tests and for trying a configuration without a model: `scripted:FILE`.

FILE is YAML, or JSON lines (`.jsonl`) with one rule on a line and at most one line `{"settings": {…}}`:

    settings:
      group_size: 4                        # completions returned (and journalled) together
      capabilities: {logprobs: true, prefix: true, seeds: true}
      faults: [{at_group: 3, kind: raise, message: out of memory}]
    rules:                                 # the first rule with all conditions met answers
      - {id: "p-*", answers: ["Name three rivers.", "Why is the sky blue?"], pick: position}
      - {contains: "<response>", answers: ["Fine. Score: 4"], choice_logprobs: {" 4": -0.1}}
      - {regex: "(?i)boom", error: the server refused}
      - {answers: ["I do not know."]}      # no condition: the default

Promises: the same file and requests give the same rows, in any order and with any `done`; groups are cut from
the whole request list, as `selfreward.engines.base` requires; a request that no rule matches is an error row.
Not promised: texts are returned unchanged. Neither `max_tokens` nor `stop` cuts them, tokens are words separated by
white space, and nothing is sampled.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from selfreward.engines.base import BaseEngine, Capabilities, Completion, EngineOptions, Request, row_seed
from selfreward.errors import EngineError, InputError
from selfreward.tables import Message


class ScriptRule(BaseModel):
    """Conditions (all given ones must hold) and the answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str | None = None
    """Request id, exact or with `*`, `?`, `[…]`."""
    contains: str | None = None
    """Substring of the last user message."""
    regex: str | None = None
    """Python regular expression, searched in the last user message."""
    answers: tuple[str, ...] = ("",)
    pick: Literal["sample", "position", "seed"] = "sample"
    """How to choose an answer, cyclically: by sample number; by position among all (request, sample) of the call; or
    by `row_seed`, so that another seed gives other answers."""
    finish_reason: Literal["stop", "length"] = "stop"
    error: str | None = None
    """Given: every completion of the rule is an error row with this reason."""
    choice_logprobs: dict[str, float] = Field(default_factory=dict)
    delay_s: float = 0.0

    @field_validator("answers")
    @classmethod
    def _not_empty(cls, answers: tuple[str, ...]) -> tuple[str, ...]:
        if not answers:
            raise ValueError("needs at least one answer")
        return answers

    @field_validator("regex")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"is not a regular expression ({error})") from None
        return pattern

    def matches(self, request: Request) -> bool:
        text = last_user_message(request.messages)
        return (
            (self.id is None or self.id == request.id or fnmatchcase(request.id, self.id))
            and (self.contains is None or self.contains in text)
            and (self.regex is None or re.search(self.regex, text) is not None)
        )


class Fault(BaseModel):
    """A failure of the whole engine, before the n-th group it computes (1-based)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    at_group: int = Field(ge=1)
    """Groups are counted from the opening of the engine; skipped (done) groups do not count."""
    kind: Literal["raise", "hang"] = "raise"
    message: str = "scripted fault"
    unless_exists: str | None = None
    """No fault once this file exists: a test can then resume with the same script, and so with the same key."""


class ScriptSettings(BaseModel):
    """Settings of the engine as a whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    group_size: int = Field(default=1, ge=1)
    capabilities: dict[Literal["logprobs", "prefix", "seeds"], bool] = Field(default_factory=dict)
    faults: tuple[Fault, ...] = ()


class Script(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: ScriptSettings = ScriptSettings()
    rules: tuple[ScriptRule, ...]


class ScriptedEngine(BaseEngine):
    """The engine of the module's docstring. Raises InputError if the file cannot be read as a script."""

    def __init__(self, target: str, options: EngineOptions) -> None:
        path = Path(target)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"scripted:{target}: cannot read the file ({error.strerror})") from None
        self.name = f"scripted:{target}"
        self.identity = "sha256:" + hashlib.sha256(content).hexdigest()
        """Used in keys instead of the path: the same answers are the same model."""
        self._script = parse_script(content, path)
        granted = {"logprobs": True, "prefix": True, "seeds": True} | self._script.settings.capabilities
        self.capabilities = Capabilities(**granted)
        self._groups_computed = 0

    def generate(
        self, requests: Sequence[Request], done: Collection[tuple[str, int]] = frozenset()
    ) -> Iterator[list[Completion]]:
        """Groups of `group_size` completions, in request order. Raises EngineError at a scripted fault."""
        units = [(request, sample) for request in requests for sample in range(request.n)]
        size = self._script.settings.group_size
        for start in range(0, len(units), size):
            group = [
                (position, request, sample)
                for position, (request, sample) in enumerate(units[start : start + size], start)
                if (request.id, sample) not in done
            ]
            if group:
                self._groups_computed += 1
                self._fail_if_scripted()
                yield [self._complete(request, sample, position) for position, request, sample in group]

    def count_tokens(self, messages: Sequence[Message]) -> int:
        """Words separated by white space."""
        return sum(len(message.content.split()) for message in messages)

    def _fail_if_scripted(self) -> None:
        for fault in self._script.settings.faults:
            lifted = fault.unless_exists is not None and Path(fault.unless_exists).exists()
            if fault.at_group != self._groups_computed or lifted:
                continue
            if fault.kind == "raise":
                raise EngineError(f"{self.name}: {fault.message}")
            while True:
                time.sleep(1.0)

    def _complete(self, request: Request, sample: int, position: int) -> Completion:
        seed = row_seed(request.seed, request.id, sample)
        n_prompt_tokens = self.count_tokens(request.messages)
        rule = next((rule for rule in self._script.rules if rule.matches(request)), None)
        if rule is not None and rule.delay_s:
            time.sleep(rule.delay_s)
        error = "no rule of the script matches this request" if rule is None else rule.error
        if rule is None or error is not None:
            return Completion(request.id, sample, "", "error", 0, n_prompt_tokens, seed, error)
        index = {"sample": sample, "position": position, "seed": seed}[rule.pick]
        text = rule.answers[index % len(rule.answers)]
        logprobs = {
            choice: rule.choice_logprobs[choice]
            for choice in request.choices
            if choice in rule.choice_logprobs
        }
        return Completion(
            request_id=request.id,
            sample=sample,
            text=text,
            finish_reason=rule.finish_reason,
            n_tokens=len(text.split()),
            n_prompt_tokens=n_prompt_tokens,
            seed=seed,
            choice_logprobs=logprobs if request.choices else None,
        )


def last_user_message(messages: Sequence[Message]) -> str:
    """Content of the last message with role `user`; empty if there is none."""
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def parse_script(content: bytes, path: Path) -> Script:
    """A script from the bytes of its file. Raises InputError naming file, line (JSONL) and field."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None
    raw = _read_jsonl(text, path) if path.suffix == ".jsonl" else _read_yaml(text, path)
    try:
        return Script.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: {where or 'the file'}: {first['msg']}") from None


def _read_jsonl(text: str, path: Path) -> dict[str, Any]:
    script: dict[str, Any] = {"rules": []}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg})") from None
        if isinstance(entry, dict) and entry.keys() == {"settings"}:
            script |= entry
        else:
            script["rules"].append(entry)
    return script


def _read_yaml(text: str, path: Path) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
