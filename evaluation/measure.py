"""The frame of a measure: a class of settings, its requested rows, and its figures.

    @dataclass(frozen=True, kw_only=True)
    class HeadToHead(Measure[list[HeadToHeadRow], HeadToHeadResult]):
        name = "head-to-head"
        a: ModelName
        \"\"\"A model, M1 of --run, or a file of answers.\"\"\"
        n_max: Count | None = None
        ...
        def rows(self, ask): ...       # asks models, writes its files into the folder
        def figures(self, rows): ...   # sends no request
        def tables(self, result): ...  # the tables of --run

    result = measure(HeadToHead(a="M2", ...))

The class is the command too: its fields are the flags, the strings below them their help (`command`). Folder, lock,
journals, costs, tables, `--json` and printing are here and in `ask/`. A new measure is one file and one line in
`cli.py`.
"""

from __future__ import annotations

import dataclasses
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

import typer
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo

from selfreward.cli.output import Json, print_json
from selfreward.engines.registry import engine_options
from selfreward.evaluation.ask.answers import ModelAccess
from selfreward.evaluation.ask.models import Models
from selfreward.evaluation.ask.requests import EngineSettings
from selfreward.evaluation.ask.results import Tables
from selfreward.store import durable, lock
from selfreward.text import printable
from selfreward.unkeyed import Count

ModelName = Annotated[str, Field(title="MODEL")]
File = Annotated[Path, Field(title="FILE")]
Folder = Annotated[Path, Field(title="DIR")]
RandomSeed = Annotated[int, Field(ge=0)]
Options = Annotated[tuple[str, ...], Field(title="KEY=VALUE")]
Out = Annotated[Folder, Field(description="Folder for the files and the journal.")]
Judge = Annotated[ModelName, Field(description="The judge: hf:NAME_OR_PATH, openai:URL#MODEL, …")]
Annotator = Annotated[
    str,
    Field(
        title="NAME",
        description="selfreward_weighted (default), selfreward_pairwise (text), one of alpaca-eval's, or a folder.",
    ),
]
NMax = Annotated[Count, Field(description="Only this many prompts: a fixed draw, not the first ones.")]
PromptsFile = Annotated[
    File, Field(description="json or jsonl with instruction or prompt; default: the run's EFT eval split.")
]
Temperature = Annotated[float, Field(ge=0, description="Temperature of the answers; 0 is greedy.")]
RunFolder = Annotated[
    Path, Field(title="RUN", description="A run folder: its models (M1, SFT, …) and a place for results.")
]
MaxCost = Annotated[
    float,
    Field(ge=0, description="Most to spend on priced servers from this folder, in the prices' currency."),
]

DEFAULT_ANNOTATOR = "selfreward_weighted"
RowsT = TypeVar("RowsT")
ResultT = TypeVar("ResultT", bound="Result")


class Result(ABC):
    """The result of a measure: a frozen dataclass; its `rows` are in files and tables and not printed."""

    @abstractmethod
    def text(self) -> str:
        """For a terminal."""

    def to_dict(self) -> Any:
        """For `--json`."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload]
        values.pop("rows", None)
        return values

    @property
    def failed(self) -> bool:
        """Whether the command ends with 1."""
        return False


@dataclass(frozen=True, kw_only=True)
class Measure(ABC, Generic[RowsT, ResultT]):
    """Settings, and how rows and figures follow from them. A subclass without `out` sends no requests."""

    __pydantic_config__ = ConfigDict(use_attribute_docstrings=True)
    name: ClassVar[str]
    """The command."""

    run: RunFolder | None = None

    @abstractmethod
    def rows(self, ask: ModelAccess) -> RowsT:
        """Send the requests and write the rows into the folder, which is locked."""

    def figures(self, rows: RowsT) -> ResultT:
        """Compute the result, without requests. Without figures the rows are the result."""
        return cast(ResultT, rows)

    def tables(self, result: ResultT) -> Iterable[Tables]:
        """The tables that `--run` stores."""
        return ()

    def text(self, result: ResultT) -> str:
        """For a terminal."""
        return result.text()


@dataclass(frozen=True, kw_only=True)
class WithCosts(Measure[RowsT, ResultT]):
    """A measure that may ask priced servers."""

    max_cost: MaxCost | None = None


@dataclass(frozen=True, kw_only=True)
class WithAnswers(WithCosts[RowsT, ResultT]):
    """A measure of models' answers."""

    max_tokens: Annotated[Count, Field(description="New tokens of an answer.")] = 1024
    engine: Annotated[
        Options, Field(description="Engine of the answering models: batch_size=8, dtype=float32, …")
    ] = ()


@dataclass(frozen=True, kw_only=True)
class WithJudge(WithCosts[RowsT, ResultT]):
    """A measure with a judge."""

    judge_engine: Annotated[
        Options, Field(description="Engine of the judge: price_per_million_in=2.5, …")
    ] = ()


def measure(settings: Measure[Any, ResultT]) -> ResultT:
    """Send the requests, compute the figures, and write them into the run if there is one."""
    models = Models(settings.run)
    rows = ask_for_rows(settings, models)
    result: ResultT = settings.figures(rows)
    if models.run is not None:
        for tables in settings.tables(result):
            tables.publish(models.run)
    return result


def ask_for_rows(settings: Measure[RowsT, Any], models: Models | None = None) -> RowsT:
    """Only the rows, under the folder's lock; the folder is created on the first write."""
    out: Path | None = getattr(settings, "out", None)
    max_cost: float | None = getattr(settings, "max_cost", None)
    answering, judging = (
        EngineSettings(engine_options(getattr(settings, flag, ())), max_cost)
        for flag in ("engine", "judge_engine")
    )
    with ExitStack() as stack:

        @cache
        def claim() -> None:
            # on the first write: a measure that refuses its settings must not leave an empty folder
            if out is not None:
                held = lock.hold(durable.make_folder(out), f"selfreward evaluate {settings.name}")
                stack.enter_context(held)

        return settings.rows(
            ModelAccess(out or Path(), models or Models(settings.run), answering, judging, claim)
        )


def command(measured: type[Measure[Any, Any]]) -> Callable[..., None]:
    """The function behind a measure's command, with a flag for each field, for `typer`."""

    def call(as_json: bool, **values: Any) -> None:
        # absent flags and empty lists leave the class's own defaults in place
        settings = measured(**{name: value for name, value in values.items() if value not in (None, [])})
        result = measure(settings)
        if as_json:
            print_json(result.to_dict())
        else:
            print(printable(settings.text(result)))
        if result.failed:
            raise typer.Exit(1)

    own = measured.__annotations__
    # required first, as Python demands; then a measure's own flags before the inherited ones
    flags = sorted(_flags(measured), key=lambda flag: (flag.default is not flag.empty, flag.name not in own))
    as_json = inspect.Parameter("as_json", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Json)
    call.__signature__ = inspect.Signature([*flags, as_json])  # type: ignore[attr-defined]
    return call


def _flags(measured: type[Measure[Any, Any]]) -> Iterator[inspect.Parameter]:
    """A parameter for each field; a required one whose title ends in `…` is an argument."""
    hints = get_type_hints(measured, include_extras=True)
    plain = get_type_hints(measured)
    for name, field in measured.__pydantic_fields__.items():  # type: ignore[attr-defined]
        said = [field, *_field_infos(hints[name])]
        title = next((info.title for info in said if info.title), None)
        doc = field.description or next((info.description for info in said if info.description), "")
        least = next((part.ge for info in said for part in info.metadata if hasattr(part, "ge")), None)
        kind = plain[name]
        if get_origin(kind) is tuple:
            kind = list[get_args(kind)[0]]  # type: ignore[misc]
        settings: dict[str, Any] = {"help": " ".join(doc.split()), "min": least}
        if title and title.endswith("…"):
            option: Any = typer.Argument(metavar=title, **settings)
        elif title and title.startswith("--"):
            option = typer.Option(title, **settings)
        else:
            option = typer.Option(metavar=title, **settings)
        required = field.is_required()
        default = inspect.Parameter.empty if required else field.default if field.default != () else None
        yield inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option]
        )


def _field_infos(hint: Any) -> Iterator[FieldInfo]:
    """The metadata of `Annotated` in a type, also inside `| None`."""
    yield from (part for part in getattr(hint, "__metadata__", ()) if isinstance(part, FieldInfo))
    for part in get_args(hint):
        if not isinstance(part, FieldInfo):
            yield from _field_infos(part)
