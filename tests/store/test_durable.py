"""The layer of durable calls: what each leaves behind when it succeeds, fails, or loses a race."""

from __future__ import annotations

import ast
import errno
import os
import resource
import signal
from pathlib import Path

import pytest

from selfreward.errors import StoreError
from selfreward.store import durable


@pytest.fixture
def fail_at(monkeypatch):
    """`fail_at("rename")` makes the next call of that name fail with ENOSPC."""

    def set_hook(name: str) -> None:
        def hook(call: str, path: Path) -> None:
            if call == name:
                monkeypatch.setattr(durable, "hook", None)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(durable, "hook", hook)

    return set_hook


def test_the_hook_hears_of_every_call_before_it_acts(tmp_path, monkeypatch):
    heard = []
    monkeypatch.setattr(durable, "hook", lambda call, path: heard.append((call, path.name, path.exists())))
    durable.replace_file(tmp_path / "a.json", b"{}")
    assert [call for call, _, _ in heard] == ["write", "rename", "fsync"]
    assert heard[1] == ("rename", "a.json", False)


def test_an_error_names_the_call_the_path_the_reason_and_the_free_space(tmp_path, fail_at):
    fail_at("write")
    with pytest.raises(
        StoreError, match=r"cannot write .*a\.json: No space left on device \(\d+\.\d GiB free\)"
    ):
        durable.write_new(tmp_path / "deep" / "a.json", b"{}")


@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path, fail_at, call):
    (tmp_path / "a.json").write_text("old")
    fail_at(call)
    with pytest.raises(StoreError):
        durable.replace_file(tmp_path / "a.json", b"new")
    assert os.listdir(tmp_path) == ["a.json"]
    assert (tmp_path / "a.json").read_text() == "old"


def test_a_write_that_the_system_cuts_short_is_an_error_and_leaves_no_file(tmp_path):
    """A file size limit of 1,000 bytes makes the kernel write 1,000 of 5,000 bytes, then refuse: EFBIG, as ENOSPC would.

    In a child, because the limit cannot be taken back.
    """
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            durable.write_new(tmp_path / "a", b"x" * 5000)
        except StoreError as error:
            os._exit(0 if "File too large" in str(error) else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert not list(tmp_path.iterdir())


def test_of_two_finished_folders_the_first_gets_the_name(tmp_path):
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "content").write_text(name)
    assert durable.publish_folder(tmp_path / "first", tmp_path / "target")
    assert not durable.publish_folder(tmp_path / "second", tmp_path / "target")
    assert (tmp_path / "target" / "content").read_text() == "first"
    assert (tmp_path / "second").is_dir()


def test_everything_in_a_folder_is_durable_before_it_gets_its_name(tmp_path, monkeypatch):
    hidden = tmp_path / ".tmp-x"
    (hidden / "inner").mkdir(parents=True)
    (hidden / "inner" / "a").write_text("")
    (hidden / "b").write_text("")
    calls = []
    monkeypatch.setattr(durable, "hook", lambda call, path: calls.append((call, path.name)))
    durable.publish_folder(hidden, tmp_path / "x")
    assert calls[-2:] == [("rename", "x"), ("fsync", tmp_path.name)]
    assert sorted(calls[:-2]) == [("fsync", name) for name in (".tmp-x", "a", "b", "inner")]


def test_a_link_to_a_taken_name_is_refused_without_an_error(tmp_path):
    (tmp_path / "a").write_text("a")
    assert durable.link_new(tmp_path / "a", tmp_path / "b")
    assert not durable.link_new(tmp_path / "a", tmp_path / "b")


def test_a_symlink_is_moved_in_one_step_and_left_alone_where_it_is_right(tmp_path, monkeypatch):
    durable.point_symlink(tmp_path / "link", "one")
    durable.point_symlink(tmp_path / "link", "two")
    monkeypatch.setattr(durable, "hook", lambda call, path: pytest.fail("nothing to do"))
    durable.point_symlink(tmp_path / "link", "two")
    assert os.readlink(tmp_path / "link") == "two"
    assert os.listdir(tmp_path) == ["link"]


def test_a_folder_loses_its_name_before_its_content(tmp_path, fail_at):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a").write_text("")
    fail_at("unlink")
    with pytest.raises(StoreError):
        durable.remove_tree(tmp_path / "v")
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".trash-v-")
    assert (left / "a").exists()


def test_errors_of_library_writers_are_explained_if_they_are_the_disks_or_the_folders(tmp_path):
    with pytest.raises(StoreError, match="No space left"), durable.filling(tmp_path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(StoreError, match="missing/a"), durable.filling(tmp_path):
        (tmp_path / "missing" / "a").write_text("")
    with pytest.raises(FileNotFoundError), durable.filling(tmp_path):
        Path("/no/such/file").read_text()
    with pytest.raises(ConnectionResetError), durable.filling(tmp_path):
        raise ConnectionResetError(errno.ECONNRESET, "the judge's server hung up")


def test_a_missing_file_reads_as_none_and_an_unreadable_one_is_explained(tmp_path):
    assert durable.read(tmp_path / "none") is None
    with pytest.raises(StoreError, match="cannot read"):
        durable.read(tmp_path)


# -- nothing goes around it ----------------------------------------------------------------------------------

_VISIBLE = {"rename", "renames", "unlink", "mkdir", "makedirs", "write_text", "write_bytes", "symlink", "symlink_to",
            "hardlink_to", "link", "touch", "rmdir", "fsync", "truncate", "ftruncate", "os.replace", "os.open",
            "shutil.rmtree", "shutil.copy", "shutil.copy2", "shutil.copyfile", "shutil.copytree", "shutil.move"}  # fmt: skip
_HIDDEN_ANYWAY = {
    "selfreward/store/durable.py": "this layer",
    "selfreward/store/lock.py": "os.open, announced with durable.call",
    "selfreward/store/journal.py": "os.open, announced with durable.call",
    "selfreward/store/writer.py": "shards in the hidden folder, announced with durable.call",
    "selfreward/cli/__init__.py": "/dev/null, and whether --log-file can be opened",
    "selfreward/progress.py": "lines appended to the user's --log-file",
    "selfreward/exchange/exporting.py": "fills the hidden name that durable.new_file gives",
    "selfreward/sql/output.py": "fills the hidden name that durable.new_file gives",
    "selfreward/models/pull.py": "the hidden folder of a download, published by durable.publish_folder",
    "selfreward/engines/vllm/process.py": "a worker's log in the folder for temporary files",
    "data_cards/cards/render.py": "the hidden folder in which a repository or a card is drawn",
    "data_cards/cards/report_copy.py": "the same",
    "data_cards/tree/parquet.py": "the same",
    "data_cards/staging.py": "the same",
    "data_cards/preview.py": "the same; durable.replace_file shows its files",
    "data_cards/publish.py": "the same",
    "data_cards/tree/trees.py": "a dry run's copy of that folder",
    "data_cards/hub/pull.py": "hidden folders of a download and a draft, published by durable.publish_folder",
}


def _calls_around_the_layer(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and (name := _name(node.func)) and _goes_around(name, node):
            found.append(f"line {node.lineno}: {name}")
    return found


def _name(function: ast.expr) -> str | None:
    if isinstance(function, ast.Name):
        return function.id
    if isinstance(function, ast.Attribute):
        owner = function.value.id if isinstance(function.value, ast.Name) else "…"
        return f"{owner}.{function.attr}"
    return None


def _goes_around(name: str, call: ast.Call) -> bool:
    owner, _, last = name.rpartition(".")
    modes = {a.value for a in call.args + [k.value for k in call.keywords] if isinstance(a, ast.Constant)}
    writes = any(isinstance(mode, str) and mode.rstrip("bt+") in ("w", "a", "x", "r+") for mode in modes)
    return owner != "durable" and (not _VISIBLE.isdisjoint({name, last}) or (last == "open" and writes))


def test_the_search_for_calls_around_the_layer_finds_them():
    source = 'p.unlink(); os.replace(a, b); open(p, "w"); p.open("xb"); shutil.move(a, b); durable.rename(a, b); s.replace("a", "b"); layer.move(b); open(p)'
    assert [line.split()[-1] for line in _calls_around_the_layer(source)] == [
        "p.unlink", "os.replace", "open", "p.open", "shutil.move"]  # fmt: skip


def test_no_module_makes_anything_visible_or_durable_but_through_this_layer():
    root = Path(__file__).parents[2]
    packages = ("selfreward", "builders", "judging", "training", "evaluation", "data_cards")
    around = {
        path.relative_to(root).as_posix(): calls
        for package in packages
        for path in (root / package).rglob("*.py")
        if (calls := _calls_around_the_layer(path.read_text()))
    }
    assert {name: calls for name, calls in around.items() if name not in _HIDDEN_ANYWAY} == {}
    assert _HIDDEN_ANYWAY.keys() - around.keys() == set(), "these need no exception any more"
