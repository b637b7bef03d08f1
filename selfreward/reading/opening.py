"""Users' files as bytes: unpacked if gzipped, with one-sentence errors."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

from selfreward.errors import InputError

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"


def kind_of(path: Path) -> Literal["json", "csv", "parquet"]:
    """The format of a file: Parquet by its first bytes or name, CSV by its name, everything else is JSON."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return "csv"
    with explained(path, str(path)), open_bytes(path) as file:
        return "parquet" if name.endswith(".parquet") or file.read(4) == _PARQUET else "json"


def read_text(path: Path) -> str:
    """A whole UTF-8 file, unpacked if its first bytes say gzip."""
    with explained(path, str(path)), open_bytes(path) as file:
        return file.read().decode("utf-8-sig")


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The file's bytes, unpacked if the first two say gzip or the name ends so."""
    with path.open("rb") as probe:
        # By content, since downloads often lose the ending; by name, to report a damaged one as gzip.
        packed = probe.read(2) == _GZIP or path.suffix == ".gz"
    with gzip.open(path, "rb") if packed else path.open("rb") as file:
        yield file  # type: ignore[misc]  # GzipFile reads as any binary file does


@contextmanager
def explained(path: Path, where: str) -> Iterator[None]:
    """Turn what a library raises while reading into an InputError; `where` is the file's name in messages."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder; give one of the files in it") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{where}: the gzip file is cut off or damaged ({error})") from error
    # Last: several of the specific errors above are OSErrors too.
    except (pa.ArrowException, OSError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise InputError(f"{where}: cannot be read ({reason})") from error
