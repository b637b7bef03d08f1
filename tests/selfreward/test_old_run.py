"""A whole run that selfreward 0.1 made and published, before its modules moved: read, verified, reused, pulled.

`data/run-of-0.1.tar.gz` holds the configuration, ten ranked seed prompts, the base model (one layer, width 16,
random weights), the finished run with M1 and M2, and the tree that `publish --dry-run` wrote. Everything was made
by real steps: SFT and DPO in processes of their own, answers of the scripted engine for prompts and judgements.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from hub_fixtures import patience  # noqa: F401
from hub_server import LFS_ENDINGS, Blob, HubServer, Repo

from selfreward.config.files import load_config
from selfreward.data_cards.hub.pull import pull
from selfreward.steps.pipeline import run_pipeline
from selfreward.store.run import Run
from selfreward.store.verify import verify_run

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.tar.gz"
STEPS = [
    "seeds", "ift", "eft", "M1", "iter1/prompts", "iter1/candidates", "iter1/judgements", "iter1/scores",
    "iter1/pairs", "M2", "iter0/judge_eval", "iter1/judge_eval", "iter1/model_outputs", "iter2/judge_eval",
    "iter2/model_outputs", "iter1/annotations", "iter2/annotations",
]  # fmt: skip


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    """The folder that the run was made in, as the current folder: its configuration names files beside it."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_version_of_the_old_run_is_whole(old):
    checks = verify_run(old / "run")
    assert len(checks) == len(STEPS)
    assert [check.problem for check in checks] == [None] * len(STEPS)


def test_the_same_configuration_reuses_every_step_also_the_models(old):
    before = {name: current.version for name, current in Run(old / "run").state().current.items()}
    steps = run_pipeline(load_config(Path("config.yaml")), old / "run")
    assert [step.name for step in steps] == STEPS
    assert [step.status for step in steps] == ["reused"] * len(STEPS)
    assert {step.name: step.version for step in steps} == {name: before[name] for name in STEPS}


def test_a_changed_pair_rule_rebuilds_the_pairs_and_nothing_before_them(old):
    config = load_config(Path("config.yaml"), overrides=["pairs.rule=margin", "pairs.min_margin=0.5"])
    steps = run_pipeline(config, old / "run", until="iter1/pairs")
    assert {step.name: step.status for step in steps if step.status != "reused"} == {"iter1/pairs": "built"}


def test_what_was_published_then_is_pulled_now(old, patience):  # noqa: F811
    run = Run(old / "run")
    with HubServer() as hub:
        for folder in ("published", "published-M1", "published-M2"):
            model = folder.removeprefix("published").removeprefix("-")
            key = ("model", f"ann/rooms-{model}") if model else ("dataset", "ann/rooms")
            repo = hub.repos[key] = Repo(*key, private=False)
            commit = repo.add("published", _blobs(old / folder))
            repo.tags |= {f"version-{run.current(model).version}": commit} if model else {}
        pull("ann/rooms", old / "back", endpoint=hub.url, patience=patience)
    back = Run(old / "back")
    assert [check.problem for check in verify_run(old / "back")] == [None] * len(STEPS)
    assert {name: back.current(name).content_sha256 for name in STEPS} == {
        name: run.current(name).content_sha256 for name in STEPS
    }


def _blobs(folder: Path) -> dict[str, Blob]:
    return {
        str(path.relative_to(folder)): Blob(path.read_bytes(), path.suffix in LFS_ENDINGS)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_what_todays_parser_reads_otherwise_is_read_again_and_nothing_is_generated(old, monkeypatch):
    """The archive's scores are parser 1's. A parser that reads one of the texts otherwise makes the versions its own."""
    from selfreward.judging.parsing import again

    def stricter(text, *limits):
        parsed = parse(text, *limits)
        return again.parse_score("") if parsed.score == 2 else parsed

    parse = again.parse_score
    monkeypatch.setattr(again, "parse_score", stricter)
    steps = run_pipeline(load_config(Path("config.yaml")), old / "run", until="iter1/pairs")
    assert [step.name for step in steps if step.status != "reused"] == ["iter1/judgements"]
    assert "read_again_from" in Run(old / "run").current("iter1/judgements").manifest["counts"]["notes"]
