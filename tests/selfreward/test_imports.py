"""The structure of the project: which package imports which, no circles, no folder too full to be read.

Counted are all imports, also those inside functions, except the ones under `if TYPE_CHECKING:` (they import
nothing when the program runs). An import of a package counts as one of its `__init__`.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
STAGES = ("builders", "judging", "training", "evaluation", "data_cards")
PACKAGES = ("selfreward", *STAGES)
MAY_IMPORT = {
    "selfreward": {"selfreward"},
    "judging": {"selfreward", "judging"},
    **{
        name: {"selfreward", "judging", name} for name in ("builders", "training", "evaluation", "data_cards")
    },
}


@cache
def modules() -> dict[str, Path]:
    """Import name -> file. The stages' folders are seen where they lie, not through their links in `selfreward/`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            if package == "selfreward" and parts[1] in STAGES:
                continue
            name = ".".join(parts).removesuffix(".__init__")
            found[name if package == "selfreward" else f"selfreward.{name}"] = path
    return found


def _imported(tree: ast.AST) -> set[str]:
    """The modules of this project that a file imports, wherever in the file it does."""
    skipped: set[ast.AST] = set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            skipped |= {inner for child in node.body for inner in ast.walk(child)}
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & modules().keys()
            names |= submodules or {node.module}
    return names & modules().keys()


@cache
def graph() -> dict[str, set[str]]:
    return {name: _imported(ast.parse(path.read_text("utf-8"))) - {name} for name, path in modules().items()}


def package_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in STAGES else "selfreward"


def room_of(module: str) -> str:
    """The folder a module lies in; a module at the root of a package is a room of its own."""
    path = modules()[module]
    inside = path.parent.relative_to(ROOT).parts
    return "/".join(inside) if len(inside) > 1 else module


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that reach one another (Tarjan), each sorted."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in sorted(edges.get(node, ())):
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            group = []
            while True:
                group.append(stack.pop())
                if group[-1] == node:
                    break
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(edges):
        if node not in order:
            visit(node)
    return found


def test_packages_import_one_way():
    """selfreward <- judging <- builders, training, evaluation, data_cards."""
    wrong = [
        f"{module} imports {other}"
        for module, others in graph().items()
        for other in sorted(others)
        if package_of(other) not in MAY_IMPORT[package_of(module)]
    ]
    assert wrong == []


def test_the_spine_reaches_the_stages_by_name_in_four_modules_only():
    """The list of steps, the list of commands, and the Python interface; elsewhere nobody can import them unseen."""
    doors = set()
    for module, path in modules().items():
        texts = {
            node.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Constant)
        }
        names = {text for text in texts if isinstance(text, str) and text.startswith("selfreward.")}
        if package_of(module) == "selfreward" and {package_of(name) for name in names} - {"selfreward"}:
            doors.add(module)
    assert doors == {"selfreward", "selfreward.api", "selfreward.cli", "selfreward.steps.step"}


def test_no_modules_import_each_other():
    assert circles(graph()) == []


def test_no_rooms_import_each_other():
    rooms: dict[str, set[str]] = defaultdict(set)
    for module, others in graph().items():
        rooms[room_of(module)] |= {room_of(other) for other in others} - {room_of(module)}
    assert circles(rooms) == []


def test_no_folder_holds_more_than_a_reader_can_survey():
    """At most 16 Python files in a folder, 12 at the root of the spine."""
    n_files: dict[Path, int] = defaultdict(int)
    for path in modules().values():
        n_files[path.parent.relative_to(ROOT)] += 1
    too_many = {
        str(folder): n for folder, n in n_files.items() if n > (12 if str(folder) == "selfreward" else 16)
    }
    assert too_many == {}


def test_the_root_of_a_stage_holds_its_steps_and_its_command_line():
    from selfreward.steps.step import EVALUATION, ITERATION, SETUP

    steps = {
        name.removeprefix("selfreward.").replace(".", "/") + ".py" for name in SETUP + ITERATION + EVALUATION
    }
    beside = {"__init__.py", "cli.py", "measure.py"}
    for package in ("builders", "judging", "evaluation"):
        here = {
            str(path.relative_to(ROOT)) for path in (ROOT / package).glob("*.py") if path.name not in beside
        }
        assert here == {step for step in steps if step.startswith(package)}


def test_no_two_public_classes_have_one_name():
    """One word, one thing: a reader who meets `Counts` need not ask which."""
    places: dict[str, list[str]] = defaultdict(list)
    for module, path in modules().items():
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module)
    assert {name: where for name, where in places.items() if len(where) > 1} == {}
