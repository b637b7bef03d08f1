"""`pull`: a published run as a run folder again, hash for hash, or a sentence and no half-restored run."""

# ruff: noqa: F811
from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import client, patience  # noqa: F401
from hub_server import Blob, HubServer
from published_run import LICENCE, change_run, make_published_run, publish_model

from selfreward.data_cards.cards.audits import Audits
from selfreward.data_cards.hub.failures import HubError
from selfreward.data_cards.hub.pull import pull
from selfreward.data_cards.publish import PublishOptions, publish
from selfreward.errors import DamagedError, FormatError, StoreError, UsageError
from selfreward.store import durable
from selfreward.store.run import Recipe, Run
from selfreward.store.sealed import seal, unseal
from selfreward.store.state import state_sha256
from selfreward.store.verify import verify_run


@pytest.fixture(autouse=True)
def not_audited(monkeypatch):
    """What audits say is another file's subject."""
    monkeypatch.setattr("selfreward.data_cards.publish.audit_run", lambda run, gated: Audits([], [], False))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """The publisher's run; tests leave it alone."""
    return make_published_run(tmp_path_factory.mktemp("source") / "run").path


def options(hub, **changes):
    given = PublishOptions("ann/x", models=True, license=LICENCE, model_license=LICENCE, endpoint=hub.url)
    return replace(given, **changes)


@pytest.fixture(scope="module")
def server():
    """One Hub for the file, so that its address is the same in every test."""
    with HubServer() as running:
        yield running


@pytest.fixture
def hub(server):
    """The Hub, empty."""
    server.repos, server.faults, server.requests = {}, [], []
    return server


_PUBLISHED = {}


@pytest.fixture
def published(hub, source, patience):
    """What `publish` said; published once, and put back as it was then for every test."""
    if not _PUBLISHED:
        _PUBLISHED["pushed"] = publish(source, options(hub), patience)
        _PUBLISHED["repos"] = copy.deepcopy(hub.repos)
    hub.repos = copy.deepcopy(_PUBLISHED["repos"])
    return _PUBLISHED["pushed"]


@pytest.fixture
def pulled(hub, published, tmp_path, patience):
    """The restored folder, and what `pull` said."""
    return tmp_path / "back", pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)


def test_every_version_comes_back_with_its_key_its_content_and_its_very_files(source, pulled):
    """run.json names the same manifests, so the whole state has the same hash."""
    path, restored = pulled
    before, after = Run(source), Run(path)
    assert after.names() == before.names()
    for name in before.names():
        assert after.current(name).key == before.current(name).key
        assert after.current(name).content_sha256 == before.current(name).content_sha256
    assert all(entry.identical for entry in restored)
    assert state_sha256(path) == state_sha256(source)
    assert [check.problem for check in verify_run(path)] == [None] * len(before.names())


def test_it_is_ready_for_sql_audits_and_the_next_iteration(source, pulled):
    """Views answer, audits run, a model's symlink works, and the recipe of a version finds it."""
    from selfreward.judging.audits.runner import run_audits
    from selfreward.sql.views import OpenRun

    path, _ = pulled
    with OpenRun(path) as opened:
        assert opened.connection.sql("SELECT count(*) FROM pairs").fetchall() == [
            (Run(source).current("iter1/pairs").n_rows,)
        ]
    assert run_audits(Run(path), checks=["contract"], save=False).exit_code == 0
    assert (path / "models" / "M1" / "model.safetensors").is_file()
    manifest = Run(source).current("iter1/pairs").manifest
    recipe = Recipe("iter1/pairs", manifest["builder"], manifest["inputs"], manifest["params"])
    found = Run(path).find(recipe)
    assert found is not None
    assert found.content_sha256 == manifest["content_sha256"]


def test_a_pulled_run_that_is_published_again_makes_no_commit(hub, pulled, patience):
    """And then, changed, it builds on what it was pulled from."""
    path, _ = pulled
    assert [entry.committed for entry in publish(path, options(hub), patience)] == [False, False]
    change_run(Run(path))
    assert publish(path, options(hub), patience)[0].committed


def test_a_pulled_model_that_was_trained_on_builds_on_what_it_was_pulled_from(hub, pulled, patience):
    """The first push from the pulled folder already has another M1: its repository is known too."""
    path, _ = pulled
    publish_model(Run(path), value=0.75)
    assert [entry.committed for entry in publish(path, options(hub), patience)] == [True, True]


def test_another_run_cannot_publish_over_what_it_did_not_pull(hub, published, tmp_path, patience):
    """The same repository, a run folder that knows nothing of it."""
    other = make_published_run(tmp_path / "other", with_model=False)
    change_run(other)
    with pytest.raises(HubError, match="this run has published nothing there"):
        publish(other.path, options(hub, models=False), patience)


def test_an_older_tag_restores_the_older_versions(hub, source, tmp_path, patience):
    """Two published states; the first is asked for by its tag."""
    import shutil

    path = Path(shutil.copytree(source, tmp_path / "run", symlinks=True))
    (path / "published.json").unlink(missing_ok=True)
    first = publish(path, options(hub, models=False), patience)[0]
    change_run(Run(path))
    publish(path, options(hub, models=False), patience)
    pull("ann/x", tmp_path / "old", revision=first.tag, endpoint=hub.url, patience=patience)
    pull("ann/x", tmp_path / "new", endpoint=hub.url, patience=patience)
    n_rows = Run(source).current("iter1/pairs").n_rows
    assert Run(tmp_path / "old").current("iter1/pairs").n_rows == n_rows
    assert Run(tmp_path / "new").current("iter1/pairs").n_rows == n_rows - 1


def test_other_arrow_files_keep_key_and_content_and_say_where_they_came_from(
    hub, source, published, tmp_path, patience, monkeypatch
):
    """As a pull with another Arrow version would write them: here the rows are put into batches of 7."""
    from selfreward.data_cards.tree import stored_rows

    def other_batches(table, batches):
        for start in range(0, table.num_rows, 7):
            yield from table.slice(start, 7).combine_chunks().to_batches()

    monkeypatch.setattr(stored_rows, "_as_stored", other_batches)
    monkeypatch.setattr("selfreward.store.writer._BATCH_ROWS", 7)
    restored = pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
    assert not next(entry for entry in restored if entry.name == "iter1/candidates").identical
    before, after = (
        Run(source).current("iter1/candidates"),
        Run(tmp_path / "back").current("iter1/candidates"),
    )
    assert (after.key, after.content_sha256) == (before.key, before.content_sha256)
    origin = after.manifest["restored_from"]
    assert origin["manifest_sha256"] == before.manifest_sha256
    assert origin["revision"] == published[0].revision
    after.verify()


def test_models_can_be_left_on_the_hub(hub, published, tmp_path, patience):
    """`--no-models`."""
    pull("ann/x", tmp_path / "back", models=False, endpoint=hub.url, patience=patience)
    assert not Run(tmp_path / "back").has("M1")


def test_a_public_run_can_be_pulled_without_a_token(hub, published, tmp_path, patience, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    assert pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)


def test_the_configuration_comes_back_without_the_publishers_paths(hub, source, tmp_path, patience):
    """`model: hf:/home/…/base` is published as `hf:base`."""
    import shutil

    path = Path(shutil.copytree(source, tmp_path / "run", symlinks=True))
    (path / "published.json").unlink(missing_ok=True)
    (path / "config.yaml").write_text("model: hf:/home/ann/models/base\nseeds: {source: /home/ann/my.csv}\n")
    publish(path, options(hub, models=False), patience)
    pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
    text = (tmp_path / "back" / "config.yaml").read_text()
    assert "model: hf:base\n" in text
    assert "source: my.csv\n" in text
    assert not [p for p, blob in hub.repo("ann/x").head.files.items() if b"/home/ann" in blob.content]


# -- interrupted, damaged, foreign ---------------------------------------------------------------------------


def test_an_interrupted_pull_shows_no_run_and_is_finished_by_the_same_command(
    hub, source, published, tmp_path, patience
):
    """The connection breaks for good in the middle; nothing is current yet; then it goes on where it was."""
    hub.fault("GET", "/resolve/", times=8, delay_s=0)
    hub.fault("GET", "/resolve/", times=1000, reset=True)
    with pytest.raises(HubError, match="run the same command again"):
        pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
    assert Run(tmp_path / "back").names() == []
    hub.faults.clear()
    hub.requests.clear()
    restored = pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
    assert {entry.name for entry in restored} == set(Run(source).names())
    fetched = [path for method, path, _ in hub.requests if method == "GET" and "/resolve/" in path]
    assert not [path for path in fetched if "data/seeds/" in path]


@pytest.mark.parametrize("call", range(0, 60, 6))
def test_a_pull_that_cannot_write_leaves_no_run_and_can_be_repeated(hub, published, tmp_path, patience, call):
    """The n-th call to the disk fails (full): either all of the run is current or none of it."""
    seen = []

    def fail_once(name, path):
        seen.append(name)
        if len(seen) == call + 1:
            raise OSError(28, "No space left on device")

    durable.hook = fail_once
    try:
        with pytest.raises(StoreError, match="No space left"):
            pull("ann/x", tmp_path / "back", models=False, endpoint=hub.url, patience=patience)
    finally:
        durable.hook = None
    (tmp_path / "back" / ".lock").unlink(missing_ok=True)  # its process would be over now
    if (tmp_path / "back" / "run.json").is_file():
        assert len(Run(tmp_path / "back").names()) in (0, 9)
    pull("ann/x", tmp_path / "back", models=False, endpoint=hub.url, patience=patience)
    assert len(Run(tmp_path / "back").names()) == 9


@pytest.mark.parametrize(
    "part", ["data/iter1_pairs/", "selfreward/manifests/iter1/pairs.json", "model.safetensors"]
)
def test_a_file_that_is_not_what_was_published_is_refused(hub, published, tmp_path, patience, part):
    """Changed on the Hub or on the way: nothing becomes current."""
    hub.fault("GET", part, corrupt=True)
    with pytest.raises(DamagedError, match=r"nothing of (it|M1) is used"):
        pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
    assert Run(tmp_path / "back").names() == []


def test_rows_that_were_changed_with_their_hashes_are_refused(hub, published, tmp_path, patience):
    """Somebody edited a Parquet file and its hash in run.json, but the content hash is the manifest's."""
    import io

    import pyarrow.parquet

    repo = hub.repo("ann/x")
    path = "data/iter1_scores/train-00000-of-00001.parquet"
    table = pyarrow.parquet.read_table(io.BytesIO(repo.head.files[path].content))
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.concat_tables([table.slice(1), table.slice(0, 1)]), buffer)
    forged = Blob(buffer.getvalue(), True)
    body = unseal(repo.head.files["selfreward/run.json"].content, Path("run.json"))
    body["datasets"]["iter1/scores"]["files"][0] |= {"sha256": forged.sha256, "bytes": len(forged.content)}
    files = {**repo.head.files, path: forged, "selfreward/run.json": Blob(seal(body), False)}
    repo.add("forged", files)
    with pytest.raises(DamagedError, match="the published rows have content"):
        pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)


def test_a_folder_with_a_run_of_its_own_is_left_alone(hub, published, tmp_path, patience):
    """Not mixed, not overwritten."""
    mine = make_published_run(tmp_path / "mine", with_model=False)
    change_run(mine)
    before = state_sha256(mine.path)
    with pytest.raises(UsageError, match="which is not part of the published run; pull into a new folder"):
        pull("ann/x", mine.path, endpoint=hub.url, patience=patience)
    assert state_sha256(mine.path) == before
    assert not list((mine.path / ".work").glob("pull-*"))


def test_a_folder_that_is_no_run_is_left_alone(hub, published, tmp_path, patience):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="is not empty and not a run folder"):
        pull("ann/x", tmp_path / "docs", endpoint=hub.url, patience=patience)


def test_what_is_not_there_is_one_sentence(hub, published, tmp_path, patience):
    """A repository, a revision; the tags that exist are named."""
    with pytest.raises(HubError, match="no such dataset repository"):
        pull("ann/nothing", tmp_path / "back", endpoint=hub.url, patience=patience)
    with pytest.raises(HubError, match=f"has no revision 'run-0'; its tags are {published[0].tag}"):
        pull("ann/x", tmp_path / "back", "run-0", endpoint=hub.url, patience=patience)
    assert not (tmp_path / "back").exists()


def test_a_repository_that_selfreward_did_not_publish_is_named_as_such(hub, published, tmp_path, patience):
    repo = hub.repo("ann/x")
    repo.add("something else", {"README.md": repo.head.files["README.md"]})
    with pytest.raises(HubError, match="was not published by selfreward"):
        pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
    assert not (tmp_path / "back").exists()


def test_a_newer_format_is_refused(hub, published, tmp_path, patience):
    repo = hub.repo("ann/x")
    newer = json.loads(repo.head.files["selfreward/run.json"].content) | {"format": 99}
    newer.pop("seal")
    repo.add("newer", {**repo.head.files, "selfreward/run.json": Blob(seal(newer), False)})
    with pytest.raises(FormatError, match="install a newer selfreward"):
        pull("ann/x", tmp_path / "back", endpoint=hub.url, patience=patience)
