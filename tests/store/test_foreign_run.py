"""A run folder from elsewhere, wrong or hostile in one place: one sentence, and nothing outside of it is touched."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pyarrow as pa
import pytest
from foreign_run import (
    MISSING,
    change_manifest,
    change_shard,
    change_state,
    folder_of_current,
    one_sentence,
    put,
    snapshot,
    stream,
)
from published_run import make_published_run

from selfreward.errors import BusyError, DamagedError, SelfrewardError, StoreError, UsageError
from selfreward.sql.views import OpenRun
from selfreward.store import durable
from selfreward.store.gc import collect
from selfreward.store.lock import hold
from selfreward.store.names import is_model
from selfreward.store.run import Run
from selfreward.store.state import read_state, update_state
from selfreward.store.verify import verify_run
from selfreward.tables import DatasetName, is_dataset


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return make_published_run(tmp_path_factory.mktemp("whole") / "run").path


@pytest.fixture
def run(whole, tmp_path, monkeypatch):
    """A copy to spoil, with things beside it that must stay as they are."""
    for name in ("victim/docs/a.txt", "victim/docs/deep/b.txt", "cwd/c.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    monkeypatch.chdir(tmp_path / "cwd")
    path = Path(shutil.copytree(whole, tmp_path / "run", symlinks=True))
    before = snapshot(tmp_path, (path,))
    yield path
    assert snapshot(tmp_path, (path,)) == before


def everything(run: Path) -> None:
    """The commands that read, move or remove: whatever they say, it is a sentence."""
    from selfreward.data_cards.preview import write_cards
    from selfreward.judging.audits.runner import run_audits
    from selfreward.sql.lineage import lineage

    for command in (
        lambda: verify_run(run),
        lambda: OpenRun(run).sql("SHOW TABLES").fetchall(),
        lambda: lineage(Run(run), "pair-0"),
        lambda: run_audits(Run(run), checks=["keys_unique"], save=False),
        lambda: write_cards(run, "USER/NAME", "mit", run / "cards"),
        lambda: verify_run(run, quarantine=True),
        lambda: collect(Run(run)),
    ):
        said = ""
        try:
            command()
        except SelfrewardError as error:
            said = str(error)
        assert "\n" not in said
        assert "this is a bug" not in said


# -- names ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc", "iter1/../ift", "iter1//pairs", "iter1/pairs/", "iter007/prompts", "iter100/prompts", "iter٣/prompts",
     "iter-1/prompts", "Prompts", "prompts\n", "a b", 'a"b', "a;b", "", ".", "iter1", "iter1/iter2", "dataset_versions",
     "score_versions", "lineage_edges", "iter" + "9" * 20 + "/prompts", "x" * 65, "M1", "датасет", "a\0"],
)  # fmt: skip
def test_what_is_no_name_of_a_dataset_is_refused(name, tmp_path):
    assert not is_dataset(name)
    with one_sentence(UsageError):
        DatasetName.parse(name)


@pytest.mark.parametrize("name", ["M01", "M٣", "M1000", "M", "SFT1", "m1", "M1\n", "M1/..", "M-1"])
def test_what_is_no_name_of_a_model_is_refused(name):
    assert not is_model(name)


@pytest.mark.parametrize(("name", "kind", "iteration"), [("ift", "ift", None), ("iter0/judge_eval", "judge_eval", 0),
                                                         ("iter99/my_rows", "my_rows", 99)])  # fmt: skip
def test_a_name_has_a_kind_and_an_iteration_and_is_its_own_text(name, kind, iteration):
    assert DatasetName.parse(name) == DatasetName(kind, iteration)
    assert str(DatasetName.parse(name)) == name


@pytest.mark.parametrize("name", ["prompts", "pairs", "iter1/ift", "iter2/seeds"])
def test_nothing_is_published_where_it_would_hide_the_true_rows(run, name):
    with one_sentence(UsageError) as told, Run(run).draft(name):
        pass
    assert "not a name for these rows; expected" in told[0]


# -- run.json ------------------------------------------------------------------------------------------------

_IFT = "current|ift"
_STATES = {
    "version-up": (f"{_IFT}|version", "../../../../victim/docs"),
    "version-absolute": (f"{_IFT}|version", "/victim"),
    "version-number": (f"{_IFT}|version", 7),
    "version-null": (f"{_IFT}|version", None),
    "version-upper": (f"{_IFT}|version", "ABCDEF0123456789"),
    "version-newline": (f"{_IFT}|version", "0123456789abcdef\n"),
    "version-short": (f"{_IFT}|version", "0123456789abcde"),
    "version-list": (f"{_IFT}|version", ["0123456789abcdef"]),
    "version-missing": (f"{_IFT}|version", MISSING),
    "sha-number": (f"{_IFT}|manifest_sha256", 1),
    "sha-short": (f"{_IFT}|manifest_sha256", "ab"),
    "sha-missing": (f"{_IFT}|manifest_sha256", MISSING),
    "previous-text": (f"{_IFT}|previous", "0123456789abcdef"),
    "previous-up": (f"{_IFT}|previous", ["../x"]),
    "previous-number": (f"{_IFT}|previous", [1]),
    "previous-missing": (f"{_IFT}|previous", MISSING),
    "entry-list": (_IFT, []),
    "entry-text": (_IFT, "x"),
    "entry-null": (_IFT, None),
    "name-up": ("current|../../victim", {}),
    "name-empty": ("current|", {}),
    "name-sql": ("current|ift; DROP VIEW pairs", {}),
    "name-iteration": ("current|iter007/prompts", {}),
    "name-arabic": ("current|iter٣/prompts", {}),
    "name-model": ("current|M007", {}),
    "name-long-number": (f"current|iter{'9' * 30}/prompts", {}),
    "current-list": ("current", []),
    "current-missing": ("current", MISSING),
    "generation-negative": ("generation", -1),
    "generation-text": ("generation", "1"),
    "generation-true": ("generation", True),
    "generation-float": ("generation", 1.5),
    "generation-huge": ("generation", 10**30),
    "generation-missing": ("generation", MISSING),
}


@pytest.mark.parametrize(("place", "value"), _STATES.values(), ids=_STATES)
def test_a_sealed_run_json_that_selfreward_never_wrote_is_refused(run, place, value):
    change_state(run, lambda body: put(body, place, value))
    before = snapshot(run)
    with one_sentence(DamagedError) as told:
        Run(run)
    assert "run.json: " in told[0]
    everything(run)
    assert snapshot(run) == before


@pytest.mark.parametrize("format", [True, "1", None, 0, -1, 1.0, 10**30])
def test_another_format_is_a_sentence(run, format):
    change_state(run, lambda body: put(body, "format", format))
    with one_sentence(StoreError):
        Run(run)


@pytest.mark.parametrize(
    "name", ["9.json", "٣.json", "000000099.json", "00000099.JSON", "99999999999999999999.json"]
)
def test_a_stranger_among_the_generations_is_none(run, name):
    """`9.json` is not what generation 9 is called: it was looked for without an end."""
    shutil.copy(run / "run.json", run / ".run" / name)
    assert read_state(run).current
    assert update_state(run, lambda state: state.without("M1")).generation == read_state(run).generation


def test_a_generation_under_another_number_is_refused(run):
    shutil.copy(run / "run.json", run / ".run" / "00000099.json")
    with one_sentence(DamagedError) as told:
        Run(run)
    assert "00000099.json: holds generation" in told[0]


# -- manifests -----------------------------------------------------------------------------------------------

_FILE = "files|0"
_MANIFESTS = {
    **{
        f"file-name-{n}": (f"{_FILE}|name", name)
        for n, name in enumerate(
            [
                "../../../../victim/docs/a.txt",
                "/etc/passwd",
                "",
                "a/../b",
                "a//b",
                "a/",
                "./a",
                ".tmp-x",
                ".hidden",
                "manifest.json",
                "a\nb",
                "a\\b",
                "a\x1b[2J",
                "\u202eb",
                7,
                None,
                ["a"],
                "x" * 300,
            ]
        )
    },
    "file-twice": (f"{_FILE}|name", "state.json"),
    "file-gone": (f"{_FILE}|name", "data-00009-of-00009.arrow"),
    "file-no-name": (f"{_FILE}|name", MISSING),
    "bytes-negative": (f"{_FILE}|bytes", -1),
    "bytes-text": (f"{_FILE}|bytes", "12"),
    "bytes-float": (f"{_FILE}|bytes", 12.5),
    "bytes-true": (f"{_FILE}|bytes", True),
    "bytes-huge": (f"{_FILE}|bytes", 10**40),
    "bytes-missing": (f"{_FILE}|bytes", MISSING),
    "sha-short": (f"{_FILE}|sha256", "ab"),
    "sha-number": (f"{_FILE}|sha256", 5),
    "sha-missing": (f"{_FILE}|sha256", MISSING),
    "rows-text": (f"{_FILE}|rows", "x"),
    "rows-negative": (f"{_FILE}|rows", -5),
    "rows-more": (f"{_FILE}|rows", 1_000_000),
    "rows-none": (f"{_FILE}|rows", None),
    "file-text": (_FILE, "data.arrow"),
    "files-object": ("files", {}),
    "files-null": ("files", None),
    "files-empty": ("files", []),
    "files-missing": ("files", MISSING),
    "counts-missing": ("counts", MISSING),
    "counts-list": ("counts", []),
    "out-more": ("counts|out", 1_000_000),
    "out-negative": ("counts|out", -1),
    "out-text": ("counts|out", "40"),
    "out-true": ("counts|out", True),
    "out-huge": ("counts|out", 10**30),
    "dropped-list": ("counts|dropped", []),
    "dropped-text": ("counts|dropped", {"x": "y"}),
    "notes-list": ("counts|notes", []),
    "name-other": ("name", "eft"),
    "name-number": ("name", 3),
    "name-hostile": ("name", "../ift"),
    "key-other": ("key", "0" * 64),
    "key-number": ("key", 5),
    "key-short": ("key", "ab"),
    "content-short": ("content_sha256", "ab"),
    "content-missing": ("content_sha256", MISSING),
    "schema-list": ("schema", []),
    "schema-number": ("schema", {"a": 1}),
    "inputs-list": ("inputs", []),
    "inputs-text": ("inputs", {"a": "b"}),
    "inputs-no-name": ("inputs", {"a": {"content_sha256": "ab"}}),
    "params-list": ("params", []),
    "builder-number": ("builder", 5),
    "created-null": ("created", None),
}


@pytest.mark.parametrize(("place", "value"), _MANIFESTS.values(), ids=_MANIFESTS)
def test_a_sealed_manifest_that_selfreward_never_wrote_is_found_by_verify_and_read_by_nobody(
    run, place, value
):
    path = change_manifest(run, "ift", lambda body: put(body, place, value))
    with one_sentence(StoreError):
        Run(run).current("ift").table()
    (check,) = [check for check in verify_run(run) if check.problem]
    assert check.name == "ift"
    assert str(path.parent) in check.problem
    assert "\n" not in check.problem
    everything(run)
    assert not Run(run).has("ift")
    assert len(list((run / ".damaged").iterdir())) == 1


# -- Arrow bytes ---------------------------------------------------------------------------------------------


def _texts(data: bytes, offsets: list[int]) -> pa.Table:
    """A column of texts with these bytes, Unicode or not."""
    buffers = [None, pa.py_buffer(struct.pack(f"<{len(offsets)}i", *offsets)), pa.py_buffer(data)]
    return pa.table({"ift_id": pa.Array.from_buffers(pa.string(), len(offsets) - 1, buffers)})


def _moved(table: pa.Table, right: list[int], wrong: list[int]) -> bytes:
    """A stream with other offsets than those it was written with."""
    content = stream(table)
    packed, other = (struct.pack(f"<{len(numbers)}i", *numbers) for numbers in (right, wrong))
    assert content.count(packed) == 1
    return content.replace(packed, other)


_LISTS = pa.table({"ift_id": pa.array([["a"], ["b", "c"]])})


def _deep(levels: int) -> pa.Table:
    kind = pa.int64()
    for _ in range(levels):
        kind = pa.list_(kind)
    return pa.table({"ift_id": pa.nulls(1, kind)})


_GOOD = pa.table({"ift_id": ["a", "b"]})
_BYTES = {
    "empty": b"",
    "noise": bytes(range(256)) * 8,
    "parquet-magic": b"PAR1" * 100,
    "cut": stream(_GOOD)[:-40],
    "cut-in-schema": stream(_GOOD)[:30],
    "no-schema": stream(_GOOD)[200:],
    "offset-outside": _moved(_texts(b"abcd", [0, 3, 4]), [0, 3, 4], [0, 3, 1 << 30]),
    "offset-negative": _moved(_texts(b"abcd", [0, 3, 4]), [0, 3, 4], [0, -5, 4]),
    "offset-falling": _moved(_texts(b"abcd", [0, 3, 4]), [0, 3, 4], [0, 9, 4]),
    "latin-1": stream(_texts(b"caf\xe9", [0, 2, 4])),
    "surrogate": stream(_texts(b"\xed\xa0\x80a", [0, 3, 4])),
    "list-outside": _moved(_LISTS, [0, 1, 3], [0, 1, 1 << 30]),
    "list-falling": _moved(_LISTS, [0, 1, 3], [0, 7, 3]),
    "dictionary": stream(pa.table({"ift_id": _GOOD["ift_id"].dictionary_encode()})),
    "view": stream(pa.table({"ift_id": _GOOD["ift_id"].cast(pa.string_view())})),
    "decimal": stream(pa.table({"ift_id": pa.array([1, 2], pa.decimal128(20, 2))})),
    "twins": stream(pa.Table.from_arrays([_GOOD["ift_id"], _GOOD["ift_id"]], names=["ift_id", "ift_id"])),
    "bomb": stream(pa.table({"ift_id": ["x" * 25_000_000] * 2}), compression="zstd"),
    "fewer-rows": stream(_GOOD.slice(0, 1)),
    "more-rows": stream(pa.concat_tables([_GOOD] * 5)),
}  # fmt: skip


@pytest.mark.parametrize("content", _BYTES.values(), ids=_BYTES)
def test_arrow_bytes_are_looked_at_before_anybody_computes_with_them(run, content):
    """Their hashes fit: whoever made the file made the manifest, too."""
    path = change_shard(run, "ift", content, rows=2)
    with one_sentence(DamagedError) as told:
        Run(run).current("ift").table()
    assert str(path.parent) in told[0]
    (check,) = [check for check in verify_run(run) if check.problem]
    assert check.problem == told[0]
    with one_sentence(DamagedError):
        OpenRun(run).sql("FROM ift")
    everything(run)


@pytest.mark.parametrize(("levels", "held"), [(24, True), (25, False), (60, False)])
def test_rows_are_nested_as_deep_as_every_format_holds(run, levels, held):
    """Arrow itself lets a file be 60 deep; Parquet fails at about 33 lists."""
    change_shard(run, "ift", stream(_deep(levels)), rows=1)
    if held:
        assert Run(run).current("ift").table().num_rows == 1
    else:
        with one_sentence(DamagedError):
            Run(run).current("ift").table()
    everything(run)


@pytest.mark.parametrize(
    "features", ["{}", '{"info": {"features": {"ift_id": {"_type": "Nonsense"}}}}', "[", '{"info": 3}']
)
def test_features_of_a_stranger_are_a_sentence_or_rows(run, features):
    table = Run(run).current("ift").table().replace_schema_metadata({"huggingface": features})
    change_shard(run, "ift", stream(table))
    said = ""
    try:
        assert Run(run).current("ift").dataset().num_rows == table.num_rows
    except DamagedError as error:
        said = str(error)
    assert "\n" not in said


# -- links ---------------------------------------------------------------------------------------------------

_LINKS = [".work", ".run", ".damaged", "datasets", "datasets/iter1", "datasets/iter9", "datasets/ift", "datasets/ift/{ift}",
          "datasets/ift/0123456789abcdef", "datasets/ift/{ift}/state.json", "datasets/ift/{ift}/extra", "models",
          "models/versions", "models/versions/M1", "models/versions/M1/{M1}", "models/M1", "models/M2", "models/other",
          "cards", "cards/README.md", "evaluations", "evaluations/iter1", ".work/ift-0123456789abcdef",
          ".work/x/journal.jsonl", ".damaged/ift-1", ".run/00000099.json"]  # fmt: skip


@pytest.mark.parametrize("target", ["victim/docs", "nowhere"])
@pytest.mark.parametrize("place", _LINKS)
def test_a_link_in_a_run_folder_is_refused_before_anything_follows_it(run, place, target):
    """To a folder that is there, and to a name that a write would create."""
    path = run / place.format(**{name: folder_of_current(run, name).name for name in ("ift", "M1")})
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(run.parent / target)
    before = snapshot(run)
    with one_sentence(StoreError) as told:
        Run(run)
    assert f"{path}: is a symbolic link to" in told[0]
    everything(run)
    assert snapshot(run) == before


def test_the_run_folder_itself_may_be_reached_by_a_link(run, tmp_path):
    link = run / "latest"  # inside the run, where the surroundings are not compared
    link.symlink_to(run)
    assert Run(link).names() == Run(run).names()


def test_a_run_that_was_copied_with_its_links_followed_is_used_and_the_copy_kept_aside(run, capsys):
    """`cp -rL` makes a folder of `models/M1`."""
    version = folder_of_current(run, "M1")
    (run / "models" / "M1").unlink()
    shutil.copytree(version, run / "models" / "M1")
    opened = Run(run)
    opened.make_current(opened.current("M1"))
    assert os.readlink(run / "models" / "M1") == f"versions/M1/{version.name}"
    (aside,) = (run / ".damaged").iterdir()
    assert (aside / "model.safetensors").read_bytes() == (version / "model.safetensors").read_bytes()
    assert "was a folder, expected a link" in capsys.readouterr().err


# -- gc, and a full disk -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["datasets/My Data", "datasets/iter007/pairs", "datasets/a;b", "models/versions/mine"]
)
def test_what_lies_under_a_strangers_name_is_not_collected(run, name):
    folder = run / name / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("mine")
    assert collect(Run(run)) == []
    assert (folder / "a.txt").is_file()


@pytest.fixture
def full_disk(monkeypatch):
    """No file can be written until something is removed."""

    def switch(on: bool) -> None:
        def hook(name: str, path: Path) -> None:
            if name == "unlink":
                durable.hook = None
            if name in ("write", "mkdir"):
                raise OSError(28, "No space left on device")

        durable.hook = hook if on else None

    yield switch
    durable.hook = None


def test_gc_makes_room_on_a_full_disk(run, full_disk):
    left = run / ".work" / "old-0123456789abcdef"
    left.mkdir(parents=True)
    (left / "journal.jsonl").write_text("x")
    os.utime(left, (0, 0))
    os.utime(left / "journal.jsonl", (0, 0))
    full_disk(True)
    assert [item.path for item in collect(Run(run))] == [left]


def test_gc_on_a_full_disk_removes_versions_before_it_writes_that_they_are_gone(run, full_disk):
    opened = Run(run)
    table = opened.current("seeds").table()
    from selfreward.store.run import Counts, Recipe

    old = opened.current("iter1/judge_eval")
    opened.publish_table(Recipe(old.name, "tests 2"), table, Counts(len(table), len(table)))
    full_disk(True)
    assert [item.path for item in collect(opened)] == [old.folder]
    assert Run(run).state().current[old.name].previous == ()


def test_on_a_full_disk_two_do_not_make_room_at_once_and_a_holder_is_respected(run, full_disk):
    with hold(run, "a test"):
        full_disk(True)
        with one_sentence(BusyError), hold(run, "gc"):
            pass
    full_disk(True)
    with hold(run, "gc"), one_sentence(BusyError), hold(run, "gc"):
        pass


def test_quarantine_on_a_full_disk_moves_the_damage_and_the_next_call_forgets_it(run, full_disk, capsys):
    folder = folder_of_current(run, "ift")
    (folder / "state.json").write_text("{}")
    full_disk(True)
    verify_run(run, quarantine=True)
    assert not folder.exists()
    assert len(list(folder.parent.glob(f".damaged-{folder.name}-*"))) == 1
    assert "run.json still names it" in capsys.readouterr().err
    full_disk(False)
    verify_run(run, quarantine=True)
    assert not Run(run).has("ift")
    assert collect(Run(run)) == []
    assert len(list(folder.parent.glob(f".damaged-{folder.name}-*"))) == 1


def test_what_a_killed_writer_left_beside_a_file_goes_when_the_file_is_written_again(run):
    from selfreward.store.owner import temporary_name

    out = run / "x.csv"
    dead = temporary_name("x.csv").replace(f"-{os.getpid()}-", "-999999999-")
    kept = [temporary_name("x.csv"), dead.replace("x.csv", "y.csv"), ".tmp-x.csv-mine"]
    for name in [dead, f"{dead}.wal", *kept]:
        (run / name).write_text("half")
    with durable.new_file(out) as temporary:
        temporary.write_text("whole")
    assert out.read_text() == "whole"
    assert sorted(p.name for p in run.glob(".tmp-*")) == sorted(kept)
