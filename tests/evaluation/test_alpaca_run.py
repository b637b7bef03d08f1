"""AlpacaEval from a model: answers and verdicts from scripts, files in alpaca-eval's formats, nothing asked twice."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml
from fake_openai_server import FakeServer
from typer.testing import CliRunner

from selfreward.cli import app
from selfreward.engines.base import EngineOptions, Request, Sampling
from selfreward.engines.openai.usage import Prices, Usage
from selfreward.engines.references import ModelRef, foreign
from selfreward.engines.registry import engine_options
from selfreward.engines.scripted import ScriptedEngine
from selfreward.errors import CapabilityError, CostLimitError, EngineError, InputError, UsageError
from selfreward.evaluation.alpaca.annotators import load_annotator
from selfreward.evaluation.alpaca.judge import annotator_name
from selfreward.evaluation.alpaca.run import AlpacaEval
from selfreward.evaluation.ask.models import Models
from selfreward.evaluation.ask.requests import EngineSettings, estimate_cost, open_model
from selfreward.evaluation.ask.results import figures
from selfreward.evaluation.measure import ask_for_rows, measure
from selfreward.statistics import drawn
from selfreward.store.run import Run
from selfreward.tables import Message

N = 6
RUBY_FIRST = r"(?s)=== Answer A ===\s+ruby"


def script(path, rules, **settings):
    path.write_text(yaml.safe_dump({"settings": settings, "rules": rules}))
    return f"scripted:{path}"


def reference_file(path, n=N):
    rows = [
        {
            "instruction": f"p{i}",
            "output": f"plain {i}",
            "generator": "ref",
            "dataset": ["koala", "oasst"][i % 2],
        }
        for i in range(n)
    ]
    path.write_text(json.dumps(rows))
    return path


@pytest.fixture
def job(tmp_path):
    """The model says `ruby` and a letter; the judge gives ruby 0.6 and the other 0.2 of its probability."""
    return AlpacaEval(
        reference=reference_file(tmp_path / "reference.json"),
        model=script(tmp_path / "model.yaml", [{"answers": ["ruby"]}], group_size=2),
        judge=script(
            tmp_path / "judge.yaml",
            [
                {"regex": RUBY_FIRST, "answers": ["A"], "choice_logprobs": {"A": -0.5108, "B": -1.6094}},
                {"answers": ["B"], "choice_logprobs": {"A": -1.6094, "B": -0.5108}},
            ],
        ),
        out=tmp_path / "out",
    )


def changed(job, **values):
    return replace(job, **values)


def test_a_model_is_answered_for_judged_and_summarised(job):
    """Every preference is 1 + 0.6 / 0.8 = 1.75, so the win rate is 75; all answers have 4 characters."""
    result = measure(job)
    assert (result.n_total, result.n_annotated, result.n_wins) == (N, N, N)
    assert result.win_rate == pytest.approx(75.0, abs=0.01)
    assert (result.avg_length, result.reference, result.model) == (4, "ref", "scripted:model.yaml")
    assert result.annotator == "selfreward_weighted:scripted:judge.yaml"


def test_the_files_are_in_alpaca_evals_formats(job):
    files = ask_for_rows(changed(job, model_name="My model"))
    outputs, rows = (json.loads(path.read_text()) for path in (files.outputs, files.annotations))
    assert files.outputs.name == "model_outputs.json"
    assert files.annotations.name == "annotations.json"
    assert outputs[0] == {"dataset": "koala", "instruction": "p0", "output": "ruby", "generator": "My model"}
    assert [row["instruction"] for row in rows] == [f"p{i}" for i in range(N)]
    assert rows[1]["output_1"], rows[1]["generator_2"] == ("plain 1", "My model")
    assert json.loads(files.reference.read_text())[0]["output"] == "plain 0"


def test_a_draw_of_the_prompts_shrinks_the_reference_too_and_is_said(job):
    """4 of 6 prompts: n_total is 4, and no prompt counts as unanswered."""
    result = measure(changed(job, n_max=4))
    assert (result.n_total, result.n_annotated, result.n_missing) == (4, 4, 0)
    assert any("4 of the 6 prompts of reference.json were drawn" in warning for warning in result.warnings)


def test_the_draw_does_not_depend_on_the_order_of_the_file():
    texts = [f"prompt {i}" for i in range(40)]
    assert drawn(texts, 10) == drawn(texts[::-1], 10)
    assert drawn(texts, 40) == set(texts)
    assert len(drawn(texts, 10)) == 10
    assert drawn(texts, 10) != set(texts[:10])


def test_given_answers_are_cut_to_the_draw_and_missing_ones_are_counted(job, tmp_path):
    outputs = tmp_path / "outputs.json"
    outputs.write_text(
        json.dumps([{"instruction": f"p{i}", "output": "ruby", "generator": "m"} for i in range(N - 1)])
    )
    given = changed(job, model=None, outputs=outputs)
    result = measure(given)
    assert (result.n_total, result.n_annotated, result.n_missing) == (N, N - 1, 1)
    drawn = measure(changed(given, n_max=2, out=tmp_path / "two"))
    assert drawn.n_total == 2
    outputs.write_text(json.dumps([{"instruction": "someone else's", "output": "x"}]))
    with pytest.raises(InputError, match="answers none of the 6 prompts"):
        ask_for_rows(given)
    outputs.write_text(json.dumps([{"instruction": t, "output": "x"} for t in ("p0", "other")]))
    with pytest.raises(InputError, match=r"1 row for a prompt that reference.json does not have .*'other'"):
        ask_for_rows(given)


def test_a_killed_run_goes_on_where_its_journal_ends(job, tmp_path):
    """The model dies before its third group of two; the second run asks for the last two answers only."""
    flag = tmp_path / "repaired"
    dying = script(
        tmp_path / "dying.yaml",
        [{"answers": [str(i) for i in range(N)], "pick": "position"}],
        group_size=2,
        faults=[{"at_group": 3, "message": "out of memory", "unless_exists": str(flag)}],
    )
    broken = changed(job, model=dying)
    with pytest.raises(EngineError, match="out of memory"):
        ask_for_rows(broken)
    flag.touch()
    files = ask_for_rows(broken)
    assert [row["output"] for row in json.loads(files.outputs.read_text())] == [str(i) for i in range(N)]


def test_a_second_run_in_the_same_folder_asks_nothing(job, monkeypatch):
    """And with both orders only the other order of each pair."""
    asked = []
    complete = ScriptedEngine._complete
    monkeypatch.setattr(ScriptedEngine, "_complete", lambda *a: asked.append(a) or complete(*a))
    first = measure(job)
    assert len(asked) == 2 * N
    assert measure(job).to_dict() == first.to_dict()
    assert len(asked) == 2 * N
    ask_for_rows(changed(job, both_orders=True))
    assert len(asked) == 3 * N


def test_a_failed_request_is_asked_again_by_the_next_run_only(tmp_path):
    """The server fails twice over two runs, and answers in the third; what succeeded is never asked again."""
    request = Request("r", (Message("user", "hello"),), Sampling())
    other = Request("o", (Message("user", "other"),), Sampling())
    ref = ModelRef("m", "", "0" * 64, None)

    def ask(rules):
        target = script(tmp_path / "s.yaml", rules)
        with open_model(
            ModelRef(ref.name, target, ref.content_sha256, None), tmp_path / "work", "x", EngineSettings()
        ) as asked:
            found = asked.complete([request, other], "")
            return found["r", 0].text, found["o", 0].text, asked.notes().engine_errors

    down = {"contains": "hello", "error": "busy"}
    assert ask([down, {"answers": ["first"]}]) == ("", "first", 1)
    assert ask([down, {"answers": ["second"]}]) == ("", "first", 1)
    assert ask([{"answers": ["third"]}]) == ("third", "first", 0)
    assert ask([down, {"answers": ["fourth"]}]) == ("third", "first", 0)


def test_failed_samples_are_asked_again_alone(tmp_path):
    """Of three samples the script fails those at even positions, later all answer; sample 1 keeps its first answer."""
    request = Request("r", (Message("user", "hello"),), Sampling(), n=3)

    def ask(rules):
        target = script(tmp_path / "s.yaml", rules)
        with open_model(
            ModelRef("m", target, "1" * 64, None), tmp_path / "work", "x", EngineSettings()
        ) as asked:
            return [asked.complete([request], "")["r", s].text for s in range(3)]

    assert ask([{"error": "down"}]) == ["", "", ""]
    assert ask([{"answers": ["a"]}]) == ["a", "a", "a"]
    assert ask([{"answers": ["b"]}]) == ["a", "a", "a"]


def test_a_lost_answer_is_missing_and_a_lost_verdict_is_counted(job, tmp_path):
    model = script(tmp_path / "m.yaml", [{"contains": "p2", "error": "too long"}, {"answers": ["ruby"]}])
    judge = script(
        tmp_path / "j.yaml",
        [
            {"contains": "p4", "answers": ["Both"]},
            {"answers": ["A"], "choice_logprobs": {"A": -0.1, "B": -3.0}},
        ],
    )
    lossy = changed(job, model=model, judge=judge)
    files = ask_for_rows(lossy)
    assert json.loads(files.outputs.read_text())[2]["output"] is None
    result = measure(lossy)
    assert (result.n_total, result.n_annotated, result.n_missing, result.n_lost) == (
        N,
        N - 2,
        1,
        {"no_score": 1},
    )
    with pytest.raises(InputError, match="strict"):
        measure(changed(lossy, strict=True))


def test_a_judge_without_log_probabilities_is_refused_before_it_is_asked(job, tmp_path):
    mute = script(tmp_path / "mute.yaml", [{"answers": ["A"]}], capabilities={"logprobs": False})
    with pytest.raises(CapabilityError, match="gives no log-probabilities"):
        ask_for_rows(changed(job, judge=mute))
    text = script(tmp_path / "text.yaml", [{"answers": ["(a)"]}], capabilities={"logprobs": False})
    result = measure(changed(job, judge=text, annotator="selfreward_pairwise", both_orders=True))
    assert (result.win_rate, result.n_disagree) == (50.0, N)


def test_a_constant_answer_is_judged_on_request(job):
    """The constant answer is never `ruby`: the judge gives it 0.2 of 0.8, a quarter, where it is shown first too."""
    files = ask_for_rows(changed(job, judge_constant=True))
    constant = {b.name: b for b in measure(changed(job, judge_constant=True)).baselines}["constant answer"]
    assert constant.win_rate is not None
    assert "6 of 6 judged" in constant.basis
    rows = json.loads(files.constant.read_text())
    assert {row["output_2"] for row in rows} == {"I am sorry, but I cannot help with that."}


def test_the_longer_answer_baseline_follows_from_the_verdicts(job, tmp_path):
    """`ruby` (4 characters) is never longer than `plain 0` (7): the longer answer is the reference, 50 %.

    Answers of 10 characters always are longer, and win 0.75 each.
    """

    def longer(settings):
        return {b.name: b.win_rate for b in measure(settings).baselines}["longer answer"]

    assert longer(job) == 50.0
    long = script(tmp_path / "long.yaml", [{"answers": ["ruby ruby!"]}])
    assert longer(changed(job, model=long, out=tmp_path / "long")) == pytest.approx(75.0, abs=0.01)


def test_the_configurations_own_model_needs_no_name_of_its_own():
    """alpaca-eval's GPT-4 Turbo configuration with GPT-4 Turbo behind it is the leaderboard's judge."""
    official = load_annotator("weighted_alpaca_eval_gpt4_turbo")
    turbo = foreign("openai:https://api.example/v1#gpt-4-1106-preview")
    assert annotator_name(official, turbo) is None
    assert annotator_name(official, foreign("openai:https://api.example/v1#gpt-4.1")) == "openai:gpt-4.1"


def test_nothing_is_written_outside_the_folder(job, tmp_path):
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    ask_for_rows(job)
    fresh = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert all(path.is_relative_to(job.out) for path in fresh)
    assert {path.name for path in job.out.iterdir()} >= {
        "model_outputs.json",
        "annotations.json",
        "reference.json",
    }


# -- money ---------------------------------------------------------------------------------------------------


def test_an_estimate_is_worked_out_from_prompts_and_limits():
    """400 bytes are 100 tokens at 4 bytes; 2 samples of at most 50: at 1 in and 10 out per million,
    least 100e-6 + 2 * 10e-6 = 0.00012, most (400 + 16) / 2 tokens = 208e-6, and 100 * 10e-6 = 0.001: 0.001208."""
    request = Request("r", (Message("user", "x" * 400),), Sampling(max_tokens=50), n=2)
    found = estimate_cost([request], Usage(Prices(1.0, 10.0)), has_prices=True)
    assert (found.n_requests, found.n_prompt_tokens, found.n_new_tokens) == (1, 100, 100)
    assert found.least == pytest.approx(0.00012)
    assert found.most == pytest.approx(0.001208)
    assert "no prices given" in estimate_cost([request], Usage(), has_prices=False).sentence("judge")


def openai_job(job, server, *prices, max_cost=None):
    return changed(
        job,
        judge=f"openai:{server.url}#gpt-test",
        annotator="selfreward_pairwise",
        judge_engine=prices,
        max_cost=max_cost,
    )


def test_a_priced_judge_is_estimated_before_the_first_request_and_held_to_the_limit(job, capsys):
    """Six prompts of about 200 tokens at 1000 a million cost at least 1: nothing goes out for 0.01."""
    prices = ("price_per_million_in=1000", "price_per_million_out=1000")
    with FakeServer() as server:
        with pytest.raises(CostLimitError, match="nothing was sent"):
            ask_for_rows(openai_job(job, server, *prices, max_cost=0.01))
        assert server.bodies == []
        ask_for_rows(openai_job(job, server, *prices, max_cost=100.0))
        assert len(server.bodies) == N
        assert "cost " in capsys.readouterr().err
        with pytest.raises(CostLimitError, match=r"0\.09 of --max-cost"):
            ask_for_rows(openai_job(changed(job, both_orders=True), server, *prices, max_cost=0.1))


def test_a_limit_without_prices_is_refused(job):
    with (
        FakeServer() as server,
        pytest.raises(UsageError, match="--max-cost needs the prices of openai:gpt-test"),
    ):
        ask_for_rows(openai_job(job, server, max_cost=1.0))


def test_engine_options_are_read_from_key_value_pairs():
    found = engine_options(["batch_size=4", "dtype=float32", "price_per_million_in=2.5"])
    assert found == EngineOptions(batch_size=4, dtype="float32", extra={"price_per_million_in": 2.5})
    with pytest.raises(UsageError, match="expected KEY=VALUE"):
        engine_options(["batch_size"])


# -- command line --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cli():
    from selfreward.evaluation.cli import evaluate, register

    if not evaluate.registered_commands:
        register(app)
    return lambda *arguments: CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def test_the_command_prints_the_row_and_its_json_has_the_contracts_keys(job, cli):
    arguments = ["alpaca", "--reference", job.reference, "--model", job.model, "--judge", job.judge]
    text = cli(*arguments, "--out", job.out).stdout
    assert "75.00" in text
    assert "No leaderboard beside it" in text
    found = json.loads(cli(*arguments, "--out", job.out, "--json").stdout)
    keys = "model n_total n_annotated win_rate standard_error discrete_win_rate n_wins n_wins_base n_draws avg_length"
    assert list(found)[:10] == keys.split()
    assert list(found)[10:13] == ["length_controlled_winrate", "lc_standard_error", "lc_method"]
    again = ["alpaca", "--reference", job.out / "reference.json", "--outputs", job.out / "model_outputs.json"]
    from_files = json.loads(cli(*again, "--annotations", job.out / "annotations.json", "--json").stdout)
    assert from_files == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "either --outputs FILE or --model MODEL", id="nobody"),
        pytest.param(["--model", "hf:x"], "--judge MODEL --out DIR", id="no judge"),
        pytest.param(
            ["--model", "hf:x", "--annotations", "a"], "give --outputs FILE", id="verdicts on no answers"
        ),
    ],
)
def test_wrong_use_is_one_sentence(job, cli, arguments, message):
    result = cli("alpaca", "--reference", job.reference, *arguments)
    assert isinstance(result.exception, UsageError)
    assert message in str(result.exception)


def test_a_row_is_merged_into_a_leaderboard(job, cli, tmp_path):
    board = tmp_path / "board.csv"
    board.write_text(
        ",win_rate,avg_length,length_controlled_winrate,n_total\nold,80.0,100,50.0,805\nolder,1.0,9,1.0,805\n"
    )
    text = cli("alpaca", "--reference", job.reference, "--model", job.model, "--judge", job.judge,
               "--out", job.out, "--leaderboard", board, "--sort", "win_rate").stdout  # fmt: skip
    lines = [line for line in text.splitlines() if line.startswith(("old", ">"))]
    assert [line.split()[0] for line in lines] == ["old", ">", "older"]
    rows = json.loads(
        cli("leaderboard", "--leaderboard", board, "-n", "1", "--sort", "win_rate", "--json").stdout
    )
    assert [row["model"] for row in rows["rows"]] == ["old"]
    assert len(rows["sha256"]) == 64


def test_results_become_tables_of_a_run_and_the_same_evaluation_replaces_its_rows(job, cli, tmp_path):
    """By source: koala (p0, p2, p4) and oasst (p1, p3, p5), all at 75 %."""
    Run.create(tmp_path / "run")
    arguments = [
        "alpaca",
        "--reference",
        job.reference,
        "--judge",
        job.judge,
        "--run",
        tmp_path / "run",
    ]
    for _ in range(2):
        assert cli(*arguments, "--model", job.model, "--out", job.out).exception is None
    other = script(tmp_path / "other.yaml", [{"answers": ["grey"]}])
    assert cli(*arguments, "--model", other, "--out", tmp_path / "o2").exception is None
    run = Run(tmp_path / "run")
    assert run.current("alpaca_annotations").n_rows == 2 * N
    by_figure = {row["figure"]: row for row in figures(run) if row["model"] == "scripted:model.yaml"}
    assert by_figure["win_rate"]["value"] == pytest.approx(75.0, abs=0.01)
    assert by_figure["avg_length"]["value"] == 4.0

    from selfreward.sql.views import open_run

    with open_run(tmp_path / "run") as opened:
        rows = opened.sql(
            "SELECT dataset, round(100 * avg(preference - 1)), count(*) FROM alpaca_annotations "
            "WHERE model = 'scripted:model.yaml' GROUP BY ALL ORDER BY ALL"
        ).fetchall()
    assert rows == [("koala", 75.0, 3), ("oasst", 75.0, 3)]


def test_a_runs_model_without_a_run_is_refused():
    with pytest.raises(UsageError, match="'M2' is a model of a run: add --run RUN"):
        Models().ref("M2")
