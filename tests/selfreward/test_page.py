"""RUN/report.html: one page that runs nothing, loads nothing, and whose figures name the SQL that gives them."""

from __future__ import annotations

import base64
import hashlib
import re
import tarfile
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sample_run import make_sample_run

from selfreward.cli import runs
from selfreward.judging.audits.runner import run_audits
from selfreward.page.figures import shown
from selfreward.page.svg import Box, Level, Series, chart, flow
from selfreward.page.write import write_page
from selfreward.sql.views import open_run
from selfreward.summary.report import report_run

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.tar.gz"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>{{ 7*7 }} \x00\x1b[31m\u202eevil"
SECTIONS = ["better", "judge", "data", "pairs", "training", "reproduce"]


class Page(HTMLParser):
    """What a browser would see: tags with their attributes, the SQL, and all text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.queries: list[str] = []
        self.text = ""
        self._in_query = False
        self.html = path.read_text("utf-8")
        self.feed(self.html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "pre" and dict(attrs).get("class") == "sql":
            self._in_query = True
            self.queries.append("")

    def handle_endtag(self, tag):
        self._in_query = self._in_query and tag != "pre"

    def handle_data(self, data):
        self.text += data
        if self._in_query:
            self.queries[-1] += data

    def ids(self) -> list[str]:
        return [attrs["id"] for tag, attrs in self.tags if tag == "h2"]


def page_of(run: Path) -> Page:
    return Page(write_page(report_run(run)))


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def assert_inert(page: Page) -> None:
    """No script, no handler, nothing loaded from anywhere, and a policy that would forbid it."""
    names = {tag for tag, _ in page.tags}
    assert not names & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "link",
        "form",
        "base",
        "audio",
        "video",
    }
    for _, attrs in page.tags:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "style", "action")]
        assert attrs.get("href") is None or attrs["href"].startswith("#")
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    style = re.search(r"<style>(.*?)</style>", page.html, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert "url(" not in style
    assert "@import" not in style


def assert_queries_work(page: Page, run: Path) -> None:
    assert page.queries
    with open_run(run) as opened:
        for query in page.queries:
            opened.sql(query).fetchall()


def test_the_page_of_a_trained_run_has_every_section_in_order_and_its_queries_work(old):
    page = page_of(old)
    assert page.ids() == SECTIONS
    targets = {a["id"] for _, a in page.tags if a.get("id")}
    links = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert set(links) <= targets
    assert {"data", "judge", "pairs", "training"} <= set(links)
    assert (
        "A self-rewarding run of hf:base from 30 ranked replies: in 1 iteration it made 20 prompts"
        in page.text
    )
    assert "−17 not novel" in page.text
    assert "It trained M1, M2" in page.text
    assert {"Loss of M1", "Loss of M2"} <= set(re.findall(r"Loss of M\d", page.text))
    assert "Cannot be shown" not in page.text
    assert "The audits have not been asked yet: selfreward audit" in page.text
    assert_inert(page)
    assert_queries_work(page, old)


def test_pairs_show_their_judgements_demonstrations_and_why_others_were_not_used(tmp_path):
    run = make_sample_run(tmp_path / "run")
    page = page_of(run.path)
    pair = next(row for row in run.current("iter2/pairs").table().to_pylist() if row["pair_id"] in page.text)
    judged = run.current("iter2/judgements").table().to_pylist()
    for said in (row["judgement"] for row in judged if row["candidate_id"] == pair["chosen_id"]):
        assert said in page.text
    assert pair["chosen"][-1]["content"] in page.text
    assert page.text.count("2 other candidates, and why each was not used") == 5
    assert "not used: its score lies between those of the pair (rule max_min)" in page.text
    prompt = next(
        row
        for row in run.current("iter2/prompts").table().to_pylist()
        if row["prompt_id"] == pair["prompt_id"]
    )
    assert all(id in page.text for id in prompt["demonstration_ids"])
    assert "(this row is missing)" not in page.text
    assert_queries_work(page, run.path)


def test_hostile_text_is_text(tmp_path):
    huge = HOSTILE + "A" * 1_000_000

    def answers(rows):
        return [replace(row, response=huge + row.candidate_id) for row in rows]

    def judgements(rows):
        return [replace(row, judgement=HOSTILE) for row in rows]

    def prompts(rows):
        return [
            replace(row, prompt=HOSTILE + row.prompt_id, reason=None if row.kept else HOSTILE) for row in rows
        ]

    run = make_sample_run(tmp_path / "run", 1, iter1_candidates=lambda rows: answers(rows[:8]) + rows[8:],
                          iter1_judgements=judgements, iter1_prompts=prompts)  # fmt: skip
    page = page_of(run.path)
    assert_inert(page)
    assert "<script>alert(1)</script>" in page.text
    assert "{{ 7*7 }} \\u0000\\u001b[31m\\u202eevil" in page.text
    assert not set("\x00\x1b\u202e") & set(page.html)
    assert len(page.html) < 1_000_000
    assert_queries_work(page, run.path)


def test_a_long_text_is_cut_and_says_so():
    assert shown("x" * 1_000_000).endswith("x… (cut here; 1,000,000 characters in all)")
    assert (shown(None), shown(True), shown(1234), shown(0.123456)) == ("-", "yes", "1,234", "0.1235")


def test_audits_are_shown_with_figure_threshold_and_what_they_protect_from(tmp_path):
    run = make_sample_run(tmp_path / "run", 1)
    report = run_audits(run)
    page = page_of(run.path)
    for result in report.results:
        assert result.protects_from in page.text
    assert_queries_work(page, run.path)


def test_a_run_that_is_not_finished_shows_what_is_there(tmp_path):
    run = make_sample_run(tmp_path / "run", 1, iter1_pairs=lambda rows: [])
    run = make_sample_run(tmp_path / "fewer", 1, iter1_judgements=lambda rows: [], iter1_scores=lambda rows: [],
                          iter1_pairs=lambda rows: [])  # fmt: skip
    page = page_of(run.path)
    assert page.ids() == SECTIONS
    assert "There are no pairs yet." in page.text
    assert "Nothing has been judged yet." in page.text
    assert "not made" in page.text
    assert_queries_work(page, run.path)


def test_outdated_results_are_marked(old):
    import shutil

    from selfreward.config.run import load_config
    from selfreward.steps.pipeline import run_pipeline

    config = load_config(Path("config.yaml"), overrides=["pairs.rule=margin", "pairs.min_margin=0.5"])
    run_pipeline(config, old, until="iter1/pairs")
    shutil.rmtree(old / ".work", ignore_errors=True)
    page = page_of(old)
    assert "M2 (made from an earlier iter1/pairs)" in page.text
    assert page.text.count("OUTDATED") > 3


def test_the_page_is_written_in_under_three_seconds(tmp_path):
    run = make_sample_run(tmp_path / "run")
    report = report_run(run.path)
    started = time.monotonic()
    write_page(report)
    assert time.monotonic() - started < 3


@pytest.mark.parametrize("found", [True, False])
def test_open_shows_the_page_or_says_where_it_is(tmp_path, monkeypatch, capsys, found):
    import webbrowser

    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda address: opened.append(address) or found)
    run = make_sample_run(tmp_path / "run", 1)
    runs.report(run.path, open_page=True)
    page = run.path / "report.html"
    assert opened == [page.resolve().as_uri()]
    assert (f"no browser was found; the page is {page}" in capsys.readouterr().err) is not found


def test_charts_escape_their_words_and_put_numbers_where_they_belong():
    picture = chart("<b>", "y", [Series("a", [(0, 0), (1, 10)], "line", [(0, 1), None])], x_range=(0, 1), y_range=(0, 10),
                    levels=[Level("<i>", 5)])  # fmt: skip
    assert "<b>" not in picture
    assert "<i>" not in picture
    assert 'd="M58.0 206.0L446.0 12.0"' in picture  # the corners of the plane
    assert 'y1="109.0" y2="109.0"' in picture  # the level, half-way
    drawn = flow([("it", [Box("a", "1 row", "data"), Box("b", "0 rows", "data", ["−1 <u>"])])])
    assert "−1 &lt;u&gt;" in drawn


def test_a_secret_across_the_cut_of_a_long_text_shows_no_part_of_itself(monkeypatch):
    from selfreward.page.figures import MAX_CHARS, shown

    monkeypatch.setenv("CANARY_TOKEN", "canary-0123456789abcdef")
    text = "x" * (MAX_CHARS - 10) + "canary-0123456789abcdef" + "y" * MAX_CHARS
    assert "canary" not in shown(text)
