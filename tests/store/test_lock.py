"""The run's lock: one live holder, a dead one is reported and taken over, once."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from selfreward.errors import BusyError
from selfreward.store import lock
from selfreward.store.owner import identity, is_alive, is_temporary, owner_runs, temporary_name


def in_child(work) -> int:
    """Fork, run `work`, give back the pid; the child leaves with what `work` returns."""
    pid = os.fork()
    if pid == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(work() or 0)
    return pid


def leave_a_lock(folder) -> None:
    def killed_at_work() -> None:
        with lock.hold(folder, "selfreward run"):
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_child(killed_at_work), 0)
    assert (folder / ".lock").exists()


def test_a_live_holder_is_named_to_the_second_process(tmp_path):
    with lock.hold(tmp_path, "selfreward run"):
        with pytest.raises(
            BusyError, match=rf"process {os.getpid()} on .*\(selfreward run\); wait for it or stop it"
        ):
            lock.hold(tmp_path, "selfreward gc").__enter__()
        assert (tmp_path / ".lock").exists()
    assert os.listdir(tmp_path) == [".lock-takeover"]
    with lock.hold(tmp_path, "the next"):
        pass


def test_a_dead_processs_lock_is_reported_and_taken_over(tmp_path, capsys):
    leave_a_lock(tmp_path)
    owner = json.loads((tmp_path / ".lock").read_text())
    with lock.hold(tmp_path, "the next"):
        assert (
            f"taking over from process {owner['pid']}, which died at work (selfreward run)"
            in capsys.readouterr().err
        )
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_a_reused_process_id_and_an_earlier_boot_do_not_pass_for_alive(tmp_path):
    me = identity(os.getpid())
    assert is_alive(me)
    assert not is_alive({**me, "start": "1"})
    assert not is_alive({**me, "boot": "an earlier one"})
    assert not is_alive({**me, "pid": "unknown"})


def test_a_holder_on_another_host_cannot_be_judged_and_the_message_says_what_to_remove(tmp_path):
    (tmp_path / ".lock").write_text(json.dumps({"host": "elsewhere", "pid": 1, "doing": "selfreward run"}))
    with pytest.raises(
        BusyError, match=r"process 1 on elsewhere .* if that machine was lost, remove .*\.lock"
    ):
        lock.hold(tmp_path, "x").__enter__()


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"pid": 1'], ids=["empty", "brace", "list", "torn"])
def test_an_unreadable_lock_is_taken_over(tmp_path, content):
    (tmp_path / ".lock").write_text(content)
    with lock.hold(tmp_path, "x"):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def test_many_takeovers_at_once_give_one_holder_at_a_time(tmp_path):
    """Twelve processes find the same dead lock. Each that gets it appends begin and end; they never interleave."""
    leave_a_lock(tmp_path)
    log = tmp_path / "log"
    start = time.monotonic() + 0.1

    def contend() -> None:
        time.sleep(max(0, start - time.monotonic()))
        while True:
            try:
                with lock.hold(tmp_path, "contend"), log.open("a", buffering=1) as lines:
                    lines.write(f"begin {os.getpid()}\n")
                    time.sleep(0.005)
                    lines.write(f"end {os.getpid()}\n")
                return
            except BusyError:
                time.sleep(0.002)

    for child in [in_child(contend) for _ in range(12)]:
        assert os.waitpid(child, 0)[1] == 0
    words = [line.split() for line in log.read_text().splitlines()]
    assert len(words) == 24
    for begin, end in zip(words[::2], words[1::2], strict=True):
        assert (begin[0], end[0], begin[1]) == ("begin", "end", end[1])
    assert sorted(os.listdir(tmp_path)) == [".lock-takeover", "log"]


def test_a_temporary_name_tells_whether_its_owner_runs():
    name = temporary_name("draft")
    assert is_temporary(name)
    assert owner_runs(name)
    assert not is_temporary("run.json")
    assert owner_runs(name.rpartition("-")[0].rpartition("-")[0] + "-deadbeef-01234567") is None

    reader, writer = os.pipe()
    os.waitpid(in_child(lambda: os.write(writer, temporary_name("draft").encode()) and None), 0)
    assert owner_runs(os.read(reader, 1000).decode()) is False
