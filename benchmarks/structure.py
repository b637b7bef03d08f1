"""The structure of the six packages in figures, of the working tree or of any commit: what docs/architecture.md shows.

    python benchmarks/structure.py              # the working tree
    python benchmarks/structure.py v0.1 HEAD    # commits side by side

Counted are the Python files of the packages, without tests, benchmarks and the links in `selfreward/`. An import counts
wherever in a file it stands, unless under `if TYPE_CHECKING:`. An arrow leads from one top-level package to another; it
points backwards where selfreward <- judging <- {builders, training, evaluation, data_cards} does not allow it.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter, defaultdict
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("builders", "judging", "training", "evaluation", "data_cards")
PACKAGES = ("selfreward", *STAGES)


def sources(revision: str | None) -> dict[str, str]:
    """Path -> text."""
    if revision is None:
        paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
        found = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in paths}
        return {name: text for name, text in found.items() if not _linked(name)}
    names = _git("ls-tree", "-r", "--name-only", revision).splitlines()
    kept = [name for name in names if name.endswith(".py") and name.split("/")[0] in PACKAGES]
    return {name: _git("show", f"{revision}:{name}") for name in kept}


def _linked(name: str) -> bool:
    parts = name.split("/")
    return parts[0] == "selfreward" and parts[1] in STAGES


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def package_of(module: str) -> str | None:
    parts = module.removeprefix("selfreward.").split(".")
    if parts[0] in STAGES:
        return parts[0]
    return "selfreward" if module.split(".")[0] == "selfreward" else None


def imports(tree: ast.Module) -> set[str]:
    """Packages of the project that a file imports."""
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for child in node.body
        for inner in ast.walk(child)
    }
    names = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {package for name in names if (package := package_of(name))}


def figures(files: dict[str, str]) -> dict[str, str]:
    """Name of a figure -> its value, in the order of the table."""
    functions: list[int] = []
    classes: defaultdict[str, set[str]] = defaultdict(set)
    arrows: set[tuple[str, str]] = set()
    n_comments = n_untyped = 0
    for name, text in files.items():
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                functions.append((node.end_lineno or node.lineno) - node.lineno + 1)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                classes[node.name].add(name)
        here = name.split("/")[0]
        arrows |= {(here, package) for package in imports(tree) if package != here}
        tokens = tokenize.generate_tokens(io.StringIO(text).readline)
        n_comments += sum(token.type == tokenize.COMMENT for token in tokens)
        n_untyped += len(re.findall(r"dict\[str, Any\]", text))
    lines = {name: text.count("\n") for name, text in files.items()}
    folders = Counter(name.rpartition("/")[0] for name in files)
    largest, n_largest = folders.most_common(1)[0]
    backwards = [
        (a, b) for a, b in arrows if a == "selfreward" or (a == "judging" and b != "selfreward") or
        (a in STAGES and b not in ("selfreward", "judging"))
    ]  # fmt: skip
    total = sum(lines.values())
    return {
        "files": str(len(files)),
        "lines": f"{total:,}",
        "largest folder": f"{largest}/ ({n_largest} files)",
        "folders": str(len(folders)),
        "median file, lines": f"{median(lines.values()):.0f}",
        "files over 300 lines": str(sum(n > 300 for n in lines.values())),
        "median function, lines": f"{median(functions):.0f}",
        "functions over 80 lines": str(sum(n > 80 for n in functions)),
        "`dict[str, Any]`": str(n_untyped),
        "public class names used twice": str(sum(len(where) > 1 for where in classes.values())),
        "comment lines": f"{100 * n_comments / total:.1f} %",
        "arrows between packages (backwards)": f"{len(arrows)} ({len(backwards)})",
    }


def main() -> None:
    revisions: list[str | None] = list(sys.argv[1:]) or [None]
    columns = [figures(sources(revision)) for revision in revisions]
    print("| | " + " | ".join(revision or "working tree" for revision in revisions) + " |")
    print("|---|" + "---|" * len(columns))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(column[name] for column in columns) + " |")


if __name__ == "__main__":
    main()
