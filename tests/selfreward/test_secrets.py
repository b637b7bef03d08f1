"""Secrets of the environment and of the configuration come out nowhere: messages, rows, manifests, cards, pushes."""

# ruff: noqa: F811
from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import yaml
from hub_fixtures import client, hub, patience  # noqa: F401
from published_run import LICENCE, make_published_run
from sample_run import make_sample_run
from scripted_run import config_for, write_script

from selfreward.config.run import RunConfig
from selfreward.data_cards.cards.redact import public_config, public_text
from selfreward.data_cards.hub.account import connect
from selfreward.data_cards.hub.failures import HubError
from selfreward.data_cards.hub.pull import pull
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.publish import PublishOptions, dry_run, publish
from selfreward.engines.base import Completion
from selfreward.errors import UsageError
from selfreward.secrets import found_in, mask, mask_tree, mask_values
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import is_model

KEY = "canary-key-0123456789"


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv("SELFREWARD_API_KEY", KEY)


# ---------------------------------------------------------------------------------- masking


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MY_KEY", "abc12345"),
        ("my_token_2", "hunter22"),
        ("DB_PASSWORD", "p@ss/word 1"),
        ("CLIENT_SECRET", 'quo"te-12'),
        ("API_KEY", "/not/a/file/of/this/machine"),
    ],
)
def test_values_of_secret_variables_are_masked_however_they_are_written(monkeypatch, variable, value):
    import json
    from urllib.parse import quote

    monkeypatch.setenv(variable, f" {value}\n")
    for written in (value, quote(value, safe=""), json.dumps({"sent": value})):
        assert mask_values(f"<{written}>").count("***") == 1
        assert found_in(written.encode()) == variable
    assert "***" in str(UsageError(f"sent {value}"))


@pytest.mark.parametrize(
    ("variable", "value"),
    [("MY_KEY", "short"), ("MY_TOKEN", "required"), ("KEY_FILE", __file__), ("EDITOR", "some-editor-42")],
)
def test_what_is_no_secret_is_left(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    assert mask(f"it is {value}") == f"it is {value}"


def test_the_longer_of_two_secrets_goes_first(monkeypatch):
    monkeypatch.setenv("A_KEY", "abcdefg1")
    monkeypatch.setenv("B_KEY", "abcdefg1-and-more")
    assert mask("abcdefg1-and-more abcdefg1") == "*** ***"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://ann:p@ss@host/x", "https://***@host/x"),
        ("http://h/?a=1&API-Key=abc&b=2", "http://h/?a=1&API-Key=***&b=2"),
        ("http://h/x?sig=abc", "http://h/x?sig=***"),
        ("http://h/x?X-Amz-Signature=abc#y", "http://h/x?X-Amz-Signature=***#y"),
        ("http://h/x?access_token=abc", "http://h/x?access_token=***"),
        ("Authorization: Bearer abcdefgh12", "Authorization: Bearer ***"),
        ("http://h/sk-0123456789abcdef/v1", "http://h/***/v1"),
        ("2 < 3, max_tokens=5, design=7, a@b.c", "2 < 3, max_tokens=5, design=7, a@b.c"),
    ],
)
def test_logins_signed_queries_and_tokens_are_masked_in_messages(text, shown):
    assert mask(text) == shown


def test_masking_a_hostile_megabyte_takes_no_time():
    import time

    started = time.monotonic()
    mask("?" + "key" * 350_000 + " ://" + "a" * 1_000_000 + "sk-" * 300_000)
    assert time.monotonic() - started < 5


def test_settings_lose_secrets_by_value_and_by_name():
    settings = {"body": {"api_key": "unknown-to-the-environment", "top_k": 5}, "urls": [f"http://h/{KEY}"]}
    assert mask_tree(settings) == {"body": {"api_key": "***", "top_k": 5}, "urls": ["http://h/***"]}
    assert mask_tree({"max_tokens_field": "max_completion_tokens"}) == {
        "max_tokens_field": "max_completion_tokens"
    }


def test_an_answer_that_merely_looks_like_a_secret_is_data():
    text = "Call http://ann:pw@host/?token=abc with sk-0123456789abcdef."
    assert Completion("a", 0, text, "stop", 9).text == text
    assert Completion("a", 0, f"Your key is {KEY}.", "stop", 9).text == "Your key is ***."
    assert KEY not in Completion("a", 0, "", "error", 0, error=f"sent {KEY}").error


# ---------------------------------------------------------------------------------- through a run


def test_the_key_in_the_configuration_reaches_no_manifest_and_no_row(tmp_path):
    script = write_script(tmp_path / "script.yaml")
    config = config_for(script, engine={"extra": {"body": {"api_key": KEY}, "note": f"x{KEY}"}})
    run = tmp_path / "run"
    run_pipeline(config, run, until="iter1/candidates")
    written = [p for p in run.rglob("*") if p.is_file() and p.name != "config.yaml"]
    assert len(written) > 10
    assert [p for p in written if KEY.encode() in p.read_bytes()] == []


def test_messages_of_the_command_line_hold_no_secret_whoever_wrote_them(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(f"model: 'openai:https://ann:pw12@host/v1?api-key={KEY}'\nseed: {KEY}\n")
    for arguments in (["run", str(path)], ["--debug", "run", str(path)], ["run", f"{path}-{KEY}\x1b[31m"]):
        done = subprocess.run(
            [sys.executable, "-P", "-m", "selfreward", *arguments], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert KEY not in done.stdout + done.stderr
        assert "pw12" not in done.stdout + done.stderr
        assert "\x1b" not in done.stderr


# ---------------------------------------------------------------------------------- publishing

CANARIES = {
    "model": "openai:https://ann:CANARY01@host.example/v1/CANARY02?api-key=CANARY03&sig=CANARY04#tiny",
    "judging": {
        "judge": "openai:http://other.example/CANARY05/v1#judge",
        "template": "C:\\Users\\CANARY06\\rubric.txt",
    },
    "prompts": {
        "evaluation_sets": [
            "file:///home/CANARY07/sets.json",
            "../CANARY08/sets.json",
            "\\\\CANARY09\\s.json",
        ]
    },
    "pairs": {"rule": "~/CANARY10/rule.sql"},
    "run": "/home/CANARY11/runs/run",
    "engine": {
        "extra": {
            "prefix": True,
            "temperature_note": "CANARY12",
            "body": {"api_key": KEY, "top_k": 5, "user": "CANARY13"},
            "ray": {"actors": 2, "runtime_env": {"env_vars": {"X": "CANARY14"}}},
            "openai": {"body": {"extra_headers": {"Authorization": "CANARY15"}}},
            "quantization": "CANARY-16-which-is-no-word",
        }
    },
}


def canary_run(path, **changes):
    run = make_published_run(path)
    (path / "config.yaml").write_text(yaml.safe_dump(CANARIES | changes))
    return run


def options(hub=None, **changes):
    given = {
        "license": LICENCE,
        "model_license": LICENCE,
        "endpoint": hub.url if hub else None,
        "gate": False,
    }
    return PublishOptions("ann/x", **given | changes)


def test_nothing_private_of_a_configuration_is_published(tmp_path):
    """Sixteen canaries, the key among them; what servers have in common and harmless settings stay."""
    canary_run(tmp_path / "run")
    folders = dry_run(tmp_path / "run", options(models=True), tmp_path / "dry")
    files = [p for folder in folders for p in folder.rglob("*") if p.is_file()]
    assert [p for p in files if b"CANARY" in p.read_bytes() or KEY.encode() in p.read_bytes()] == []
    text = (tmp_path / "dry" / "selfreward" / "config.yaml").read_text()
    published = yaml.safe_load(text)
    assert published["model"] == "openai:https://host.example/v1#tiny"
    assert published["judging"]["judge"] == "openai:http://other.example/v1#judge"
    assert published["judging"]["template"] == "rubric.txt"
    assert published["prompts"]["evaluation_sets"] == ["sets.json", "sets.json", "s.json"]
    assert published["engine"]["extra"] == {
        "prefix": True,
        "body": {"top_k": 5},
        "ray": {"actors": 2},
        "openai": {"body": {}},
    }
    assert text.startswith(
        "# not published: engine.extra.body.api_key, engine.extra.body.user, engine.extra.openai.body"
    )


def test_a_model_name_a_hub_name_and_a_relative_run_folder_are_published_as_they_are():
    config = RunConfig.model_validate(
        {"model": "hf:org/name-7b", "seeds": {"source": "OpenAssistant/oasst1"}, "run": "runs/demo"}
    )
    assert public_config(config) == config


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("in C:\\Users\\ann\\x.txt and ../a/b", "in x.txt and b"),
        ("3/4 of them, a/b, and 1 / 2", "3/4 of them, a/b, and 1 / 2"),
        ("file:///home/ann/x.jsonl, ~/y/z", "x.jsonl, z"),
    ],
)
def test_paths_within_a_message_lose_their_folders(text, shown):
    assert public_text(text) == shown


def test_a_secret_in_rows_stops_the_push_and_the_dataset_is_named(hub, tmp_path, patience):
    """Parquet is packed, so the rows are searched in the store."""
    run = make_sample_run(
        tmp_path / "run",
        iterations=1,
        ift=lambda rows: [replace(rows[0], response=f"The key is {KEY}."), *rows[1:]],
    )
    for act in (
        lambda: publish(run.path, options(hub), patience),
        lambda: dry_run(run.path, options(), tmp_path / "dry"),
    ):
        with pytest.raises(
            HubError, match=r"^ift, .*arrow: holds the value of SELFREWARD_API_KEY; nothing was sent"
        ) as e:
            act()
        assert KEY not in str(e.value)
    assert hub.changes == []


def test_a_secret_in_a_manifest_stops_the_push(tmp_path, monkeypatch):
    run = make_published_run(tmp_path / "run")
    named = next(run.current(name) for name in run.names() if not is_model(name))
    monkeypatch.setenv("OTHER_SECRET", named.key[:24])
    with pytest.raises(HubError, match=r"holds the value of OTHER_SECRET"):
        dry_run(run.path, options(), tmp_path / "dry")


def test_the_login_of_the_hub_stands_in_no_message_and_no_card(hub, tmp_path, patience):
    run = make_published_run(tmp_path / "run")
    endpoint = hub.url.replace("://", "://ann:hub-pw@")
    assert HubRepo(connect(endpoint), "ann/x", "dataset").url == f"{hub.url}/datasets/ann/x"
    dry_run(run.path, options(endpoint=endpoint, models=True), tmp_path / "dry")
    files = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert [p for p in files if b"hub-pw" in p.read_bytes()] == []
    for act in (
        publish,
        lambda *args: pull("ann/none", tmp_path / "none", endpoint=endpoint, patience=patience),
    ):
        with pytest.raises(HubError, match=r"does not accept your token|may not see it") as caught:
            act(run.path, options(endpoint=endpoint), patience)
        assert "hub-pw" not in str(caught.value)


# ---------------------------------------------------------------------------------- configurations from elsewhere


@pytest.fixture
def pulled(hub, tmp_path, patience, monkeypatch):
    """A function that publishes a run with a configuration, pulls it, and gives the configuration's path."""
    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SELFREWARD_TRUST", raising=False)

    def make(**values):
        run = make_published_run(tmp_path / "run")
        (run.path / "config.yaml").write_text(yaml.safe_dump(values))
        publish(run.path, options(hub), patience)
        pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
        return tmp_path / "back" / "config.yaml"

    return make


def run_command(*arguments):
    return subprocess.run(
        [sys.executable, "-P", "-m", "selfreward", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_a_pulled_configuration_that_reaches_out_is_not_run_before_the_user_agreed_once(pulled, tmp_path):
    path = pulled(
        model="openai:http://127.0.0.1:9/v1#tiny",
        train=False,
        judging={
            "judge": "openai:http://127.0.0.1:9/v1,http://127.0.0.2:9/v1#j",
            "template": "my-rubric.txt",
        },
        pairs={"rule": "my-rule.sql"},
        prompts={"evaluation_sets": ["sets.json"], "generator": "scripted:made.yaml"},
        dpo={"report_to": ["wandb"]},
        evaluate={"alpaca": None},
    )
    assert path.read_text().startswith("# pulled by selfreward from http://127.0.0.1:")
    first = run_command("run", path, "--run", path.parent)
    assert first.returncode == 2
    for named in (
        "host 127.0.0.1:9 (model)",
        "host 127.0.0.2:9 (judging.judge)",
        "file my-rubric.txt (judging.template)",
        "file my-rule.sql (pairs.rule)",
        "file sets.json (prompts.evaluation_sets)",
        "file made.yaml (prompts.generator)",
        "tracker wandb (dpo.report_to)",
        "--trust",
    ):
        assert named in first.stderr
    assert run_command("run", path, "--run", path.parent, "--estimate").returncode == 2
    assert (
        "this configuration was downloaded"
        not in run_command("run", path, "--run", path.parent, "--trust").stderr
    )
    assert "this configuration was downloaded" not in run_command("run", path, "--run", path.parent).stderr
    another = run_command(
        "run", path, "--run", path.parent, "--set", "judging.judge=openai:https://evil.example/v1#m"
    )
    assert "host evil.example (judging.judge)" in another.stderr


def test_evaluating_a_pulled_run_asks_too(pulled, tmp_path):
    from selfreward.evaluation.ask.answers import Models

    path = pulled(model="openai:http://127.0.0.1:9/v1#tiny", train=False)
    with pytest.raises(UsageError, match=r"host 127\.0\.0\.1:9 \(model\)"):
        Models(path.parent).ref("M0")


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"engine": {"extra": {"body": {"user": "x"}}}}, id="open setting"),
        pytest.param({"model": "hf:../weights"}, id="folder"),
        pytest.param({"run": "../../elsewhere"}, id="run folder"),
        pytest.param({"seeds": {"source": "own.jsonl"}}, id="seeds"),
        pytest.param(
            {"evaluate": {"alpaca": {"prompts": "own.json", "judge": "fixed"}}}, id="alpaca prompts"
        ),
        pytest.param({"sft": {"report_to": ["tensorboard"]}}, id="tracker"),
    ],
)
def test_whatever_a_strangers_configuration_reaches_is_asked_about(values, tmp_path, monkeypatch):
    from selfreward.config.files import check_config
    from selfreward.steps.trust import mark, require_trust

    monkeypatch.setenv("SELFREWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SELFREWARD_TRUST", raising=False)
    path = tmp_path / "config.yaml"
    path.write_bytes(mark(yaml.safe_dump(values).encode(), "http://hub/x", "abc"))
    config = check_config(yaml.safe_load(path.read_text()), "x")
    with pytest.raises(UsageError, match="this configuration was downloaded and would use"):
        require_trust(path, config)
    path.write_text(yaml.safe_dump(values))
    require_trust(path, config)  # one's own is not asked about


def test_the_defaults_reach_nothing(pulled):
    path = pulled(model="hf:smollm2-135m-instruct")
    assert (
        "this configuration was downloaded"
        not in run_command("run", path, "--run", path.parent, "--until", "x").stderr
    )
