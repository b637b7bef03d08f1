"""run.json: the newest generation wins, nobody's change is lost, damage and strange folders are refused."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfreward.errors import DamagedError, FormatError, StoreError
from selfreward.store import state as state_module
from selfreward.store.sealed import seal
from selfreward.store.state import State, create_state, read_state, update_state


@pytest.fixture
def run(tmp_path):
    create_state(tmp_path)
    return tmp_path


def named(version: str) -> str:
    """A version's name of 16 hex digits, as all have."""
    return version.encode().hex().rjust(16, "0")


def use(name: str, version: str):
    return lambda state: state.with_current(name, named(version), "0" * 64)


def shown(run) -> dict:
    return json.loads((run / "run.json").read_text())


def test_what_was_current_before_is_remembered_newest_first(run):
    for version in ("a", "b", "c", "a"):
        state = update_state(run, use("ift", version))
    assert state.current["ift"].version == named("a")
    assert state.current["ift"].previous == (named("c"), named("b"))
    assert shown(run)["current"]["ift"]["previous"] == [named("c"), named("b")]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd"), min_size=1), st.sampled_from("abcd"))
def test_forgetting_a_version_leaves_no_mention_of_it(versions, forgotten):
    state = State()
    for version in versions:
        state = state.with_current("ift", version, "")
    left = state.forgetting("ift", forgotten)
    entry = left.current.get("ift")
    assert entry is None or forgotten not in (entry.version, *entry.previous)
    assert left.forgetting("ift", forgotten) is left


def test_a_change_that_changes_nothing_makes_no_generation(run):
    update_state(run, use("ift", "a"))
    assert update_state(run, lambda state: state).generation == 1


def test_a_writer_that_died_before_run_json_followed_loses_nothing(run, monkeypatch):
    """Generation 1 is claimed, run.json still shows 0: readers see 1, and the next writer shows it."""
    with monkeypatch.context() as patch:
        patch.setattr(state_module, "_show_newest", lambda run: None)
        update_state(run, use("ift", "a"))
    assert shown(run)["generation"] == 0
    assert read_state(run).current["ift"].version == named("a")
    update_state(run, lambda state: state)
    assert shown(run)["generation"] == 1


def test_two_writers_on_the_same_generation_both_get_in(run):
    """The second one is overtaken between its read and its claim: its change is applied on top, once more."""
    calls = []

    def overtaken(state: State) -> State:
        if not calls:
            update_state(run, use("eft", "x"))
        calls.append(state.generation)
        return state.with_current("ift", named("a"), "0" * 64)

    state = update_state(run, overtaken)
    assert calls == [0, 1]
    assert set(state.current) == {"ift", "eft"}


def test_a_writer_that_slept_through_the_pruning_still_gets_in(run):
    """It read generation 0 and claims 1 after 1 to 60 were written and the first ten pruned: 1 is free again.

    Its claim must count for nothing, since 60 was not built on it; its change comes on top as 61.
    """
    slept = []

    def sleeper(state: State) -> State:
        if not slept:
            slept.append(True)
            for i in range(60):
                update_state(run, use("eft", f"v{i}"))
        return state.with_current("ift", named("a"), "0" * 64)

    state = update_state(run, sleeper)
    assert state.generation == 61
    assert read_state(run) == state
    assert shown(run)["current"]["ift"]["version"] == named("a")
    assert not (run / ".run" / "00000001.json").exists()


def test_pruning_keeps_the_newest_generations(run):
    for i in range(60):
        update_state(run, use("ift", f"v{i}"))
    kept = sorted(int(p.stem) for p in (run / ".run").glob("*.json"))
    assert kept == list(range(11, 61))


def test_a_run_folder_copied_without_hidden_files_reads_and_goes_on(run, tmp_path_factory):
    for version in ("a", "b"):
        update_state(run, use("ift", version))
    copy = tmp_path_factory.mktemp("copy")
    shutil.copy(run / "run.json", copy)
    assert read_state(copy) == read_state(run)
    assert update_state(copy, use("ift", "c")).generation == 3


def test_no_run_json_is_no_run_folder_and_a_lost_one_is_refused_with_the_way_back(run):
    (run / "run.json").unlink()
    with pytest.raises(StoreError, match=r"not a run folder \(no run\.json\)"):
        read_state(run)
    create_state(run)  # was killed before there was anything: simply goes on
    update_state(run, use("ift", "a"))
    (run / "run.json").unlink()
    create_state(run)
    with pytest.raises(
        DamagedError, match=r"run\.json: is missing.*`\.run/00000001\.json`, which holds the same"
    ):
        read_state(run)
    shutil.copy(run / ".run" / "00000001.json", run / "run.json")
    assert read_state(run).current["ift"].version == named("a")


def test_a_damaged_generation_that_would_be_newest_is_refused_not_skipped(run):
    update_state(run, use("ift", "a"))
    path = run / ".run" / "00000002.json"
    path.write_bytes((run / "run.json").read_bytes()[:-9])
    with pytest.raises(DamagedError, match=r"00000002\.json"):
        read_state(run)


def test_any_flipped_bit_in_run_json_is_refused_by_name(run):
    update_state(run, use("ift", "a"))
    content = (run / "run.json").read_bytes()
    rng = random.Random(5)
    for number in rng.sample(range(8 * len(content)), 200):
        damaged = bytearray(content)
        damaged[number // 8] ^= 1 << number % 8
        (run / "run.json").write_bytes(damaged)
        with pytest.raises(DamagedError, match=r"run\.json"):
            read_state(run)


def test_a_run_folder_of_a_newer_version_is_refused_with_both_versions(run):
    (run / "run.json").write_bytes(seal({"format": 2, "generation": 9, "current": {}}))
    with pytest.raises(FormatError, match=r"run\.json: has format 2, this selfreward reads formats 1 to 1"):
        read_state(run)


def test_a_run_folder_of_format_1_is_read(tmp_path):
    """The bytes of the first format, as they were written: later versions must go on reading them."""
    body = {"format": 1, "generation": 3, "current": {
        "iter1/pairs": {"version": "3f0c" * 4, "manifest_sha256": "ab" * 32, "previous": ["77aa" * 4]}}}  # fmt: skip
    (tmp_path / "run.json").write_bytes(seal(body))
    state = read_state(tmp_path)
    assert (state.generation, state.current["iter1/pairs"].previous) == (3, ("77aa" * 4,))


def test_strange_files_beside_the_generations_do_no_harm(run):
    for name in ("0 copy.json", ".tmp-state-1", "00000007.json~", "notes.json"):
        (run / ".run" / name).write_text("{}")
    assert update_state(run, use("ift", "a")).generation == 1


def test_many_writers_at_once_lose_no_change(run):
    """Eight processes make ten changes each, every one to a name of its own: eighty names are current."""
    children = []
    for writer in range(8):
        pid = os.fork()
        if pid == 0:
            for i in range(10):
                update_state(run, use(f"w{writer}n{i}", "a"))
            os._exit(0)
        children.append(pid)
    for pid in children:
        assert os.waitpid(pid, 0)[1] == 0
    assert len(read_state(run).current) == 80
    assert shown(run)["generation"] == 80
    assert not [p for p in run.rglob("*") if p.name.startswith(".tmp-")]
