"""The pages in a real browser: `make test-view`. Links, forms and keys work, hostile rows run nothing, nothing goes out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import browser
from sample_run import make_sample_run
from view_server import TOKEN, shown_run

from selfreward.page.write import write_page
from selfreward.store.run import Run
from selfreward.summary.report import report_run

pytestmark = pytest.mark.browser
HOSTILE = (
    '<script>window.ran=1</script><img src=x onerror=window.ran=2><svg onload=window.ran=3></svg>"\'><a href="javascript:window.ran=4">x</a>'
    "<iframe src=http://evil.example></iframe><style>@import url(http://evil.example/a.css)</style>{{ 7*7 }} \x00\x1b[31m\u202eevil مرحبا שלום"
)
RUNS = ("sample", "hostile")


def make_hostile_run(path: Path) -> Run:
    """Every text of models and of users is an attack, and one answer is a megabyte of it."""

    def prompts(rows):
        return [
            replace(
                row, prompt=HOSTILE + row.prompt_id, generator=HOSTILE, reason=None if row.kept else HOSTILE
            )
            for row in rows
        ]

    def candidates(rows):
        return [
            replace(
                row, response=HOSTILE + ("A" * 1_000_000 if n == 0 else "") + row.candidate_id, model=HOSTILE
            )
            for n, row in enumerate(rows)
        ]

    def judgements(rows):
        return [
            replace(row, judgement=HOSTILE + "\nScore: 3", judge=HOSTILE, template=HOSTILE) for row in rows
        ]

    def seeds(rows):
        return [replace(row, prompt=HOSTILE + row.prompt, response=HOSTILE, source=HOSTILE) for row in rows]

    return make_sample_run(path, 1, iter1_prompts=prompts, iter1_candidates=candidates, iter1_judgements=judgements, seeds=seeds)  # fmt: skip


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with browser() as started:
        yield started


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("runs")
    made = {"sample": make_sample_run(folder / "sample"), "hostile": make_hostile_run(folder / "hostile")}
    for run in made.values():
        write_page(report_run(run.path))
    return made


class Visit:
    """A browser's page that remembers what was asked for and what went wrong."""

    def __init__(self, chromium: Any, address: str, **options: Any) -> None:
        self.context = chromium.new_context(**options)
        self.page = self.context.new_page()
        self.context.set_default_timeout(120_000)
        self.address = address
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.dialogs: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda line: self.errors.append(line.text) if line.type == "error" else None)
        self.page.on("dialog", lambda dialog: (self.dialogs.append(dialog.message), dialog.dismiss()))

    def go(self, path: str) -> Any:
        self.page.goto(f"{self.address}{path}", wait_until="load")
        return self.page

    def assert_clean(self) -> None:
        """No script but ours ran, nothing was asked of another machine, nothing was refused by the policy."""
        assert self.dialogs == []
        assert self.page.evaluate("window.ran === undefined")
        foreign = [url for url in self.asked if not url.startswith((self.address, "data:", "file:"))]
        assert foreign == []
        assert self.errors == []


@pytest.fixture(params=RUNS)
def visit(request, chromium, runs) -> Iterator[Visit]:
    with shown_run(runs[request.param].path) as shown:
        made = Visit(chromium, shown.address)
        made.go(f"/?token={TOKEN}")
        yield made
        made.context.close()


@pytest.fixture
def sample(chromium, runs) -> Iterator[Visit]:
    with shown_run(runs["sample"].path) as shown:
        made = Visit(chromium, shown.address)
        made.go(f"/?token={TOKEN}")
        yield made
        made.context.close()


def follow(page: Any, link: Any) -> None:
    """Click, and wait for the page that it leads to: Playwright itself does not."""
    with page.expect_navigation():
        link.click()


def ids_of(runs: dict[str, Run], name: str) -> dict[str, str]:
    run = runs[name]
    return {
        kind: run.current(dataset).table()[column][0].as_py()
        for kind, dataset, column in (("pair", "iter1/pairs", "pair_id"), ("judgement", "iter1/judgements", "judgement_id"),
                                      ("candidate", "iter1/candidates", "candidate_id"), ("prompt", "iter1/prompts", "prompt_id"))
    }  # fmt: skip


def paths(run: Run) -> list[str]:
    ids = ids_of({"run": run}, "run")
    return [
        "/",
        "/table/iter1/judgements?sort=-score&f=score%3Amin%3A2",
        "/table/seeds",
        *(f"/id/{id}" for id in ids.values()),
        "/sql?query=SELECT+score,+count(*)+AS+n+FROM+scores+GROUP+BY+ALL&picture=bars",
        "/sql?query=FROM+candidates",
        "/compare",
        "/nothing",
    ]


def test_every_page_loads_runs_nothing_of_a_row_and_asks_nobody_else(visit, runs):
    run = next(run for run in runs.values() if run.path.name in visit.page.title())
    for path in paths(run):
        page = visit.go(path)
        assert page.locator("h1").count() == 1
        # A page that is not there says so in the console.
        visit.errors = [error for error in visit.errors if "404" not in error]
        visit.assert_clean()
        assert page.locator("main script, main iframe, main img, main style").count() == 0


def test_hostile_text_is_shown_as_text(chromium, runs):
    with shown_run(runs["hostile"].path) as shown:
        visit = Visit(chromium, shown.address)
        visit.go(f"/?token={TOKEN}")
        page = visit.go(f"/id/{ids_of(runs, 'hostile')['candidate']}")
        said = page.locator(".text").first.inner_text()
        assert "<script>window.ran=1</script><img src=x onerror=window.ran=2>" in said
        assert "{{ 7*7 }} \\u0000\\u001b[31m\\u202eevil مرحبا" in said
        assert "cut here; 1,000," in said
        follow(page, page.get_by_text("texts in full"))
        assert len(page.locator(".text").first.inner_text()) > 1_000_000
        visit.assert_clean()


def test_the_token_leaves_the_address_bar(sample):
    assert TOKEN not in sample.page.url
    assert sample.page.locator("h1").inner_text().startswith("Datasets of")


def test_filters_sorts_and_pages_are_links_and_forms(sample):
    page = sample.go("/")
    follow(page, page.get_by_role("link", name="iter1/judgements"))
    page.get_by_label("Filter", exact=True).select_option("score")
    page.get_by_label("Condition").select_option("at least")
    page.get_by_label("Value").fill("4")
    follow(page, page.get_by_role("button", name="Add"))
    assert "score at least 4" in page.locator(".chips").inner_text()
    follow(page, page.get_by_role("link", name="score", exact=True))
    assert "▲" in page.locator("th[aria-sort]").inner_text()
    n = int(page.locator(".pager b").first.inner_text())
    assert 0 < n < 288
    follow(page, page.get_by_role("link", name="Remove score at least 4"))
    assert page.locator(".pager b").first.inner_text() == "288"
    follow(page, page.get_by_role("link", name="last").first)
    assert page.locator("tbody tr").count() == 288 % 50
    page.get_by_label("Search the texts").fill("covers some")
    follow(page, page.get_by_role("button", name="Search"))
    assert "288" in page.locator(".pager").first.inner_text()
    sample.assert_clean()


def test_a_reader_with_a_keyboard_alone_walks_and_judges(sample, runs):
    page = sample.go("/table/iter1/judgements")
    page.keyboard.press("j")
    page.keyboard.press("j")
    first = page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/row/.*at=1"))
    assert page.locator("h1").inner_text() == first
    page.keyboard.press("n")
    page.wait_for_url(re.compile("at=2"))
    page.keyboard.press("p")
    page.wait_for_url(re.compile("at=1"))
    for key, verdict in (("d", "disagree"), ("f", "flagged")):
        with page.expect_navigation():
            page.keyboard.press(key)
        assert page.locator("aside .badge").first.inner_text() == verdict
    page.get_by_label("Note").focus()
    # In a field, letters are letters.
    page.keyboard.type("and a n")
    assert page.get_by_label("Note").input_value() == "and a n"
    page.keyboard.press("Escape")
    with page.expect_navigation():
        page.keyboard.press("a")
    (review,) = runs["sample"].current("reviews").table().to_pylist()
    assert (review["verdict"], review["note"], review["row_id"]) == ("agree", "and a n", first)
    page.keyboard.press("u")
    page.wait_for_url(re.compile("/table/iter1/judgements"))
    page.get_by_role("button", name="Turn the keys off").click()
    page.keyboard.press("n")
    assert "page=2" not in page.url
    sample.assert_clean()


def test_the_first_tab_stop_skips_to_the_content_and_focus_is_visible(sample):
    page = sample.go("/sql")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "query"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_without_scripts_links_and_forms_do_the_same(chromium, runs):
    with shown_run(runs["sample"].path) as shown:
        visit = Visit(chromium, shown.address, java_script_enabled=False)
        page = visit.go(f"/?token={TOKEN}")
        follow(page, page.get_by_role("link", name="iter1/judgements"))
        follow(page, page.locator("a[data-row]").first)
        follow(page, page.get_by_role("link", name="next"))
        page.get_by_label("Note").fill("no scripts here")
        follow(page, page.get_by_role("button", name="Disagree"))
        assert page.get_by_label("Note").input_value() == "no scripts here"


def test_a_run_that_grows_is_followed(chromium, tmp_path):
    run = make_sample_run(tmp_path / "run", 1)
    with shown_run(run.path) as shown:
        visit = Visit(chromium, shown.address)
        page = visit.go(f"/?token={TOKEN}")
        assert page.get_by_role("link", name="iter2/pairs").count() == 0
        make_sample_run(run.path, 2)
        page.get_by_role("link", name="iter2/pairs").wait_for(timeout=20_000)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_accessibility_checker_finds_nothing_serious(chromium, runs, scheme):
    from axe_playwright_python.sync_playwright import Axe

    run = runs["sample"]
    with shown_run(run.path) as shown:
        visit = Visit(chromium, shown.address, color_scheme=scheme)
        visit.go(f"/?token={TOKEN}")
        found = []
        for path in [*paths(run), f"file://{run.path / 'report.html'}"]:
            page = visit.page
            page.goto(path if path.startswith("file:") else shown.address + path)
            for one in Axe().run(page).response["violations"]:
                if one["impact"] in ("serious", "critical"):
                    found.append(
                        (
                            path,
                            one["id"],
                            one["nodes"][0]["html"][:150],
                            one["nodes"][0].get("failureSummary", "")[:200],
                        )
                    )
        assert found == []


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no-scripts"])
def test_the_report_is_a_page_that_runs_nothing_and_loads_nothing(chromium, runs, name, scripts):
    report = runs[name].path / "report.html"
    visit = Visit(chromium, "file://", java_script_enabled=scripts)
    page = visit.page
    page.goto(f"file://{report}")
    assert page.locator("h2").count() >= 6
    assert [url for url in visit.asked if url != f"file://{report}"] == []
    if scripts:
        visit.assert_clean()
    # Readable on a phone: the page itself does not scroll sideways.
    page.set_viewport_size({"width": 390, "height": 800})
    if scripts:
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("path", ["/", "/table/iter1/judgements", "/sql"])
def test_pages_fit_a_phone(sample, path):
    sample.page.set_viewport_size({"width": 390, "height": 800})
    page = sample.go(path)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
