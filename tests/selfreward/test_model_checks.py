"""What is wrong with a model is said before the first step is built, in one sentence."""

from __future__ import annotations

import json

import pytest
import yaml
from scripted_run import cli, config_for, write_script
from tiny_llama import make_tiny_llama

from selfreward.errors import ConfigError, EngineError, InputError, UsageError
from selfreward.steps import model_checks
from selfreward.steps.model_checks import check_models
from selfreward.steps.pipeline import plans_until

TEMPLATE = "Rate it.\n<i><INSTRUCTION_HERE></i>\n<response><RESPONSE_HERE></response>"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A model that reads 256 tokens, one for each byte."""
    return make_tiny_llama(tmp_path_factory.mktemp("model") / "tiny")


def check(config):
    check_models(plans_until(config, None), config)


def judged_by(judge, tmp_path, **judging):
    script = write_script(tmp_path / "script.yaml")
    return config_for(script, judging={"judge": judge, "samples": 1, **judging}, evaluate={"judge": None})


def without_chat_template(model, folder):
    folder.mkdir()
    for path in model.iterdir():
        if path.name != "chat_template.jinja":
            (folder / path.name).write_bytes(path.read_bytes())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize("engine", ["hf", "vllm"])
def test_a_judge_without_a_chat_template_is_refused(tiny, tmp_path, engine, monkeypatch):
    monkeypatch.setattr(model_checks, "find_spec", lambda name: True)
    bare = without_chat_template(tiny, tmp_path / "bare")
    with pytest.raises(
        EngineError, match=r"bare has no chat template.*put the template into chat_template\.jinja"
    ):
        check(judged_by(f"{engine}:{bare}", tmp_path))


@pytest.mark.parametrize(
    ("engine", "packages", "extra"), [("vllm", "vllm", "vllm"), ("ray", "ray and vllm", "ray,vllm")]
)
def test_an_engine_that_is_not_installed_names_its_extra(tmp_path, engine, packages, extra, monkeypatch):
    monkeypatch.setattr(model_checks, "find_spec", lambda name: None)
    with pytest.raises(EngineError) as caught:
        check(judged_by(f"{engine}:some/model", tmp_path))
    assert str(caught.value) == (
        f"model '{engine}:some/model' needs {packages}, which is not installed: pip install 'selfreward[{extra}]'"
    )


def test_an_unknown_engine_names_the_known_ones_and_the_nearest(tmp_path):
    with pytest.raises(UsageError, match=r"unknown engine 'opnai', known are hf, .*did you mean openai:http"):
        check(judged_by("opnai:http://host/v1#m", tmp_path))


def test_a_context_shorter_than_the_judge_template_and_its_answer_is_refused(tiny, tmp_path):
    """With a token for each byte: 15 for the system turn, 8 around the user's text, 38 of the template, 11 to begin the answer
    are 72, so that 184 of 256 are left for a judgement."""
    template = tmp_path / "judge.txt"
    template.write_text(TEMPLATE)
    n_template = 72
    fits = {"template": str(template), "max_tokens": 256 - n_template}
    check(judged_by(f"hf:{tiny}", tmp_path, **fits))
    with pytest.raises(ConfigError) as caught:
        check(judged_by(f"hf:{tiny}", tmp_path, **{**fits, "max_tokens": 256 - n_template + 1}))
    said = str(caught.value)
    assert f"iter1/judgements: the judge template alone has {n_template} tokens" in said
    assert f"its answer up to {256 - n_template + 1}" in said
    assert "reads 256: use a shorter judging.template" in said


def test_responses_that_may_not_fit_are_announced_and_not_refused(tiny, tmp_path, capsys):
    template = tmp_path / "judge.txt"
    template.write_text(TEMPLATE)
    check(judged_by(f"hf:{tiny}", tmp_path, template=str(template), max_tokens=20))
    said = capsys.readouterr().err
    assert "judge prompts may have" in said
    assert "counted as engine_error" in said


def test_the_run_stops_before_its_first_step_and_leaves_no_dataset(tiny, tmp_path):
    config = judged_by(f"hf:{tiny}", tmp_path, template="additive").model_dump(mode="json")
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**config, "run": "r"}))
    for arguments in (["run", "c.yaml"], ["run", "c.yaml", "--estimate"]):
        done = cli(*arguments, cwd=tmp_path)
        assert done.returncode == 2
        assert "the judge template alone has" in done.stderr
        assert "Traceback" not in done.stderr
        assert not list(tmp_path.glob("r/datasets/*"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("rules: [{answrs: [x]}]", r"judge\.yaml: rules\.0\.answrs", id="unknown field"),
        pytest.param("rules: [{regex: '('}]", r"is not a regular expression", id="pattern"),
        pytest.param("rules: [", r"judge\.yaml: not YAML", id="no YAML"),
        pytest.param(None, r"judge\.yaml: cannot read the file", id="no file"),
    ],
)
def test_a_script_is_read_before_the_first_step(tmp_path, content, said):
    script = tmp_path / "judge.yaml"
    if content is not None:
        script.write_text(content)
    with pytest.raises(InputError, match=said):
        check(judged_by(f"scripted:{script}", tmp_path))


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("openai:http://gpu.example/v1#m", "without encryption"),
        ("openai:https://host/v1", "expected openai:BASE_URL#MODEL"),
        ("openai:https://ann:pw@host/v1#m", "a name or password in the address"),
    ],
)
def test_a_servers_address_is_looked_at_before_the_first_step(tmp_path, judge, said):
    with pytest.raises(UsageError, match=said):
        check(judged_by(judge, tmp_path))
