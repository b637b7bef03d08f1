"""Verified reads: whatever happens to the files of a version, it is refused by name before Arrow sees a byte."""

from __future__ import annotations

import random
import shutil

import datasets
import pyarrow as pa
import pytest
from stored import flip_bits, publish, publish_in_shards, recipe, rows
from tqdm import tqdm
from tried import tried

from selfreward import progress
from selfreward.errors import DamagedError, FormatError, InputError, StoreError
from selfreward.store.contenthash import content_sha256
from selfreward.store.run import Counts, Run, load_rows, read_manifest
from selfreward.store.sealed import seal
from selfreward.store.verify import verify_run
from selfreward.store.version import MANIFEST, Version

N_FLIPS = 300
N_FLIPS_LONG = 10_000


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run")


@pytest.fixture
def sharded(run) -> Version:
    """A version of three shards of six rows."""
    version = publish_in_shards(run, 3)
    assert [entry["rows"] for entry in version.manifest["files"]] == [6, 6, 6, None, None]
    return version


@pytest.fixture
def no_parsing(monkeypatch):
    """Arrow must not be asked to parse anything."""
    monkeypatch.setattr(pa.ipc, "open_stream", lambda *args: pytest.fail("a damaged shard was parsed"))


def refused(run: Run, match: str) -> None:
    """Both ways to a version refuse it: reading its rows, and `verify`."""
    with pytest.raises(DamagedError, match=match):
        run.current("ift").table()
    with pytest.raises(DamagedError, match=match):
        list(run.verify(["ift"]))


def shard(version: Version, number: int):
    return version.folder / f"data-{number:05d}-of-00003.arrow"


def test_what_was_published_is_read_back_whatever_the_shards(run, sharded):
    expected = pa.concat_tables([rows(0), rows(10), rows(20)])
    assert run.current("ift").table().equals(expected)
    assert sharded.content_sha256 == content_sha256(expected)
    assert run.current("ift").table(["score"]).column_names == ["score"]
    assert datasets.load_from_disk(str(sharded.folder)).to_list() == expected.to_pylist()


@pytest.mark.usefixtures("no_parsing")
def test_a_shard_cut_at_any_length_is_refused(run, sharded):
    """Every length near an end or a batch boundary, and every 7th in between."""
    content = shard(sharded, 1).read_bytes()
    for size in {*range(0, len(content), 7), *range(len(content) - 20, len(content)), *range(16)}:
        shard(sharded, 1).write_bytes(content[:size])
        with pytest.raises(DamagedError, match=rf"data-00001-of-00003\.arrow: found {size:,} bytes"):
            run.current("ift").table()
    shard(sharded, 1).write_bytes(content + b"\0")
    refused(run, r"data-00001-of-00003\.arrow: found .* bytes, the manifest says")


@pytest.mark.usefixtures("no_parsing")
def test_a_deleted_a_renamed_and_an_extra_shard_are_refused(run, sharded):
    moved = sharded.folder.parent / ".aside"
    shard(sharded, 2).rename(moved)
    refused(run, r"data-00002-of-00003\.arrow: this file of the version is missing")
    moved.rename(sharded.folder / "data-00009-of-00003.arrow")
    refused(run, r"data-00002-of-00003\.arrow: this file of the version is missing")
    (sharded.folder / "data-00009-of-00003.arrow").rename(shard(sharded, 2))
    shutil.copy(shard(sharded, 2), shard(sharded, 3))
    refused(run, r"data-00003-of-00003\.arrow: this file is not part of the version")


@pytest.mark.usefixtures("no_parsing")
def test_two_swapped_shards_of_equal_size_are_refused(run, sharded):
    one, two = shard(sharded, 1), shard(sharded, 2)
    assert one.stat().st_size == two.stat().st_size
    content = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(content)
    refused(run, r"data-00001-of-00003\.arrow: SHA-256 is")


@pytest.mark.usefixtures("no_parsing")
def test_a_folder_or_symlink_in_place_of_a_file_and_files_in_subfolders_are_refused(run, sharded):
    content = shard(sharded, 0).read_bytes()
    shard(sharded, 0).unlink()
    shard(sharded, 0).mkdir()
    refused(run, r"data-00000-of-00003\.arrow: this file of the version is missing")
    shard(sharded, 0).rmdir()
    shard(sharded, 0).symlink_to("/nowhere")
    refused(run, r"data-00000-of-00003\.arrow: found -1 bytes")
    shard(sharded, 0).unlink()
    shard(sharded, 0).write_bytes(content)
    (sharded.folder / "more").mkdir()
    (sharded.folder / "more" / "cache-x.arrow").write_text("")
    refused(run, r"more/cache-x\.arrow: this file is not part of the version")


def check_flips(run: Run, version: Version, n: int, rng: random.Random) -> int:
    paths = [path for path in version.folder.rglob("*") if path.is_file()] + [run.path / "run.json"]
    n_refused = 0
    for path in flip_bits(paths, n, rng):
        with pytest.raises(DamagedError) as refusal:
            run.current("ift").table()
        assert path.name in str(refusal.value)
        n_refused += 1
    tried("flipped bits in a version's files, its manifest and run.json", n_refused)
    return n_refused


@pytest.mark.usefixtures("no_parsing")
def test_random_flipped_bits_are_all_refused_by_the_name_of_the_file(run, sharded):
    assert check_flips(run, sharded, N_FLIPS, random.Random(1)) == N_FLIPS


@pytest.mark.faults
@pytest.mark.usefixtures("no_parsing")
def test_ten_thousand_flipped_bits_are_all_refused(run, sharded):
    n = check_flips(run, sharded, N_FLIPS_LONG, random.Random(2))
    print(f"{n:,} of {N_FLIPS_LONG:,} flipped bits refused with the file's name, none parsed")


@pytest.mark.usefixtures("no_parsing")
def test_a_missing_swapped_or_foreign_manifest_is_refused(run, sharded):
    manifest = sharded.folder / MANIFEST
    content = manifest.read_bytes()
    manifest.unlink()
    refused(run, r"manifest\.json: this file of the version is missing")
    with pytest.raises(DamagedError, match="missing"):
        load_rows(sharded.folder)
    manifest.write_bytes(publish(run, "eft").manifest_bytes)
    refused(run, r"manifest\.json: is not the manifest that run\.json names")
    manifest.write_bytes(content)


def test_swapped_version_folders_are_refused_whether_current_or_not(run):
    old, new = publish(run, setting=1), publish(run, setting=2)
    aside = old.folder.with_name("aside")
    old.folder.rename(aside)
    new.folder.rename(old.folder)
    aside.rename(new.folder)
    refused(run, r"is not the manifest that run\.json names")
    for setting in (1, 2):
        with pytest.raises(DamagedError, match="was renamed or swapped"):
            run.find(recipe(setting=setting))


def test_a_flipped_bit_in_an_earlier_version_does_not_hide_behind_its_size(run):
    old = publish(run, setting=1)
    publish(run, setting=2)
    next(flip_bits([next(old.folder.glob("*.arrow"))], 1, random.Random(3)))
    with pytest.raises(DamagedError, match=r"\.arrow: SHA-256"):
        run.version("ift", "previous").table()
    with pytest.raises(DamagedError, match=r"\.arrow: SHA-256"):
        list(run.verify(["ift"]))


def test_a_file_that_cannot_be_read_is_explained(run, sharded, monkeypatch):
    monkeypatch.setattr(
        pa, "memory_map", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    with pytest.raises(StoreError, match=r"cannot read .*data-00000.*Permission denied"):
        run.current("ift").table()


def test_a_version_that_was_removed_meanwhile_says_so(run):
    version = publish(run)
    shutil.rmtree(version.folder)
    with pytest.raises(StoreError, match="does not exist; `selfreward gc` or a user removed"):
        Version("ift", version.folder).table()
    with pytest.raises(DamagedError, match="current version of ift is missing"):
        run.current("ift")


def test_rows_that_were_read_survive_the_removal_of_their_files(run, sharded):
    table = run.current("ift").table()
    shutil.rmtree(sharded.folder)
    assert table.equals(pa.concat_tables([rows(0), rows(10), rows(20)]))


def test_caches_that_datasets_left_are_reported_and_ignored(run, sharded, capsys):
    (sharded.folder / "cache-0123456789abcdef.arrow").write_text("anything")
    assert run.current("ift").table().num_rows == 18
    assert "ignoring 1 cache file(s)" in capsys.readouterr().err


def test_working_with_a_loaded_dataset_writes_nothing_into_its_folder(run, sharded):
    """`map` and `filter` on `load_from_disk` would leave cache-*.arrow here, and so would TRL."""
    before = sorted(sharded.folder.iterdir())
    for loaded in (sharded.dataset(), load_rows(sharded.folder)):
        worked = loaded.map(lambda row: {"n": len(row["response"])}).filter(lambda row: row["n"] > 0)
        worked = worked.sort("n").shuffle(seed=1).train_test_split(0.5)["train"].flatten_indices()
        assert worked.num_rows == 9
    assert sorted(sharded.folder.iterdir()) == before


def test_load_rows_reads_any_saved_folder_without_writing_into_it(tmp_path):
    saved = tmp_path / "saved"
    datasets.Dataset.from_list([{"a": 1}, {"a": 2}]).select([1]).save_to_disk(str(saved))
    before = sorted(saved.iterdir())
    assert load_rows(saved).map(lambda row: {"b": row["a"]}).to_list() == [{"a": 2, "b": 2}]
    assert sorted(saved.iterdir()) == before
    datasets.DatasetDict(train=datasets.Dataset.from_list([{"a": 1}])).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(InputError, match="splits/train"):
        load_rows(tmp_path / "splits")
    with pytest.raises(InputError, match="no such folder"):
        load_rows(tmp_path / "nothing")


def test_a_manifest_of_format_1_is_read_and_one_of_format_2_refused(run, sharded):
    assert read_manifest(sharded.folder)["format"] == 1
    (sharded.folder / MANIFEST).write_bytes(seal({**sharded.manifest, "format": 2}))
    with pytest.raises(
        FormatError, match=r"manifest\.json: has format 2, this selfreward reads formats 1 to 1"
    ):
        load_rows(sharded.folder)
    assert read_manifest(run.path) is None


def test_a_model_is_verified_in_its_subfolders_and_has_no_rows(run):
    with run.draft("M1") as draft:
        (draft / "adapter").mkdir()
        (draft / "adapter" / "weights").write_bytes(b"\0" * 100)
        run.publish_model(recipe("M1"), draft, Counts(3, 3))
    version = run.current("M1")
    version.verify()
    with pytest.raises(StoreError, match="M1 is a model"):
        version.table()
    (version.folder / "adapter" / "weights").write_bytes(b"\0" * 99 + b"\1")
    with pytest.raises(DamagedError, match="adapter/weights: SHA-256"):
        version.verify()


def test_verify_tells_how_many_bytes_it_hashed(run, sharded):
    heard = []
    sharded.verify(heard.append)
    assert sum(heard) == sharded.n_bytes == sum(e["bytes"] for e in sharded.manifest["files"])


def test_the_bar_of_verify_counts_every_byte_of_every_file(run, sharded, capsys, monkeypatch):
    """The real tqdm bar, told not to wait: its end is 100 % of what lies in the version's folder."""
    publish(run, "eft", 1)
    monkeypatch.delenv("SELFREWARD_QUIET", raising=False)
    monkeypatch.setattr(progress, "DELAY", 0.0)
    assert [check.problem for check in verify_run(run.path)] == [None, None]
    on_disk = sum(file.stat().st_size for file in (run.path / "datasets").rglob("*") if file.is_file())
    last = capsys.readouterr().err.splitlines()[-1].rpartition("\r")[2]
    assert last.startswith("verify: 100%"), last
    assert f"{tqdm.format_sizeof(on_disk)}/{tqdm.format_sizeof(on_disk)}" in last
