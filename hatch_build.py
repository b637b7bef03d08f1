"""What an index page needs at build time: the README's links and picture as absolute ones, and the project's addresses.

The repository's address is `SELFREWARD_URL`, else that of `origin` (https or git@), else what an sdist's own metadata
says. Without one, links to files become plain text and no address is claimed: a relative link leads nowhere there.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]+)\)")


class ReadmeHook(MetadataHookInterface):
    """Fills in `readme` and `urls`."""

    def update(self, metadata: dict[str, Any]) -> None:
        root = Path(self.root)
        url = repository(root)
        text = absolute((root / "README.md").read_text("utf-8"), url)
        metadata["readme"] = {"content-type": "text/markdown", "text": text}
        metadata["urls"] = addresses(url)


def repository(root: Path) -> str | None:
    """The https address of the repository, without a slash at its end."""
    if given := os.environ.get("SELFREWARD_URL"):
        return given.rstrip("/")
    stored = root / "PKG-INFO"
    if stored.is_file():
        found = re.search(r"^Project-URL: Source, (https://\S+)$", stored.read_text("utf-8"), re.MULTILINE)
        return found[1] if found else None
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        origin = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git here
        return None
    # An address with a login or a port is nobody's public page.
    found = re.fullmatch(r"(?:https://|git@)([\w.-]+)[:/]([\w./-]+?)(?:\.git)?/?", origin)
    return f"https://{found[1]}/{found[2]}" if found else None


def absolute(text: str, url: str | None) -> str:
    """The README for an index page; its code blocks stay as they are."""

    def link(match: re.Match[str]) -> str:
        is_picture, shown, target = match.groups()
        if url is None:
            return str(shown)
        return f"{is_picture}[{shown}]({url}/{'raw' if is_picture else 'blob'}/HEAD/{target})"

    return _LINK.sub(link, text)


def addresses(url: str | None) -> dict[str, str]:
    """What the index page links to."""
    if url is None:
        return {}
    pages = {"Source": "", "Documentation": "/tree/HEAD/docs", "Changelog": "/blob/HEAD/CHANGELOG.md"}
    return {name: url + path for name, path in {**pages, "Issues": "/issues"}.items()}
