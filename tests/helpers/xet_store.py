"""The part of the Xet storage protocol that the client needs to upload: xorbs of compressed chunks, shards that name files.

    store = XetStore()
    store.add_xorb("36d2…", body)       # POST /v1/xorbs/default/HASH
    store.files_of(shard)               # POST /v1/shards: {sha256: content}, put together from the xorbs

Formats as the specification gives them (huggingface.co/docs/xet): a chunk has eight bytes of header; a shard has 48, then
for each file a hash with flags, its terms (ranges of chunks of a xorb), their verification, and the SHA-256. Not here:
deduplication against other people's files (the client asks, and is told that nothing is known), and downloads by Xet.
"""

from __future__ import annotations

import struct

import pyarrow as pa

_HEADER = 48
_ENTRY = 48
_BOOKMARK = b"\xff" * 32
_HAS_VERIFICATION, _HAS_METADATA = 1 << 31, 1 << 30


class XetStore:
    """Xorbs by hash; one for each server."""

    def __init__(self):
        self.xorbs: dict[str, list[bytes]] = {}

    def add_xorb(self, xorb_hash, body):
        self.xorbs[xorb_hash] = chunks_of(body)

    def files_of(self, shard):
        """Content by SHA-256; KeyError for a xorb that was never uploaded."""
        files, at = {}, _HEADER
        while (file_hash := shard[at : at + 32]) != _BOOKMARK and file_hash:
            flags, n_terms = struct.unpack_from("<II", shard, at + 32)
            at += _ENTRY
            terms = [shard[at + i * _ENTRY : at + (i + 1) * _ENTRY] for i in range(n_terms)]
            at += n_terms * _ENTRY * (2 if flags & _HAS_VERIFICATION else 1)
            content = b"".join(map(self._term, terms))
            if flags & _HAS_METADATA:
                files[as_hex(shard[at : at + 32])] = content
                at += _ENTRY
        return files

    def _term(self, entry):
        start, end = struct.unpack_from("<II", entry, 40)
        return b"".join(self.xorbs[as_hex(entry[:32])][start:end])


def chunks_of(xorb):
    """The chunks of a xorb, decompressed."""
    chunks, at = [], 0
    while at < len(xorb) and xorb[at : at + 1] == b"\0":  # a footer, where there is one, begins otherwise
        stored, scheme = int.from_bytes(xorb[at + 1 : at + 4], "little"), xorb[at + 4]
        size = int.from_bytes(xorb[at + 5 : at + 8], "little")
        chunks.append(_decompressed(xorb[at + 8 : at + 8 + stored], scheme, size))
        at += 8 + stored
    return chunks


def _decompressed(data, scheme, size):
    """Scheme 0 is none, 1 LZ4, 2 LZ4 after sorting the bytes by their position modulo four."""
    if scheme == 0:
        return data
    plain = pa.decompress(data, size, codec="lz4", asbytes=True)
    if scheme == 1:
        return plain
    sorted_back, at = bytearray(size), 0
    for lane in range(4):
        n = len(range(lane, size, 4))
        sorted_back[lane::4] = plain[at : at + n]
        at += n
    return bytes(sorted_back)


def as_hex(raw):
    """A hash as addresses write it: four little-endian numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))
