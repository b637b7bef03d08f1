"""Takes the pictures of README and docs anew: `make screenshots`, with the run it is given (`runs/demo`).

Each is a PNG of at most 120 kB in docs/pictures/, with colors reduced to a palette where that is needed.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))
MOST_BYTES = 120_000
SIZE = {"width": 1180, "height": 760}


def main(run: Path) -> None:
    """Every picture, from a run with at least one iteration."""
    from browser import browser
    from view_server import TOKEN, shown_run

    from selfreward.page.write import write_page
    from selfreward.summary.report import report_run

    report = write_page(report_run(run)).resolve()
    pictures = ROOT / "docs" / "pictures"
    pictures.mkdir(exist_ok=True)
    with shown_run(run) as shown, browser() as started:
        page = started.new_page(viewport=SIZE, color_scheme="light")
        page.goto(f"{shown.address}/?token={TOKEN}")
        names = shown.shelf.names()
        last = max(name for name in names if name.endswith("/judgements"))
        query = "SELECT score, count(*) AS judgements FROM judgements WHERE score IS NOT NULL GROUP BY ALL ORDER BY ALL"
        for name, address in {
            "view-home": "/",
            "view-table": f"/table/{last}?f=status:is:ok&sort=-score",
            "view-row": f"/row/{last}?f=status:is:ok&sort=-score&at=0",
            "view-sql": f"/sql?query={query}&picture=bars&x=score&y=judgements",
        }.items():
            page.goto(shown.address + address)
            save(page, pictures / f"{name}.png")
        page.goto(report.as_uri())
        save(page, pictures / "report.png")


def save(page: Any, path: Path) -> None:
    """One picture, small enough for a repository."""
    from PIL import Image

    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for n_colors in (256, 128, 64, 32, 16):
        content = io.BytesIO()
        picture.quantize(n_colors, dither=Image.Dither.NONE).save(content, "PNG", optimize=True)
        if content.tell() <= MOST_BYTES:
            break
    path.write_bytes(content.getvalue())
    print(f"{path.relative_to(ROOT)}: {content.tell():,} bytes, {n_colors} colors")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
