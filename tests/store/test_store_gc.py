"""gc: what is current, and what that was made from, stays; the rest goes, with a reason; readers are not broken."""

from __future__ import annotations

import os
import time

import pytest
from stored import publish, recipe, rows

from selfreward.errors import BusyError, DamagedError
from selfreward.store import durable
from selfreward.store import gc as gc_module
from selfreward.store.gc import collect
from selfreward.store.owner import temporary_name
from selfreward.store.run import Counts, Recipe, Run


@pytest.fixture
def run(tmp_path) -> Run:
    return Run.create(tmp_path / "run")


def of_a_dead_process(make) -> None:
    """Run `make` in a process that is gone afterwards."""
    pid = os.fork()
    if pid == 0:
        make()
        os._exit(0)
    os.waitpid(pid, 0)


def publish_pairs(run: Run, source) -> None:
    inputs = {
        "candidates": {
            "name": source.name,
            "version": source.version,
            "content_sha256": source.content_sha256,
        }
    }
    run.publish_table(Recipe("iter1/pairs", "b 1", inputs), rows(), Counts(6, 6))


def test_only_versions_that_are_not_current_go_and_a_dry_run_tells_the_same(run):
    old, new = publish(run, setting=1), publish(run, setting=2)
    other = publish(run, "iter1/pairs")
    promised = collect(run, dry_run=True)
    assert old.folder.is_dir()
    removed = collect(run)
    assert removed == promised
    assert [(r.path, r.reason) for r in removed] == [
        (old.folder, "not current, and no current version was made from it")
    ]
    assert removed[0].bytes > sum(e["bytes"] for e in new.manifest["files"])
    assert (run.versions("ift"), run.versions("iter1/pairs")) == ([new], [other])
    assert run.state().current["ift"].previous == ()
    assert collect(run) == []


def test_what_a_current_version_was_made_from_stays_until_that_is_made_anew(run):
    """pairs was made from the first candidates, which are not current any more: its lineage must not break."""
    first = publish(run, "iter1/candidates", 1)
    publish_pairs(run, first)
    second = publish(run, "iter1/candidates", 2)
    assert collect(run) == []
    publish_pairs(run, second)
    assert {r.path for r in collect(run)} == {
        first.folder,
        run.path / "datasets/iter1/pairs" / _pairs_of(first).version,
    }


def _pairs_of(source) -> Recipe:
    return Recipe("iter1/pairs", "b 1", {"candidates": {"content_sha256": source.content_sha256}})


def test_a_model_that_a_current_dataset_was_made_with_stays(run):
    def train(setting: int):
        with run.draft("M1") as draft:
            (draft / "weights").write_text(str(setting))
            return run.publish_model(recipe("M1", setting), draft, Counts(1, 1))

    first = train(1)
    inputs = {"model": {"name": f"M1@{first.content_sha256[:12]}", "content_sha256": first.content_sha256}}
    run.publish_table(Recipe("iter1/candidates", "b 1", inputs), rows(), Counts(6, 6))
    second, third = train(2), train(3)
    assert [r.path for r in collect(run)] == [second.folder]
    assert run.versions("M1") == [first, third]
    assert (run.path / "models" / "M1" / "weights").read_text() == "3"


def test_leftovers_of_dead_processes_go_and_those_of_live_ones_stay(run):
    publish(run)
    folders = [run.path / "datasets" / "ift", run.path, run.path / ".run"]

    def leave() -> None:
        for folder in folders:
            (folder / temporary_name("draft")).mkdir()
            (folder / temporary_name("x", "trash")).write_text("12345")

    of_a_dead_process(leave)
    alive = run.path / "datasets" / "ift" / temporary_name("draft")
    alive.mkdir()
    removed = collect(run)
    assert len(removed) == 6
    assert {r.reason for r in removed} == {"left by a process that no longer runs"}
    assert sum(r.bytes for r in removed) == 15
    assert alive.is_dir()


def test_a_temporary_folder_of_another_machine_goes_after_a_day(run):
    """Whether its process runs cannot be told from here."""
    foreign = run.path / ".tmp-draft-17-999-deadbeef-01234567"
    foreign.mkdir()
    assert collect(run) == []
    os.utime(foreign, (time.time() - 25 * 3600,) * 2)
    assert [r.path for r in collect(run)] == [foreign]


def test_work_whose_version_is_published_goes_and_other_work_after_thirty_days(run):
    publish(run, setting=1)
    works = [durable.make_folder(run.work_folder(recipe(setting=setting))) for setting in (1, 2, 3)]
    for work in works:
        (work / "journal.jsonl").write_text("x" * 10)
    for path in (works[2] / "journal.jsonl", works[2]):
        os.utime(path, (time.time() - 31 * 24 * 3600,) * 2)
    removed = {r.path: r.reason for r in collect(run)}
    assert removed == {works[0]: "unfinished work whose version is published",
                       works[2]: "unfinished work or kept answers that nobody touched for 30 days"}  # fmt: skip
    assert works[1].is_dir()


def test_gc_does_not_run_beside_a_run_but_a_dry_run_does(run):
    publish(run, setting=1)
    publish(run, setting=2)

    pid, reader = _hold_elsewhere(run)
    try:
        with pytest.raises(BusyError, match="already at work"):
            collect(run)
        assert len(collect(run, dry_run=True)) == 1
    finally:
        os.close(reader)
        os.waitpid(pid, 0)
    assert len(collect(run)) == 1


def _hold_elsewhere(run: Run) -> tuple[int, int]:
    """A child that holds the run's lock until the pipe given back is closed."""
    held_r, held_w = os.pipe()
    leave_r, leave_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(leave_w)
        with run.hold("selfreward run"):
            os.write(held_w, b"x")
            os.read(leave_r, 1)
        os._exit(0)
    os.read(held_r, 1)
    return pid, leave_w


def test_a_reader_that_is_under_way_reads_on(run):
    table = publish(run, setting=1).table()
    dataset = run.current("ift").dataset()
    publish(run, setting=2)
    assert len(collect(run)) == 1
    assert table.equals(rows(100))
    assert dataset.to_list() == rows(100).to_pylist()


def test_a_version_made_current_just_before_or_just_after_its_name_is_taken_stays(run, monkeypatch):
    """Somebody who holds no lock makes the doomed version current at the worst moments: it keeps or gets its name."""
    old, _ = publish(run, setting=1), publish(run, setting=2)
    asked = []
    is_current = gc_module._is_current
    for moment in (1, 2):
        asked.clear()

        def just_in_time(run_: Run, version, moment=moment) -> bool:
            asked.append(version)
            if len(asked) == moment:
                gc_module.update_state(
                    run_.path, lambda s: s.with_current("ift", old.version, old.manifest_sha256)
                )
            return is_current(run_, version)

        monkeypatch.setattr(gc_module, "_is_current", just_in_time)
        assert collect(run) == []
        assert run.current("ift").table().equals(rows(100))
        monkeypatch.setattr(gc_module, "_is_current", is_current)
        run.make_current(run.find(recipe(setting=2)))


def test_gc_refuses_to_guess_where_a_current_version_is_damaged_or_missing(run):
    old, new = publish(run, setting=1), publish(run, setting=2)
    (new.folder / "manifest.json").write_text("{}")
    with pytest.raises(DamagedError):
        collect(run)
    assert old.folder.is_dir()


def test_quarantined_versions_and_strange_folders_are_left_alone(run):
    publish(run)
    aside = run.quarantine(run.current("ift"))
    stranger = run.path / "datasets" / "ift" / "notes"
    stranger.mkdir()
    assert collect(run) == []
    assert aside.is_dir()
    assert stranger.is_dir()
