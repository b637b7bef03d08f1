"""Every call that makes something visible or durable, in one small layer.

Nothing else in the project renames, links, fsyncs, unlinks or writes a file that a reader may later trust.
Library writers (Arrow, safetensors, DuckDB) only ever fill a hidden folder that `publish_folder` makes visible.
Each function announces itself to `hook` *before* it acts, so that a test can make the n-th call fail or kill
the process there; in production the hook is None.

An operating-system error becomes a StoreError that names the path and the free space on its disk. What is not
covered: a disk that lies about fsync, and network file systems without atomic rename (docs/reliability.md).
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from selfreward.errors import StoreError

hook: Callable[[str, Path], None] | None = None
"""Called as hook(call, path) before each call; tests raise OSError or kill the process from it."""


@contextmanager
def _call(name: str, path: Path) -> Iterator[None]:
    try:
        if hook is not None:
            hook(name, path)
        yield
    except OSError as error:
        raise StoreError(f"cannot {name} {path}: {error.strerror or error} ({free_space(path)})") from error


def free_space(path: Path) -> str:
    """`1.2 GiB free`, of the disk that holds `path` or its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        return f"{shutil.disk_usage(path).free / 2**30:.1f} GiB free"
    except OSError:
        return "free space unknown"


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; each new name is durable in its parent."""
    if not path.is_dir():
        make_folder(path.parent)
        with _call("mkdir", path):
            path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    return path


def new_hidden_folder(parent: Path, stem: str) -> Path:
    """A fresh folder that no reader looks at; its name tells the owner's process id to `gc`."""
    folder = make_folder(parent) / f".tmp-{stem}-{os.getpid()}-{secrets.token_hex(4)}"
    with _call("mkdir", folder):
        folder.mkdir()
    return folder


def write_new(path: Path, content: bytes) -> None:
    """Write and fsync a file that must not exist yet."""
    with _call("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: readers see the old bytes or the new ones, also after a crash."""
    temporary = path.with_name(f".tmp-{path.name}-{os.getpid()}-{secrets.token_hex(4)}")
    write_new(temporary, content)
    with _call("rename", path):
        temporary.rename(path)
    sync_folder(path.parent)


def append(descriptor: int, path: Path, content: bytes) -> None:
    """Append to an open journal and fsync; a crash inside leaves at most one torn line at the end."""
    with _call("append", path):
        write_all(descriptor, content)
        os.fsync(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """os.write until everything is written; a short write is not an error of the caller."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def truncate(descriptor: int, path: Path, size: int) -> None:
    """Cut a torn tail off a journal before anything is appended behind it."""
    with _call("truncate", path):
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)


def sync_file(path: Path) -> None:
    with _call("fsync", path):
        _fsync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    with _call("fsync", path):
        _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(hidden: Path, target: Path) -> bool:
    """Make a finished hidden folder visible under `target`; False if another writer was first.

    Everything inside is durable before the rename. A rename onto a folder that is not empty fails in the
    kernel, so exactly one of several writers wins, without any lock.
    """
    for path in sorted(hidden.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(hidden)
    with _call("rename", target):
        try:
            hidden.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
    sync_folder(target.parent)
    return True


def link_new(source: Path, target: Path) -> bool:
    """Hard-link `source` as `target`, atomically; False if the name is taken."""
    with _call("link", target):
        try:
            os.link(source, target)
        except FileExistsError:
            return False
    sync_folder(target.parent)
    return True


def point_symlink(link: Path, target: str) -> None:
    """Make `link` a relative symlink to `target`, atomically; nothing is done if it already is one."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    temporary = link.with_name(f".tmp-{link.name}-{os.getpid()}-{secrets.token_hex(4)}")
    with _call("symlink", link):
        temporary.symlink_to(target)
    with _call("rename", link):
        temporary.rename(link)
    sync_folder(link.parent)


def rename(source: Path, target: Path) -> None:
    with _call("rename", target):
        source.rename(target)
    sync_folder(target.parent)


def remove_file(path: Path) -> None:
    with _call("unlink", path):
        path.unlink(missing_ok=True)


def remove_tree(path: Path) -> None:
    """Remove a folder: first its name, in one step, then its content; a crash leaves only hidden rubbish."""
    if not path.exists():
        return
    doomed = path.with_name(f".trash-{path.name.lstrip('.')}-{os.getpid()}-{secrets.token_hex(4)}")
    with _call("rename", path):
        path.rename(doomed)
    with _call("unlink", doomed):
        shutil.rmtree(doomed)
