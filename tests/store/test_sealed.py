"""Sealed files: any flipped bit is refused; what JSON changes on the way does not break the seal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import DamagedError, FormatError
from selfreward.store.sealed import FORMAT, canonical, digest, seal, unseal

_BODY = {
    "format": 1,
    "name": "iter1/pairs",
    "counts": {"dropped": {"tie": 3}},
    "note": "é 😀",
    "x": [1.5, None],
}
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


def test_every_single_flipped_bit_is_refused():
    content = seal(_BODY)
    for number in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[number // 8] ^= 1 << number % 8
        with pytest.raises(DamagedError, match=r"m\.json"):
            unseal(bytes(damaged), Path("m.json"))


def test_every_truncation_and_every_added_byte_is_refused():
    content = seal(_BODY)
    for size in range(len(content)):
        with pytest.raises(DamagedError):
            unseal(content[:size], Path("m.json"))
    for extra in (b"\n", b" ", b"\0"):
        with pytest.raises(DamagedError):
            unseal(content + extra, Path("m.json"))


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "seal"), _JSON, max_size=4))
def test_what_was_sealed_comes_back(body):
    body = {**body, "format": 1}
    assert unseal(seal(body), Path("m.json")) == body


def test_integer_keys_come_back_as_text_and_do_not_break_the_seal():
    """9 sorts before 10, "10" before "9": a seal over the unsorted numbers would never match what is read back."""
    body = {"format": 1, "scores": {9: 1, 10: 2}, "pair": (1, 2)}
    assert unseal(seal(body), Path("m.json")) == {"format": 1, "scores": {"9": 1, "10": 2}, "pair": [1, 2]}


def test_what_json_cannot_hold_is_refused():
    for value in (float("nan"), float("inf"), {1: "a", "1": "b"}):
        with pytest.raises(ValueError):
            canonical(value)
    with pytest.raises(TypeError):
        canonical({"path": Path("x")})


def test_canonical_json_is_sorted_compact_utf8():
    assert canonical({"b": [1, 2.5], "a": "é"}) == '{"a":"é","b":[1,2.5]}'.encode()
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_a_newer_and_an_impossible_format_are_refused_with_both_versions_named():
    """Policy: formats from 1 on are read for ever, a newer one never; nobody wrote a format 0."""
    with pytest.raises(
        FormatError, match=rf"m\.json: has format 2, this selfreward reads formats 1 to {FORMAT}; install"
    ):
        unseal(seal({"format": 2}), Path("m.json"))
    for found in (0, -1, None, "1"):
        with pytest.raises(
            FormatError, match=f"has format {found}, this selfreward reads formats 1 to {FORMAT}"
        ):
            unseal(seal({"format": found}), Path("m.json"))
    assert json.loads(seal({"format": 1}))["format"] == 1
