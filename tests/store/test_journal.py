"""The journal: torn tails, damaged lines, doubled records and repeated crashes cost the unit, never its neighbours."""

from __future__ import annotations

import errno
import json
import os
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.engines import Request, Sampling, open_engine
from selfreward.errors import StoreError
from selfreward.steps.generation import Generation
from selfreward.store import durable
from selfreward.store.journal import Journal
from selfreward.tables import Message


def written(path, units) -> bytes:
    with Journal(path) as journal:
        for unit in units:
            journal.append(unit)
    return path.read_bytes()


def units_in(path) -> list:
    return list(Journal(path).units())


def test_units_come_back_in_order(tmp_path):
    units = [[{"request_id": "r1", "sample": 0, "text": "line\nline é 😀 \u2028"}], {"a": None}, 1.5]
    written(tmp_path / "j", units)
    assert units_in(tmp_path / "j") == units


def test_a_line_torn_at_any_byte_costs_that_unit_only(tmp_path):
    path = tmp_path / "j"
    content = written(path, ["first", "second"])
    first_line = content.index(b"\n") + 1
    for size in range(first_line, len(content)):
        path.write_bytes(content[:size])
        with Journal(path) as journal:
            assert list(journal.units()) == ["first"]
            journal.append("second")
        assert path.read_bytes() == content
        assert journal.n_damaged == 0


def test_a_torn_line_longer_than_a_block_is_cut(tmp_path):
    path = tmp_path / "j"
    whole = written(path, ["first", "x" * 200_000])
    path.write_bytes(whole[:150_000])
    with Journal(path) as journal:
        journal.append("again")
    assert units_in(path) == ["first", "again"]


def test_torn_then_crashed_twice_more_keeps_the_earlier_units(tmp_path):
    """Three starts, each cut in the middle of its last append; units are done once more, none is lost or doubled."""
    path = tmp_path / "j"
    for start in range(3):
        with Journal(path) as journal:
            done = list(journal.units())
            assert done == [f"unit {i}" for i in range(start)]
            journal.append(f"unit {start}")
            journal.append(f"unit {start + 1}")
        path.write_bytes(path.read_bytes()[: -3 - start])
    with Journal(path) as journal:
        assert list(journal.units()) == ["unit 0", "unit 1", "unit 2"]


def test_a_damaged_line_in_the_middle_is_skipped_and_counted(tmp_path):
    path = tmp_path / "j"
    content = bytearray(written(path, ["one", "two", "three"]))
    content[content.index(b"two")] ^= 1
    path.write_bytes(content)
    journal = Journal(path)
    assert list(journal.units()) == ["one", "three"]
    assert journal.n_damaged == 1


def test_a_record_written_twice_comes_back_twice_for_the_caller_to_key(tmp_path):
    path = tmp_path / "j"
    line = written(path, [["r1", 0]])
    path.write_bytes(line + line)
    assert units_in(path) == [["r1", 0], ["r1", 0]]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_flipped_bit_costs_at_most_two_units_and_changes_none(
    tmp_path_factory, units, rng: random.Random
):
    """A flip can only damage the line it is in, or join two lines where it hits the end of one."""
    path = tmp_path_factory.mktemp("journal") / "j"
    content = bytearray(written(path, [[i, text] for i, text in enumerate(units)]))
    number = rng.randrange(8 * len(content))
    content[number // 8] ^= 1 << number % 8
    path.write_bytes(content)
    with Journal(path) as journal:
        kept = list(journal.units())
    assert [unit for unit in kept if unit not in [[i, t] for i, t in enumerate(units)]] == []
    assert len(kept) >= len(units) - 2


def test_after_a_failed_append_the_next_one_does_not_continue_its_torn_line(tmp_path, monkeypatch):
    def half(descriptor, content):
        os.write(descriptor, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(tmp_path / "j") as journal:
        journal.append("one")
        write_all = durable.write_all
        monkeypatch.setattr(durable, "write_all", half)
        with pytest.raises(StoreError, match=r"cannot append .*free"):
            journal.append("two")
        monkeypatch.setattr(durable, "write_all", write_all)
        journal.append("two")
    assert units_in(tmp_path / "j") == ["one", "two"]


def test_a_unit_that_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    with Journal(tmp_path / "j") as journal:
        for unit in (float("nan"), {"x": object()}):
            with pytest.raises((ValueError, TypeError)):
                journal.append(unit)
    assert units_in(tmp_path / "j") == []


def test_a_doubled_record_a_torn_line_and_two_more_crashes_never_give_two_rows_with_one_id(tmp_path):
    """Eight requests in groups of two. The first start is stopped after two groups; then its first line is doubled,
    and another line claims other answers for the same ids. Two more starts die after one group each, the last group
    torn in its line. The fourth start gets that group once more, and nothing else.
    """
    requests = [Request(f"r{i}", (Message("user", f"question {i}"),), Sampling()) for i in range(8)]
    script = tmp_path / "script.yaml"
    script.write_text(json.dumps({"settings": {"group_size": 2}, "rules": [{"answers": ["an answer"]}]}))
    journal = tmp_path / "work" / "journal.jsonl"

    def start(n_groups: int) -> tuple[dict, int]:
        """What `complete` gives and how many groups the engine gave out; it dies after `n_groups`."""
        given = 0
        with (
            open_engine(f"scripted:{script}") as engine,
            Generation("x", tmp_path / "work", engine) as generation,
        ):
            generate = engine.generate

            def dying(asked, done=frozenset()):
                nonlocal given
                for group in generate(asked, done):
                    if given == n_groups:
                        raise KeyboardInterrupt
                    given += 1
                    yield group

            engine.generate = dying
            try:
                return generation.complete(requests, "answers"), given
            except KeyboardInterrupt:
                return {}, given

    assert start(2) == ({}, 2)
    first = journal.read_bytes().splitlines(keepends=True)[0]
    with Journal(journal) as again:
        (group, _) = again.units()
        journal.write_bytes(journal.read_bytes() + first)
        again.append([{**completion, "text": "another answer"} for completion in group])
    start(1)
    start(1)
    journal.write_bytes(journal.read_bytes()[:-9])
    found, given = start(99)
    assert given == 1
    assert sorted(found) == [(f"r{i}", 0) for i in range(8)]
    assert {completion.text for completion in found.values()} == {"an answer"}


def test_a_request_that_failed_is_no_result_and_a_restart_asks_for_it_again(tmp_path):
    """Two requests, one answered, one failed; the next start keeps the answer and asks for the other alone. The
    answer it gets then is the one that stays, though the failure stands before it in the journal."""
    requests = [Request(name, (Message("user", name),), Sampling()) for name in ("good", "bad")]
    starts = [
        [{"contains": "bad", "error": "the server went away"}, {"answers": ["first"]}],
        [{"answers": ["second"]}],
        [{"answers": ["third"]}],
    ]
    texts = []
    for number, rules in enumerate(starts):
        script = tmp_path / f"{number}.yaml"
        script.write_text(json.dumps({"rules": rules}))
        with (
            open_engine(f"scripted:{script}") as engine,
            Generation("judgements", tmp_path / "work", engine) as generation,
        ):
            found = generation.complete(requests, "judgements")
            texts.append([(found[name, 0].text, found[name, 0].finish_reason) for name in ("good", "bad")])
    assert texts[0][1][1] == "error"
    assert texts[1] == texts[2] == [("first", "stop"), ("second", "stop")]
