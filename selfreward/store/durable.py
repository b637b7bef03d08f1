"""Every call that makes something visible or durable, in one small layer.

Nothing else in the project renames, links, fsyncs, unlinks or writes a file that a reader may later trust.
Library writers (Arrow, safetensors, DuckDB) only ever fill a hidden folder that `publish_folder` makes visible.
Each function calls `hook` *before* it acts, so that a test can make the n-th call fail or kill the process there; in
production the hook is None.

An operating-system error becomes a StoreError that names the path and the free space on its disk. Not covered: a disk
that acknowledges fsync too early, and network file systems without atomic rename (docs/reliability.md).
"""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from selfreward.errors import StoreError
from selfreward.store.owner import owner_runs, temporary_name

hook: Callable[[str, Path], None] | None = None
"""Called as hook(call, path) before each call; tests raise OSError or kill the process from it."""

# Errors of the disk itself. Any other OSError that a library raises may concern something else, such as a socket.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)


@contextmanager
def call(name: str, path: Path) -> Iterator[None]:
    """Announce a call to the hook, and turn its OSError into a StoreError."""
    with explained(name, path):
        if hook is not None:
            hook(name, path)
        yield


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an OSError into a StoreError: what could not be done, where, why, and the free space there."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"cannot {doing} {path}: {error.strerror or error} ({free_space(path)}); "
            "fix that and run the same command again"
        ) from error


@contextmanager
def filling(folder: Path) -> Iterator[None]:
    """For library writers: errors of the disk, or of a file in `folder`, become StoreErrors; others pass through."""
    try:
        yield
    except OSError as error:
        ours = isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)
        if not ours and error.errno not in _DISK_ERRORS:
            raise
        with explained("write", Path(error.filename) if ours else folder):
            raise


def is_no_space(error: BaseException) -> bool:
    """Whether a StoreError of this module says that the disk, or the user's quota, is full."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in (errno.ENOSPC, errno.EDQUOT)


def read(path: Path) -> bytes | None:
    """The bytes of a small file, None if it does not exist."""
    with explained("read", path):
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None


def free_space(path: Path) -> str:
    """`1.2 GiB free`, for the disk that holds `path` or its nearest existing parent."""
    try:
        while not path.exists() and path != path.parent:
            path = path.parent
        return f"{shutil.disk_usage(path).free / 2**30:.1f} GiB free"
    except OSError:
        return "free space unknown"


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; each new name is durable in its parent."""
    with explained("mkdir", path):
        exists = path.is_dir()
    if not exists:
        make_folder(path.parent)
        with call("mkdir", path):
            path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    return path


def new_hidden_folder(parent: Path, stem: str) -> Path:
    """A fresh folder that readers ignore; its name tells `gc` which process made it."""
    folder = make_folder(parent) / temporary_name(stem)
    with call("mkdir", folder):
        folder.mkdir()
    return folder


def write_new(path: Path, content: bytes) -> None:
    """Write and fsync a file that must not exist yet; it is removed again on failure."""
    with call("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        try:
            with _removed_on_failure(path):
                write_all(descriptor, content)
                os.fsync(descriptor)
        finally:
            os.close(descriptor)


def replace_file(path: Path, content: bytes) -> None:
    """Replace a file atomically: readers see the old bytes or the new ones, also after a crash."""
    temporary = path.with_name(temporary_name(path.name))
    write_new(temporary, content)
    with _removed_on_failure(temporary), call("rename", path):
        temporary.rename(path)
    sync_folder(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` for a library to fill; on success it replaces `path`, on failure it is removed."""
    # The path may be outside of every run folder, where no `gc` would find what a killed process left.
    _sweep(path)
    temporary = path.with_name(temporary_name(path.name))
    with _removed_on_failure(temporary):
        with explained("write", path):
            yield temporary
        sync_file(temporary)
        with call("rename", path):
            temporary.rename(path)
    sync_folder(path.parent)


def _sweep(path: Path) -> None:
    with suppress(OSError):
        for left in path.parent.glob(f".tmp-{glob.escape(path.name)}-*"):
            # DuckDB's write-ahead log has the name of its file plus `.wal`.
            if owner_runs(left.name.removesuffix(".wal")) is False:
                left.unlink()


@contextmanager
def _removed_on_failure(temporary: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def append(descriptor: int, path: Path, content: bytes) -> None:
    """Append to an open journal and fsync; a crash inside leaves at most one torn line at the end."""
    with call("append", path):
        write_all(descriptor, content)
        os.fsync(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """os.write until everything is written: it may write less than it was given."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def truncate(descriptor: int, path: Path, size: int) -> None:
    """Cut a torn last line off a journal before anything is appended to it."""
    with call("truncate", path):
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)


def sync_file(path: Path) -> None:
    """Make a file's content durable."""
    with call("fsync", path):
        _fsync(path, os.O_RDONLY)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    with call("fsync", path):
        _fsync(path, os.O_RDONLY | os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish_folder(hidden: Path, target: Path) -> bool:
    """Make a finished hidden folder visible under `target`; False if another writer was first."""
    # Contents before names: after a power loss a visible folder must never hold files that are not on the disk.
    for path in sorted(hidden.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            sync_file(path)
    sync_folder(hidden)
    # The kernel refuses to rename onto a folder that is not empty, so exactly one of several writers wins without a lock.
    with call("rename", target):
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
    with call("link", target):
        try:
            os.link(source, target)
        except FileExistsError:
            return False
    sync_folder(target.parent)
    return True


def point_symlink(link: Path, target: str) -> None:
    """Make `link` a relative symlink to `target`, atomically; does nothing if it already is."""
    if link.is_symlink() and os.readlink(link) == target:
        return
    # `symlink` cannot replace an existing name, `rename` can.
    temporary = link.with_name(temporary_name(link.name))
    with call("symlink", link):
        temporary.symlink_to(target)
    with _removed_on_failure(temporary), call("rename", link):
        temporary.rename(link)
    sync_folder(link.parent)


def rename(source: Path, target: Path) -> None:
    """Give a file or folder another name, durably in the target's folder."""
    with call("rename", target):
        source.rename(target)
    sync_folder(target.parent)


def remove_file(path: Path) -> None:
    """Remove a file; no error if it is already gone."""
    with call("unlink", path):
        path.unlink(missing_ok=True)


def move_to_trash(path: Path) -> Path:
    """Take a folder's name away, in one step; readers that have its files open can continue."""
    doomed = path.with_name(temporary_name(path.name.lstrip("."), kind="trash"))
    with call("rename", path):
        path.rename(doomed)
    return doomed


def empty_trash(doomed: Path) -> None:
    """Delete a folder that has a hidden name; after a crash the rest is still hidden."""
    with call("unlink", doomed):
        shutil.rmtree(doomed)


def remove_tree(path: Path) -> None:
    """Remove a folder: first its name, in one step, then its content."""
    # Deleting under the visible name would show readers half a folder; a crash now leaves hidden files, which `gc` removes.
    if path.exists():
        empty_trash(move_to_trash(path))
