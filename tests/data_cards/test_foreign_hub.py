"""A published repository that is wrong or hostile in one place: one sentence, nothing current, nothing outside touched."""

# ruff: noqa: F811
from __future__ import annotations

import copy
import hashlib
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from foreign_run import MISSING, one_sentence, put, snapshot
from hub_fixtures import client, patience  # noqa: F401
from hub_server import Blob, HubServer
from published_run import LICENCE, make_published_run

from selfreward.data_cards.cards.audits import Audits
from selfreward.data_cards.hub.failures import HubError
from selfreward.data_cards.hub.pull import pull
from selfreward.data_cards.publish import PublishOptions, publish
from selfreward.errors import DamagedError, SelfrewardError, StoreError, UsageError
from selfreward.store.run import Run
from selfreward.store.sealed import seal, unseal

RUN_FILE = "selfreward/run.json"
_PUBLISHED: dict = {}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_published_run(tmp_path_factory.mktemp("source") / "run").path


@pytest.fixture(scope="module")
def server():
    with HubServer() as running:
        yield running


@pytest.fixture
def hub(server, source, patience, monkeypatch):
    """The Hub with the run published; published once, and put back as it was then for every test."""
    monkeypatch.setattr("selfreward.data_cards.publish.audit_run", lambda run, gated: Audits([], [], False))
    server.faults, server.requests = [], []
    if not _PUBLISHED:
        options = PublishOptions(
            "ann/x", models=True, license=LICENCE, model_license=LICENCE, endpoint=server.url
        )
        publish(source, options, patience)
        _PUBLISHED.update(copy.deepcopy(server.repos))
    server.repos = copy.deepcopy(_PUBLISHED)
    return server


@pytest.fixture
def surroundings(tmp_path, monkeypatch):
    """Where a hostile name could lead; compared afterwards, whatever the test did."""
    for name in ("victim/docs/a.txt", "cwd/c.txt", "target/.keep"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path / "cwd")
    before = snapshot(tmp_path, (tmp_path / "back",))
    yield tmp_path
    assert snapshot(tmp_path, (tmp_path / "back",)) == before


def change_files(hub, files: dict[str, bytes | None], repo="ann/x", kind="dataset") -> None:
    """Other files in the repository; None takes one away."""
    there = hub.repo(repo, kind)
    lfs = (".parquet", ".safetensors", ".bin")
    changed = {**there.head.files, **{p: Blob(c, p.endswith(lfs)) for p, c in files.items() if c is not None}}
    oid = there.add("changed", {p: b for p, b in changed.items() if files.get(p, b"") is not None})
    there.tags = dict.fromkeys(there.tags, oid) if kind == "model" else there.tags


def run_file(hub) -> dict:
    return unseal(hub.repo("ann/x").head.files[RUN_FILE].content, RUN_FILE)


def change_run_file(hub, place: str, value: object) -> None:
    change_files(hub, {RUN_FILE: seal(put(run_file(hub), place, value))})


def change_dataset(
    hub, name: str, change=lambda body: body, table: pa.Table | None = None, **entry: object
) -> None:
    """A dataset with another manifest, other rows, other words in run.json; all hashes fit."""
    files, body = hub.repo("ann/x").head.files, run_file(hub)
    described, new = body["datasets"][name], {}
    manifest_path = f"selfreward/manifests/{name}.json"
    if table is not None:
        buffer = io.BytesIO()
        pq.write_table(table, buffer, use_compliant_nested_type=False, compression="zstd")
        path = described["files"][0]["path"]
        new[path] = buffer.getvalue()
        described["files"][0] |= {"sha256": hashlib.sha256(new[path]).hexdigest(), "bytes": len(new[path])}
    new[manifest_path] = seal(change(unseal(files[manifest_path].content, manifest_path)))
    described |= {"manifest_sha256": hashlib.sha256(new[manifest_path]).hexdigest(), **entry}
    change_files(hub, {**new, RUN_FILE: seal(body)})


def change_model(hub, change, files: dict[str, bytes] | None = None, **entry: object) -> None:
    repo = hub.repo("ann/x-M1", "model")
    path = "selfreward/manifest.json"
    manifest = seal(change(unseal(repo.head.files[path].content, path)))
    change_files(hub, {path: manifest, **(files or {})}, "ann/x-M1", "model")
    body = run_file(hub)
    body["models"]["M1"] |= {"manifest_sha256": hashlib.sha256(manifest).hexdigest(), **entry}
    change_files(hub, {RUN_FILE: seal(body)})


def refused(hub, folder: Path, patience, *kinds: type[SelfrewardError], **options) -> str:
    """`pull` ends in a sentence, and no run is there that could be taken for a restored one."""
    with one_sentence(*(kinds or (DamagedError, HubError, UsageError))) as told:
        pull("ann/x", folder / "back", endpoint=hub.url, patience=patience, **options)
    if (folder / "back" / "run.json").exists():
        assert Run(folder / "back").names() == []
    return told[0]


# -- selfreward/run.json -------------------------------------------------------------------------------------

_IFT = "datasets|ift"
_M1 = "models|M1"
_RUN_FILES = {
    "version-absolute": (f"{_IFT}|version", "/tmp/elsewhere"),
    "version-up": (f"{_IFT}|version", "../../../victim"),
    "version-number": (f"{_IFT}|version", 5),
    "version-short": (f"{_IFT}|version", "ab"),
    "version-other": (f"{_IFT}|version", "0" * 16),
    "version-missing": (f"{_IFT}|version", MISSING),
    "key-other": (f"{_IFT}|key", "0" * 64),
    "key-number": (f"{_IFT}|key", 3),
    "key-missing": (f"{_IFT}|key", MISSING),
    "manifest-short": (f"{_IFT}|manifest_sha256", "ab"),
    "manifest-null": (f"{_IFT}|manifest_sha256", None),
    "content-short": (f"{_IFT}|content_sha256", "ab"),
    "name-other": (f"{_IFT}|name", "eft"),
    "name-hostile": (f"{_IFT}|name", "../ift"),
    "name-missing": (f"{_IFT}|name", MISSING),
    "files-missing": (f"{_IFT}|files", MISSING),
    "files-empty": (f"{_IFT}|files", []),
    "files-text": (f"{_IFT}|files", "x"),
    "file-text": (f"{_IFT}|files|0", "x"),
    "file-no-path": (f"{_IFT}|files|0|path", MISSING),
    "path-up": (f"{_IFT}|files|0|path", "../../victim/docs/a.txt"),
    "path-up-inside": (f"{_IFT}|files|0|path", "data/../../victim/a.parquet"),
    "path-absolute": (f"{_IFT}|files|0|path", "/etc/passwd"),
    "path-elsewhere": (f"{_IFT}|files|0|path", "README.md"),
    "path-hidden": (f"{_IFT}|files|0|path", "data/.tmp-x.parquet"),
    "path-newline": (f"{_IFT}|files|0|path", "data/a\nb.parquet"),
    "path-backslash": (f"{_IFT}|files|0|path", "data\\..\\x.parquet"),
    "path-drive": (f"{_IFT}|files|0|path", "C:x.parquet"),
    "path-number": (f"{_IFT}|files|0|path", 1),
    "path-gone": (f"{_IFT}|files|0|path", "data/ift/none.parquet"),
    "split-unknown": (f"{_IFT}|files|0|split", "other"),
    "split-hostile": (f"{_IFT}|files|0|split", "../x"),
    "split-list": (f"{_IFT}|files|0|split", []),
    "rows-more": (f"{_IFT}|files|0|rows", 10**6),
    "rows-negative": (f"{_IFT}|files|0|rows", -1),
    "bytes-other": (f"{_IFT}|files|0|bytes", 1),
    "bytes-text": (f"{_IFT}|files|0|bytes", "1"),
    "sha-other": (f"{_IFT}|files|0|sha256", "0" * 64),
    "sha-short": (f"{_IFT}|files|0|sha256", "0"),
    "order-negative": (f"{_IFT}|order", [["train", -40]]),
    "order-unknown": (f"{_IFT}|order", [["nowhere", 40]]),
    "order-text": (f"{_IFT}|order", "train"),
    "order-short": (f"{_IFT}|order", [["train", 3]]),
    "order-three": (f"{_IFT}|order", [["train", 40, 1]]),
    "order-missing": (f"{_IFT}|order", MISSING),
    "batches-zero": (f"{_IFT}|batches", [0, 40]),
    "batches-negative": (f"{_IFT}|batches", [80, -40]),
    "batches-few": (f"{_IFT}|batches", [1]),
    "batches-text": (f"{_IFT}|batches", ["40"]),
    "batches-missing": (f"{_IFT}|batches", MISSING),
    "arrow-bytes-list": (f"{_IFT}|arrow_bytes", []),
    "arrow-bytes-none": (f"{_IFT}|arrow_bytes", {}),
    "arrow-bytes-negative": (f"{_IFT}|arrow_bytes", {"train": -1}),
    "arrow-bytes-huge": (f"{_IFT}|arrow_bytes", {"train": 10**15}),
    "arrow-bytes-unknown": (f"{_IFT}|arrow_bytes", {"train": 1, "x": 1}),
    "dataset-name-up": ("datasets|../ift", {}),
    "dataset-name-misplaced": ("datasets|prompts", {}),
    "dataset-name-model": ("datasets|M7", {}),
    "dataset-list": (_IFT, []),
    "datasets-list": ("datasets", []),
    "datasets-empty": ("datasets", {}),
    "datasets-missing": ("datasets", MISSING),
    "models-missing": ("models", MISSING),
    "models-list": ("models", []),
    "model-name-dataset": (
        "models|evil",
        {"version": "0" * 16, "manifest_sha256": "0" * 64, "repo": "ann/x-M1"},
    ),
    "model-name-up": ("models|../M1", {}),
    "model-version-absolute": (f"{_M1}|version", "/tmp/elsewhere"),
    "model-version-up": (f"{_M1}|version", "../../../../victim"),
    "model-version-missing": (f"{_M1}|version", MISSING),
    "model-repo-number": (f"{_M1}|repo", 5),
    "model-repo-url": (f"{_M1}|repo", "http://evil.example/x"),
    "model-repo-up": (f"{_M1}|repo", "../x"),
    "model-repo-newline": (f"{_M1}|repo", "ann/x\n"),
    "model-manifest-short": (f"{_M1}|manifest_sha256", "ab"),
    "format-text": ("format", "1"),
}


@pytest.mark.parametrize(("place", "value"), _RUN_FILES.values(), ids=_RUN_FILES)
def test_a_run_file_that_selfreward_never_wrote_is_refused(hub, surroundings, patience, place, value):
    change_run_file(hub, place, value)
    told = refused(hub, surroundings, patience, SelfrewardError)
    assert "http:/1" not in told


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"seal": 1}', b"[" * 5000, b'{"format": NaN}', b"1" * 6000],
)
def test_a_run_file_without_a_seal_is_refused(hub, surroundings, patience, content):
    change_files(hub, {RUN_FILE: content})
    refused(hub, surroundings, patience, DamagedError)


def test_a_hostile_run_file_is_refused_before_anything_else_is_asked_for(hub, surroundings, patience):
    """`run.json`, and nothing below `data/`, manifests or the model's repository; and no folder is made."""
    change_run_file(hub, f"{_IFT}|version", str(surroundings / "planted"))
    refused(hub, surroundings, patience, DamagedError)
    assert not [path for _, path, _ in hub.requests if "/resolve/" in path and RUN_FILE not in path]
    assert not (surroundings / "back").exists()


# -- manifests and rows --------------------------------------------------------------------------------------

_MANIFESTS = {
    "name-other": ("name", "eft"),
    "name-hostile": ("name", "../ift"),
    "key-other": ("key", "0" * 64),
    "content-other": ("content_sha256", "0" * 64),
    "out-more": ("counts|out", 1_000_000),
    "out-text": ("counts|out", "40"),
    "counts-missing": ("counts", MISSING),
    "files-missing": ("files", MISSING),
    "file-up": ("files|0|name", "../../../../victim/docs/a.txt"),
    "inputs-list": ("inputs", []),
    "params-list": ("params", []),
    "schema-list": ("schema", []),
    "builder-list": ("builder", []),
}  # fmt: skip


@pytest.mark.parametrize(("place", "value"), _MANIFESTS.values(), ids=_MANIFESTS)
def test_a_manifest_of_something_else_is_refused(hub, surroundings, patience, place, value):
    change_dataset(hub, "ift", lambda body: put(body, place, value))
    refused(hub, surroundings, patience, DamagedError)


def _ift(hub) -> pa.Table:
    path = run_file(hub)["datasets"]["ift"]["files"][0]["path"]
    return pq.read_table(io.BytesIO(hub.repo("ann/x").head.files[path].content))


_TABLES = {
    "fewer": lambda t: t.slice(1),
    "more": lambda t: pa.concat_tables([t, t]),
    "rotated": lambda t: pa.concat_tables([t.slice(1), t.slice(0, 1)]),
    "column-gone": lambda t: t.drop_columns(["prompt"]),
    "decimal": lambda t: t.append_column("d", pa.array([1] * len(t), pa.decimal128(20, 2))),
    "dictionary": lambda t: t.append_column("d", pa.array(["x"] * len(t)).dictionary_encode()),
    "bomb": lambda t: t.append_column(
        "d", pa.array(["x" * 100_000] * len(t)).dictionary_encode().cast(pa.string())
    ),
    "latin-1": lambda t: t.set_column(1, "prompt", pa.array([b"caf\xe9"] * len(t)).view(pa.string())),
}


@pytest.mark.parametrize("change", _TABLES.values(), ids=_TABLES)
def test_rows_that_are_not_the_published_ones_are_refused(hub, surroundings, patience, change):
    change_dataset(hub, "ift", table=change(_ift(hub)))
    refused(hub, surroundings, patience, DamagedError)


@pytest.mark.parametrize(
    "content", [b"", b"PAR1", b"PAR1" * 10, b"x" * 1000], ids=["empty", "magic", "magics", "noise"]
)
def test_a_file_that_is_no_parquet_is_refused(hub, surroundings, patience, content):
    body = run_file(hub)
    file = body["datasets"]["ift"]["files"][0]
    file |= {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)}
    change_files(hub, {file["path"]: content, RUN_FILE: seal(body)})
    refused(hub, surroundings, patience, DamagedError)


def test_a_small_file_of_much_is_stopped_while_it_is_unpacked(hub, surroundings, patience, monkeypatch):
    """40 rows of 5 MB, one text: some kB of Parquet, 200 MB of rows, published as being 30 kB. The first batch is enough."""
    monkeypatch.setattr("selfreward.data_cards.tree.parquet.BATCH_ROWS", 1)
    big = pa.array(["x" * 5_000_000] * 40).dictionary_encode()
    change_dataset(hub, "ift", table=_ift(hub).append_column("d", big.cast(pa.string())))
    assert "unpacks to more than the" in refused(hub, surroundings, patience, DamagedError)


@pytest.mark.parametrize(
    "features", ["{}", "[", '{"info": 3}', '{"info": {"features": {"x": {"_type": "Nonsense"}}}}']
)
def test_features_of_a_stranger_are_a_sentence_or_rows(hub, surroundings, patience, features):
    change_dataset(hub, "ift", table=_ift(hub).replace_schema_metadata({"huggingface": features}))
    said = ""
    try:
        pull("ann/x", surroundings / "back", endpoint=hub.url, patience=patience, models=False)
    except DamagedError as error:
        said = str(error)
    assert "\n" not in said


def test_more_than_was_allowed_is_refused_before_it_is_fetched(hub, surroundings, patience):
    told = refused(hub, surroundings, patience, UsageError, max_bytes=10_000)
    assert "--max-size" in told
    assert not (surroundings / "back").exists()


def test_more_than_the_disk_has_is_refused_before_it_is_fetched(hub, surroundings, patience):
    change_run_file(hub, f"{_IFT}|arrow_bytes", {"train": 1 << 52})
    assert "make room first" in refused(hub, surroundings, patience, StoreError, max_bytes=1e30)


# -- models --------------------------------------------------------------------------------------------------


def _renamed(name: object):
    return lambda body: put(body, "files|0|name", name)


@pytest.mark.parametrize(
    "name",
    ["../../../../victim/docs/a.txt", "/etc/cron.d/x", "a/../../x.json", "", ".bashrc", ".tmp-x.json", "x\ny.json", "a\\b.json",
     "pytorch_model.bin", "model.pt", "modeling_x.py", "libx.so", "run.sh", "x.pkl", "x.ckpt", "config", "manifest.json",
     "x.exe", "a/./b.json", "C:\\x.json", 5, None],
)  # fmt: skip
def test_a_model_holds_weights_and_settings_by_plain_names(hub, surroundings, patience, name):
    change_model(hub, _renamed(name))
    refused(hub, surroundings, patience, DamagedError)


_MODELS = {
    "no-files": lambda body: {**body, "files": []},
    "no-weights": lambda body: {
        **body,
        "files": [f for f in body["files"] if "safetensors" not in f["name"]],
    },
    "bytes-lie": lambda body: put(body, "files|0|bytes", 1),
    "bytes-huge": lambda body: put(body, "files|0|bytes", 10**15),
    "sha-lies": lambda body: put(body, "files|0|sha256", "0" * 64),
    "twice": lambda body: {**body, "files": [*body["files"], body["files"][0]]},
    "other-name": lambda body: {**body, "name": "M2"},
    "dataset-name": lambda body: {**body, "name": "ift"},
    "other-key": lambda body: {**body, "key": "0" * 64},
    "counts-gone": lambda body: put(body, "counts", MISSING),
    "rows": lambda body: put(body, "files|0|rows", "x"),
    "not-there": lambda body: {**body, "files": [*body["files"], {**body["files"][0], "name": "extra.json"}]},
}


@pytest.mark.parametrize("change", _MODELS.values(), ids=_MODELS)
def test_a_model_that_is_not_what_its_manifest_says_is_refused(hub, surroundings, patience, change):
    change_model(hub, change)
    refused(hub, surroundings, patience, DamagedError)


def test_a_model_larger_than_allowed_is_refused(hub, surroundings, patience):
    size = sum(sum(entry["arrow_bytes"].values()) for entry in run_file(hub)["datasets"].values())
    weights = b"x" * (size + 1000)
    sha256 = hashlib.sha256(weights).hexdigest()

    def change(body: dict) -> dict:
        for file in body["files"]:
            if file["name"] == "model.safetensors":
                file |= {"bytes": len(weights), "sha256": sha256}
        return body

    change_model(hub, change, {"model.safetensors": weights})
    assert "--max-size" in refused(hub, surroundings, patience, UsageError, max_bytes=size + 500)


# -- the folder that it is pulled into -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [".work", ".run", "datasets", "models", "datasets/ift"])
def test_a_folder_with_links_is_not_pulled_into(hub, surroundings, patience, name):
    Run.create(surroundings / "back")
    link = surroundings / "back" / name
    if link.is_dir():
        import shutil

        shutil.rmtree(link)
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(surroundings / "target")
    with one_sentence(StoreError):
        pull("ann/x", surroundings / "back", endpoint=hub.url, patience=patience)


@pytest.mark.parametrize("body", [[], {"u": {}}, {"u": 5}, {"u": {"revision": 5, "tag": None, "verified": True, "pending": None}},
                                  {"u": {"revision": None, "tag": None, "verified": 1, "pending": None}},
                                  {"u": {"revision": None, "tag": None, "verified": True, "pending": {"a": ["b"]}}}])  # fmt: skip
def test_a_record_of_what_was_published_that_nobody_wrote_is_refused(tmp_path, body):
    from selfreward.data_cards.hub.record import Record

    (tmp_path / "published.json").write_bytes(seal({"format": 1, "repositories": body}))
    with one_sentence(DamagedError):
        Record(tmp_path).get("u")
