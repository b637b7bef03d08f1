"""RUN/report.html: one page that runs nothing, loads nothing, and whose figures name the SQL that gives them."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import shutil
import subprocess
import tarfile
import time
from dataclasses import replace
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from sample_run import make_sample_run, publish_rows
from scripted_run import config_for, write_script

from selfreward.cli import runs
from selfreward.evaluation.ask.results import FIGURES, Evaluation, EvaluationFigure, publish
from selfreward.judging.audits.runner import run_audits
from selfreward.page.bins import bar_width
from selfreward.page.by_model import ModelFigure, by_model, change
from selfreward.page.figures import Panel, shown
from selfreward.page.svg import Chart, Level, Series
from selfreward.page.write import page_of as made_page
from selfreward.page.write import write_page
from selfreward.sql.views import open_run
from selfreward.steps.pipeline import run_pipeline
from selfreward.summary.report import report_run
from selfreward.tables import Message, Pair

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.tar.gz"
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'>{{ 7*7 }} \x00\x1b[31m\u202eevil"
PAGE_FILES = Path(__file__).parents[2] / "selfreward" / "page"
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


def digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def assert_inert(page: Page) -> None:
    """Our own script and style by hash, no handler, nothing loaded from anywhere, and a policy that would forbid it."""
    names = {tag for tag, _ in page.tags}
    assert not names & {
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
    style, script = (
        re.findall(rf"<{tag}>(.*?)</{tag}>", page.html, re.DOTALL) for tag in ("style", "script")
    )
    assert (len(style), len(script), [t for t, _ in page.tags].count("script")) == (1, 1, 1)
    assert script[0] == (PAGE_FILES / "page.js").read_text("utf-8")
    assert policy == (
        f"default-src 'none'; style-src 'sha256-{digest(style[0])}'; script-src 'sha256-{digest(script[0])}'; "
        "base-uri 'none'; form-action 'none'"
    )
    style = style[0]
    assert "url(" not in style
    assert "@import" not in style


# Columns that no query of the run gives: the paper's, and shares of the figure in the row above.
NOT_OF_THE_RUN = ("paper", "paper %", "% of the first")


def numbers_in(value: object) -> list[float]:
    """All numbers in a result, those in its lists and JSON texts included."""
    if isinstance(value, bool) or value is None:
        return []
    if isinstance(value, int | float | Decimal):
        return [float(value)]
    if isinstance(value, str):
        try:
            return numbers_in(json.loads(value))
        except ValueError:
            return []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [number for part in parts for number in numbers_in(part)]


def numbers_shown(panel: Panel) -> list[float]:
    """The numbers of a figure: what is drawn of this run, and the cells of its table."""
    shown_here = []
    for one in panel.chart.series if panel.chart else ():
        if not one.guide and one.label != "the paper":
            shown_here += [y for _, y in one.points] + [end for ends in one.intervals if ends for end in ends]
    for row in panel.rows:
        shown_here += [
            float(cell)
            for name, cell in zip(panel.head, row, strict=True)
            if isinstance(cell, int | float) and not isinstance(cell, bool) and name not in NOT_OF_THE_RUN
        ]
    return shown_here


def assert_queries_work(page: Page, run: Path) -> None:
    """Every query on the page is accepted, and gives each number of its figure."""
    assert page.queries
    with open_run(run) as opened:
        for query in page.queries:
            opened.sql(query).fetchall()
        for panel in made_page(report_run(run)).panels:
            wanted = numbers_shown(panel)
            given = [n for query in panel.queries for n in numbers_in(opened.sql(query).fetchall())]
            missing = [n for n in wanted if not any(math.isclose(n, g, rel_tol=1e-9) for g in given)]
            assert not missing, f"{panel.title}: its SQL does not give {missing}"


def test_the_page_of_a_trained_run_has_every_section_in_order_and_its_queries_work(old):
    page = page_of(old)
    assert page.ids() == SECTIONS
    targets = {a["id"] for _, a in page.tags if a.get("id")}
    links = [a["href"][1:] for tag, a in page.tags if tag == "a"]
    assert set(links) <= targets
    assert {"rows-seeds", "rows-prompts", "rows-judgements", "pairs", "training"} <= set(links)
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
    from selfreward.config.files import load_config
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
    # Of the processor, all threads together: at least the time on the clock of an idle machine.
    started = time.process_time()
    write_page(report)
    assert time.process_time() - started < 3


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
    chart = Chart("<b>", "y", [Series("a", [(0, 0), (1, 10)], "line", [(0, 1), None])], x_range=(0, 1), y_range=(0, 10),
                  levels=[Level("<i>", 5)])  # fmt: skip
    for picture in (str(chart.inline()), chart.file("<u>")):
        assert not re.search("<[biu]>", picture)
        assert 'd="M58.0 206.0L432.0 16.0"' in picture  # the corners of the plane
        assert 'y1="111.0" y2="111.0"' in picture  # the level, half-way


def test_a_label_from_a_row_breaks_no_picture():
    """`<` closes nothing, and a control character, which XML forbids, is written out."""
    chart = Chart("x", "y", [Series(HOSTILE, [(0, 1)], "bars"), Series("b", [(0, 2)])], [HOSTILE])
    root = ElementTree.fromstring(chart.file(HOSTILE))
    assert {element.tag.rpartition("}")[2] for element in root.iter()} <= {
        "svg", "title", "style", "rect", "text", "g", "path", "line", "circle",
    }  # fmt: skip
    assert "\\u001b[31m" in root.findtext("{http://www.w3.org/2000/svg}title")


def test_a_picture_in_a_file_stands_alone():
    chart = Chart(
        "model", "%", [Series("this run", [(0, 1)]), Series("the paper", [(0, 2)], "dashed")], ["M0"]
    )
    root = ElementTree.fromstring(chart.file("Win rate"))
    texts = [element.text for element in root.iter() if element.text]
    assert {"Win rate", "this run", "the paper", "M0", "model", "%"} <= set(texts)
    assert "--c0" in next(text for text in texts if ":root" in text)
    assert "href" not in chart.file("Win rate")


def test_bars_fall_below_zero_where_values_do():
    """The axis reaches from -1.16 to 1.16; zero is in the middle of 16 to 206, and -1 below it."""
    picture = str(Chart("m", "y", [Series("a", [(0, 1), (1, -1)], "bars")], ["M1", "M2"]).inline())
    tops = [float(top) for top in re.findall(r'<rect class="c0" x="[\d.]+" y="([\d.]+)"', picture)]
    assert tops[0] == pytest.approx(111 - 95 / 1.16, abs=0.1)
    assert tops[1] == pytest.approx(111, abs=0.1)


@pytest.mark.parametrize(
    ("n", "low", "high", "whole", "width"),
    [
        pytest.param(9, 3, 548, True, 100, id="few rows give few bars: 545 / 6 is 91"),
        pytest.param(10_000, 3, 512, True, 20, id="at most 40 bars: 509 / 40 is 13"),
        pytest.param(400, 1, 40, True, 2, id="39 / 20 is just under 2"),
        pytest.param(200, 0, 33, True, 5, id="2.5 would hold two and three whole numbers in turn"),
        pytest.param(900, 1.0, 4.0, False, 0.1, id="fractions"),
        pytest.param(50, 1, 14, True, 2, id="13 / 8 is 1.6"),
    ],
)
def test_the_width_of_a_bar_is_round_and_grows_with_few_rows(n, low, high, whole, width):
    assert bar_width(n, low, high, whole) == pytest.approx(width)


def test_every_row_is_in_a_bar(tmp_path):
    run = make_sample_run(tmp_path / "run", 1)
    panels = {panel.id: panel for panel in made_page(report_run(run.path)).panels}
    for id, rows in (("iter1-lengths", 96), ("iter1-scores", 288), ("iter1-mean-scores", 96)):
        assert sum(n for _, n in panels[id].chart.series[0].points) == rows


def figure_of(model: str, value: float, low: float, high: float) -> ModelFigure:
    return ModelFigure(model, "this run", value, low, high, 10)


def test_the_last_model_is_set_beside_the_first():
    up = [figure_of("M0", 40, 30, 45), figure_of("M1", 50, 46, 60)]
    assert change(up, "points") == "From M0 to M1 it changed by +10.0 points; the intervals are apart."
    assert "overlap, so chance alone can explain it" in change([up[0], figure_of("M1", 44, 41, 60)], "points")
    assert change(up[:1], "points") == ""


def test_the_papers_curve_never_stands_alone():
    assert by_model("%", [ModelFigure("M1", "this run", None)], paper={"M1": 78.7}) is None
    drawn = by_model("%", [figure_of("M1", 50, 40, 60)], paper={"M1": 78.7, "M2": 80.4})
    assert [(one.label, list(one.points)) for one in drawn.series] == [
        ("this run", [(0.0, 50)]),
        ("the paper", [(0.0, 78.7)]),
    ]


def test_what_evaluate_added_is_shown_by_model_with_its_intervals(tmp_path):
    run = make_sample_run(tmp_path / "run", 1)
    for model, value in (("hf:base@0123456789abcdef", 20.0), ("M1@0123456789ab", 30.0)):
        evaluation = Evaluation("rules", model, None, None, "40 prompts with rules", 40, {})
        rows = [
            evaluation.figure("rules kept", value, low=value - 5, high=value + 5, n=40, of="prompts"),
            evaluation.figure("rules kept", value / 2, part="format", n=10, of="prompts"),
        ]
        publish(run, evaluation, {FIGURES: (rows, EvaluationFigure)})
    page = page_of(run.path)
    panel = next(p for p in made_page(report_run(run.path)).panels if p.id == "evaluated-1")
    # This run has no M1, so the figure is of a model that is gone.
    assert panel.chart.names == ["hf:base", "M1 OUTDATED"]
    assert panel.chart.series == [
        Series("rules kept", [(0.0, 20.0), (1.0, 30.0)], "line", [(15.0, 25.0), (25.0, 35.0)])
    ]
    assert panel.changed == (
        "From hf:base to M1 OUTDATED it changed by +10.0 points; the intervals overlap, so chance alone can explain it."
    )
    assert "Answers checked by rules" in page.text
    assert_queries_work(page, run.path)


def test_each_section_shows_five_real_rows_kept_and_dropped(tmp_path):
    run = make_sample_run(tmp_path / "run")
    sections = {
        part.id: {rows.id: rows for rows in part.rows} for part in made_page(report_run(run.path)).sections
    }
    assert list(sections["data"]) == [
        "rows-seeds", "rows-ift", "rows-eft", "rows-prompts", "rows-prompts-dropped", "rows-candidates",
    ]  # fmt: skip
    assert list(sections["judge"]) == ["rows-judgements", "rows-scores"]
    for rows in (rows for groups in sections.values() for rows in groups.values()):
        assert len(rows.rows) == 5, rows.id
        assert rows.title.startswith("Five ")
    prompt = sections["data"]["rows-prompts"].rows[0]
    stored = {row["prompt_id"]: row for row in run.current("iter2/prompts").table().to_pylist()}[prompt.title]
    assert prompt.texts == [("prompt", stored["prompt"])]
    shown_to_it = [row.title for row in prompt.folds[0].rows]
    assert shown_to_it == stored["demonstration_ids"]
    dropped = sections["data"]["rows-prompts-dropped"].rows[0]
    assert ("reason", "not_novel") in dropped.facts
    judgement = sections["judge"]["rows-judgements"].rows[0]
    assert {"score", "status", "injection suspected"} <= {name for name, _ in judgement.facts}
    assert [fold.said for fold in judgement.folds] == ["the answer that it judges", "the prompt"]


def test_imported_pairs_show_their_answers_though_nothing_led_to_them(tmp_path):
    run = make_sample_run(tmp_path / "run", 1, iter1_candidates=lambda rows: [], iter1_judgements=lambda rows: [],
                          iter1_scores=lambda rows: [], iter1_pairs=lambda rows: [])  # fmt: skip
    pair = Pair("pair-1", 1, "p-1", [Message("user", "Why?")], [Message("assistant", "Because.")],
                [Message("assistant", "No.")], "c-1", "c-2", 5.0, 1.0, 4.0, "mine")  # fmt: skip
    publish_rows(run, "iter1/pairs", Pair, [pair])
    shown_pair = (
        next(part for part in made_page(report_run(run.path)).sections if part.id == "pairs").rows[0].rows[0]
    )
    assert [(row.title, row.texts[0][1]) for row in shown_pair.beside] == [
        ("chosen", "Because."),
        ("rejected", "No."),
    ]


def test_every_figure_of_a_run_that_measures_everything_is_shown(tmp_path):
    """Scored judges, rules, alpaca-eval and scores of all kinds: none may stand as `Cannot be shown`."""
    config = config_for(
        write_script(tmp_path / "script.yaml"),
        evaluate={"alpaca": {"mode": "text"}, "rules": {"n_max": 8}, "judge": {"samples": 2}},
    )
    run_pipeline(config, tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert "Scores of the same replies, by judge" in page.text
    assert "Rules kept" in page.text
    assert "Win rate" in page.text
    assert "Cannot be shown" not in page.text
    assert_queries_work(page, tmp_path / "run")


def test_a_damaged_dataset_is_named_and_the_others_stay(tmp_path, capsys):
    run = make_sample_run(tmp_path / "run", 1)
    file = next(run.current("iter1/candidates").folder.glob("*.arrow"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(typer.Exit) as ended:
        runs.report(run.path)
    assert ended.value.exit_code == 1
    printed = capsys.readouterr().out
    assert "DAMAGED, and left out of everything below:\n  iter1/candidates: " in printed
    page = Page(run.path / "report.html")
    assert "iter1/candidates is damaged and is not shown: " in page.text
    assert "Scores, iteration 1" in page.text
    assert "Lengths of candidates" not in page.text
    assert "Cannot be shown" not in page.text
    # None of them touches the damaged one, so each still answers.
    with open_run(run.path) as opened:
        for query in page.queries:
            opened.sql(query).fetchall()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_script_is_one_that_a_browser_accepts():
    subprocess.run(["node", "--check", PAGE_FILES / "page.js"], check=True, timeout=60)


def test_a_secret_across_the_cut_of_a_long_text_shows_no_part_of_itself(monkeypatch):
    from selfreward.page.figures import MAX_CHARS, shown

    monkeypatch.setenv("CANARY_TOKEN", "canary-0123456789abcdef")
    text = "x" * (MAX_CHARS - 10) + "canary-0123456789abcdef" + "y" * MAX_CHARS
    assert "canary" not in shown(text)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_the_script_runs_under_the_policy_and_adds_sorting_and_filtering(tmp_path):
    """A browser's own view of the page: without the script there is neither a button nor a field."""
    run = make_sample_run(tmp_path / "run", 1)
    page = write_page(report_run(run.path))
    assert not {"button", "input"} & {tag for tag, _ in Page(page).tags}
    command = [
        "chromium",
        "--headless",
        "--no-sandbox",
        f"--user-data-dir={tmp_path}/browser",
        "--dump-dom",
        page.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.count("<button") > 5
    assert 'type="search"' in done.stdout
