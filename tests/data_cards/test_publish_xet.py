"""Large files by Xet, which is what the client does by itself: the same promises, in a process of its own as a user starts it.

The rest of the tests goes by LFS (`HF_HUB_DISABLE_XET`), which shows the same faults without the waits of the Xet client.
"""

# ruff: noqa: F811
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hub_fixtures import hub  # noqa: F401
from hub_server import TOKEN
from published_run import make_published_run
from xet_store import XetStore, as_hex, chunks_of

from selfreward.data_cards.tree.parquet import read_dataset, write_dataset
from selfreward.store.run import Run

PUSH = """
import sys
from pathlib import Path
from selfreward.data_cards.hub.account import connect
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.hub.failures import HubError
from selfreward.data_cards.hub.push import push
from selfreward.data_cards.hub.record import Record
from selfreward.data_cards.tree.trees import Tree

folder = Path(sys.argv[1])
files = {p.relative_to(folder / "tree").as_posix(): p for p in (folder / "tree").rglob("*") if p.is_file()}
try:
    pushed = push(HubRepo(connect(), "ann/x", "dataset"), Tree.of(files), Record(folder), "run-1", "Publish", folder / "back")
    print(pushed.committed, pushed.verified)
except HubError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def folder(tmp_path):
    """A tree with the rows of `iter1/judgements` and with 300 kB that no chunking finds twice, ready to be pushed."""
    import random

    run = make_published_run(tmp_path / "run", with_model=False)
    write_dataset(run.current("iter1/judgements"), tmp_path / "tree")
    (tmp_path / "tree" / "model.safetensors").write_bytes(random.Random(0).randbytes(300_000))
    (tmp_path / "tree" / "README.md").write_text("# x\n")
    return tmp_path


def push(hub, folder):
    root = Path(__file__).parents[2]
    env = {
        **os.environ,
        "PYTHONPATH": str(root),
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": TOKEN,
        "HF_HOME": str(folder / "home"),
    }
    env.pop("HF_HUB_DISABLE_XET", None)
    return subprocess.run(
        [sys.executable, "-c", PUSH, str(folder)], env=env, capture_output=True, text=True, timeout=300
    )


def trees(hub):
    """What anybody could have seen, without the Hub's own file."""
    return [
        {p: b.content for p, b in c.files.items() if p != ".gitattributes"} for c in hub.repo("ann/x").commits
    ]


def local(folder):
    tree = folder / "tree"
    return {p.relative_to(tree).as_posix(): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def test_what_goes_up_by_xet_is_what_is_there(hub, folder):
    """One commit, every file read back and equal; nothing went by LFS."""
    done = push(hub, folder)
    assert done.stdout.split() == ["True", "3"], done.stderr[-2000:]
    assert trees(hub) == [{}, local(folder)]
    asked = [path for _, path, _ in hub.requests]
    assert any(path.startswith("/xet/v1/xorbs/") for path in asked)
    assert not any("/info/lfs/" in path for path in asked)


@pytest.mark.parametrize("part", ["/xet-write-token/", "/xet/v1/xorbs/", "/xet/v1/shards"])
def test_a_refused_upload_is_one_sentence_and_the_same_command_finishes(hub, folder, part):
    """403 of the storage; nobody saw anything of it."""
    hub.fault("GET" if "token" in part else "POST", part, times=1000, status=403)
    failed = push(hub, folder)
    assert failed.returncode == 1
    assert "uploading failed" in failed.stderr.splitlines()[-1]
    assert "nothing half-published" in failed.stderr.splitlines()[-1]
    assert trees(hub) == [{}]
    hub.faults.clear()
    assert push(hub, folder).stdout.split() == ["True", "3"]
    assert trees(hub) == [{}, local(folder)]


def test_a_connection_that_breaks_in_the_middle_of_a_xorb_is_taken_up_again(hub, folder):
    """By the client itself."""
    hub.fault("POST", "/xet/v1/xorbs/", reset=True)
    assert push(hub, folder).stdout.split() == ["True", "3"]
    assert trees(hub) == [{}, local(folder)]


def test_a_chunk_is_read_as_the_specification_writes_it():
    """Header 0, three bytes of stored length, the scheme, three bytes of length; two chunks and a footer."""
    xorb = b"\0\3\0\0\0\3\0\0abc" + b"\0\2\0\0\0\2\0\0de" + b"XETBLOB"
    assert chunks_of(xorb) == [b"abc", b"de"]
    store = XetStore()
    store.add_xorb("h", xorb)
    assert store.xorbs == {"h": [b"abc", b"de"]}
    assert as_hex(bytes(range(32)))[:16] == "0706050403020100"


def test_the_rows_that_went_up_by_xet_are_the_rows(hub, folder):
    """As the content hash of the store has them."""
    push(hub, folder)
    for path, content in trees(hub)[-1].items():
        (folder / "down" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "down" / path).write_bytes(content)
    version = Run(folder / "run").current("iter1/judgements")
    files = write_dataset(version, folder / "again")
    assert read_dataset(files, folder / "down").equals(version.table())
