"""Several writers, readers meanwhile, and library writers that are killed while they fill a folder."""

from __future__ import annotations

import errno
import fcntl
import os
import random
import subprocess
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from driver import Operation, at_once, kill_at_random
from operations import publish, publish_model, recipe, rows
from tried import tried

from selfreward.errors import BusyError, DamagedError, StoreError
from selfreward.store import lock, writer
from selfreward.store.contenthash import content_sha256
from selfreward.store.gc import collect
from selfreward.store.owner import is_temporary
from selfreward.store.run import Counts, Run

N_WRITERS = 10


def publish_own_rows(folder: Path, writer_number: int) -> str:
    """Every writer has rows of its own under the same key, as two runs of a sampled model would."""
    table = rows(1000 * writer_number)
    version = Run(folder).publish_table(recipe("ift", 1), table, Counts(4, 4))
    return version.content_sha256


def rounds_of_one_key(folder: Path, n_rounds: int) -> None:
    for number in range(n_rounds):
        run = Run.create(folder / f"round-{number}")
        contents = at_once([partial(publish_own_rows, run.path, w) for w in range(N_WRITERS)])
        assert len(set(contents)) == 1, "writers came home with different versions"
        (version,) = run.versions("ift")
        assert run.current("ift") == version
        assert content_sha256(version.table()) == contents[0]
        assert not [p for p in run.path.rglob("*") if is_temporary(p.name)]
    tried(f"rounds of {N_WRITERS} writers of one key: one version, used by all", n_rounds)


def test_of_ten_writers_of_one_key_one_wins_and_the_others_use_its_version(sweep_folder):
    rounds_of_one_key(sweep_folder, 10)


@pytest.mark.faults
def test_fifty_rounds_of_ten_writers_of_one_key(sweep_folder):
    rounds_of_one_key(sweep_folder, 50)


def test_writers_of_different_keys_do_not_disturb_each_other(sweep_folder):
    """Ten writers publish five datasets each, some names twice with another setting: all are current or remembered."""
    run = Run.create(sweep_folder / "run")
    names = ["ift", "eft", "iter1/prompts", "iter1/pairs", "iter2/pairs"]

    def work(number: int) -> None:
        for name in names[number % 5 :] + names[: number % 5]:
            publish(run.path, name if number < 2 else f"{name}_{number}", number)

    at_once([lambda n=n: work(n) for n in range(N_WRITERS)])
    state = run.state()
    assert len(state.current) == 5 + 5 * 8
    for name in names:
        entry = state.current[name]
        assert {entry.version, *entry.previous} == {recipe(name, 0).version, recipe(name, 1).version}
    assert len(list(run.verify(run.names()))) == 50


def read_through(folder: Path, n_publishes: int) -> None:
    run = Run.create(folder / "run")
    publish(run.path, "ift", 0)
    known = {content_sha256(rows(setting * 100)) for setting in range(n_publishes + 1)}
    pid = os.fork()
    if pid == 0:
        for setting in range(1, n_publishes + 1):
            publish(run.path, "ift", setting)
        os._exit(0)
    n_reads, slowest_s, seen = 0, 0.0, set()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        started = time.monotonic()
        table = run.current("ift").table()
        slowest_s = max(slowest_s, time.monotonic() - started)
        content = content_sha256(table)
        assert content in known
        seen.add(content)
        n_reads += 1
    assert content_sha256(run.current("ift").table()) == content_sha256(rows(n_publishes * 100))
    tried("publishes under a reader that loops", n_publishes)
    tried("reads beside them, each of a whole version", n_reads)
    assert len(seen) > 1
    assert slowest_s < 5  # it never waits for a lock; what it may wait for is a busy machine


def test_a_reader_sees_whole_versions_through_many_publishes(sweep_folder):
    read_through(sweep_folder, 60)


@pytest.mark.faults
def test_a_reader_sees_whole_versions_through_two_hundred_publishes(sweep_folder):
    read_through(sweep_folder, 200)


def test_a_reader_waits_for_no_lock(sweep_folder):
    """The run's lock and the file beside it are held by another process all the while."""
    run = Run.create(sweep_folder / "run")
    publish(run.path, "ift", 1)
    held, let_go = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        with run.hold("a long stage"), lock._alone(run.path / ".lock-takeover"):
            os.write(held[1], b"x")
            os.read(let_go[0], 1)
        os._exit(0)
    os.read(held[0], 1)
    try:
        assert Run(run.path).current("ift").table().equals(rows(100))
        assert len(list(run.verify(["ift"]))) == 1
    finally:
        os.write(let_go[1], b"x")
        assert os.waitpid(pid, 0)[1] == 0


def test_where_flock_does_nothing_ten_writers_still_publish_one_version(sweep_folder, monkeypatch):
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    rounds_of_one_key(sweep_folder, 2)


def test_readers_and_writers_live_with_a_gc_that_runs_all_the_time(sweep_folder):
    """A reader that has opened a version keeps it; one that comes too late is told so, and finds the next one."""
    run = Run.create(sweep_folder / "run")
    publish(run.path, "ift", 0)

    def write() -> None:
        for setting in range(1, 31):
            while True:
                with suppress(BusyError), run.hold("write"):
                    publish(run.path, "ift", setting)
                    break

    def read() -> int:
        until, n_late = time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            try:
                table = run.current("ift").table()
            except DamagedError:
                raise
            except StoreError:
                n_late += 1
                continue
            time.sleep(0.002)
            first = int(table["candidate_id"][0].as_py()[2:])
            assert table.equals(rows(first))
        return n_late

    def collect_often() -> int:
        until, n_removed = time.monotonic() + 1.5, 0
        while time.monotonic() < until:
            with suppress(BusyError):
                n_removed += len(collect(run))
        return n_removed

    _, late, removed = at_once([write, read, collect_often])
    assert isinstance(late, int)
    tried("versions removed by gc under a reader that loops", removed)
    assert content_sha256(run.current("ift").table()) == content_sha256(rows(3000))


def _large_publish(folder: Path) -> None:
    """Some ten thousand rows in shards of 100 kB: most of its time is Arrow's."""
    writer.SHARD_BYTES, writer._BATCH_ROWS = 100_000, 500
    table = rows(0, 12_000)
    Run.create(folder).publish_table(recipe("ift", 1), table, Counts(12_000, 12_000))


def _publish_after_a_large_one(folder: Path) -> None:
    run = Run.create(folder)
    if run.find(recipe("ift", 1)) is None:
        _large_publish(folder)
    run.make_current(run.find(recipe("ift", 1)))


_LIBRARY = Operation("fill shards and publish", lambda f: publish(f, "ift", 0), _publish_after_a_large_one)


@pytest.fixture(autouse=True)
def usual_shards(monkeypatch):
    monkeypatch.setattr(writer, "SHARD_BYTES", writer.SHARD_BYTES)
    monkeypatch.setattr(writer, "_BATCH_ROWS", writer._BATCH_ROWS)


def _publish_weights(folder: Path) -> None:
    """Ten files of weights, as a training step saves them."""
    from safetensors.numpy import save_file

    run = Run.create(folder)
    found = run.find(recipe("M1", 2))
    if found is not None:
        return run.make_current(found)
    with run.draft("M1") as draft:
        for number in range(10):
            save_file({"weight": np.full((1000, 1000), number, np.float32)}, draft / f"{number}.safetensors")
        run.publish_model(recipe("M1", 2), draft, Counts(2, 2))
    return None


_WEIGHTS = Operation("save weights and publish", lambda f: publish_model(f, "M1", 1), _publish_weights)
each_library = pytest.mark.parametrize("operation", [_LIBRARY, _WEIGHTS], ids=["Arrow", "safetensors"])


@each_library
def test_a_library_writer_killed_at_random_times_leaves_old_or_new(operation, sweep_folder):
    print(kill_at_random(operation, sweep_folder, 12, random.Random(7)))


@pytest.mark.faults
@each_library
def test_a_library_writer_killed_three_hundred_times(operation, sweep_folder):
    print(kill_at_random(operation, sweep_folder, 300, random.Random(8)))


@pytest.mark.faults
def test_a_disk_that_is_really_full_loses_nothing(tmp_path):
    """A file system of 3 MB filled to every level: publishing fails and says so, or is whole; the old version reads."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(disk)], capture_output=True
    )
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    outcomes = {"refused": 0, "published": 0}
    try:
        for filled in range(0, 3_000_000, 60_000):
            outcomes[_publish_on_a_full_disk(disk / "run", filled)] += 1
            for path in disk.iterdir():
                subprocess.run(["rm", "-rf", str(path)], check=True)
    finally:
        subprocess.run(["umount", str(disk)], check=True)
    for outcome, n in outcomes.items():
        tried(f"publishes on a disk that is really full: {outcome}", n)
    assert min(outcomes.values()) > 0


def _publish_on_a_full_disk(folder: Path, filled: int) -> str:
    publish(folder, "ift", 0)
    with suppress(OSError):  # the last of it may not fit
        (folder.parent / "ballast").write_bytes(bytes(filled))
    run, table = Run(folder), rows(0, 12_000)
    outcome = _publish_or_say_why(run, table)
    assert run.current("ift").table().equals(table if outcome == "published" else rows(0))
    return outcome


def _publish_or_say_why(run: Run, table: pa.Table) -> str:
    try:
        run.publish_table(recipe("ift", 1), table, Counts(12_000, 12_000))
    except StoreError as error:
        if "No space left" in str(error) and "free)" in str(error):
            return "refused"
        raise
    return "published"
