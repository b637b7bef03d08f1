"""Pushing one repository through every failure we could think of: whole or not at all, and finished by the same command."""

# ruff: noqa: F811
from __future__ import annotations

import shutil
import time

import pytest
from hub_fixtures import client, hub, patience  # noqa: F401

from selfreward.data_cards.hub import account
from selfreward.data_cards.hub.account import connect
from selfreward.data_cards.hub.failures import HubError, Patience, asked_wait_s
from selfreward.data_cards.hub.push import push
from selfreward.data_cards.hub.record import Record
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.data_cards.tree.trees import Tree, hash_file

FILES = {"README.md": "# x\n", "data/a/train.parquet": "PAR1 rows", "selfreward/run.json": "{}"}


class Publisher:
    """A user at a run folder; `push()` is the command, typed as often as needed."""

    def __init__(self, hub, tmp_path, patience, files=FILES, name="run", kind="dataset"):
        self.hub, self.patience, self.kind = hub, patience, kind
        self.folder = tmp_path / name
        self.folder.mkdir()
        self.tree = self.make_tree(files)

    def make_tree(self, files):
        source = self.folder / "source"
        shutil.rmtree(source, ignore_errors=True)
        for path, text in files.items():
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).write_text(text)
        return Tree.of({path: source / path for path in files})

    def push(self, files=None, tag="run-01", **how):
        if files is not None:
            self.tree = self.make_tree(files)
        repo = HubRepo(connect(self.hub.url), "ann/x", self.kind, self.patience)
        scratch = self.folder / "scratch"
        try:
            return push(repo, self.tree, Record(self.folder), tag, "Publish", scratch, **how)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


@pytest.fixture
def publisher(hub, tmp_path, patience):
    return Publisher(hub, tmp_path, patience)


def wait_for(look, n):
    """What `look` gives, once it gives `n`; bounded."""
    deadline = time.monotonic() + 20
    while len(found := look()) < n and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


def visible_trees(hub):
    """Every state of the repository that anybody could have seen, without the Hub's own file."""
    if ("dataset", "ann/x") not in hub.repos:
        return []
    texts = [{p: b.content.decode() for p, b in c.files.items()} for c in hub.repo("ann/x").commits]
    return [{p: t for p, t in tree.items() if p != ".gitattributes"} for tree in texts]


def test_a_push_is_one_commit_read_back_and_tagged(hub, publisher):
    """Beside the commit that creates the repository there is one."""
    pushed = publisher.push()
    assert visible_trees(hub) == [{}, FILES]
    assert (pushed.committed, pushed.verified, pushed.tag) == (True, 3, "run-01")
    assert hub.repo("ann/x").tags == {"run-01": pushed.revision}


def test_an_unchanged_push_changes_nothing(hub, publisher):
    """No commit, no upload, no tag, and nothing is read back a second time."""
    first = publisher.push()
    hub.requests.clear()
    second = publisher.push()
    assert (second.committed, second.verified, second.revision) == (False, 0, first.revision)
    assert hub.changes == []


def test_what_is_gone_from_the_run_is_gone_from_main(hub, publisher):
    """The older revision still has it."""
    publisher.push()
    publisher.push({"README.md": "# y\n"}, tag="run-02")
    assert visible_trees(hub)[-1] == {"README.md": "# y\n"}
    assert set(hub.repo("ann/x").tags) == {"run-01", "run-02"}


def test_a_tag_never_moves(hub, publisher):
    """A to B and back to A: the second A is another commit, so it gets a name of its own."""
    first = publisher.push(tag="run-a")
    publisher.push({"README.md": "b"}, tag="run-b")
    third = publisher.push(FILES, tag="run-a")
    assert third.tag == "run-a.2"
    assert hub.repo("ann/x").tags["run-a"] == first.revision != third.revision


ONCE = [
    pytest.param({"reset": True}, id="connection reset in the middle of the request"),
    pytest.param({"lost": True}, id="done, but the reply is lost"),
    pytest.param({"status": 500}, id="500"),
    pytest.param({"status": 503, "headers": {"Retry-After": "3"}}, id="503 with Retry-After"),
    pytest.param({"status": 429, "headers": {"RateLimit": '"api";r=0;t=5'}}, id="429 with RateLimit"),
    pytest.param({"delay_s": 0.05}, id="a slow server"),
]
REQUESTS = [
    ("GET", "/api/datasets/ann/x"),
    ("POST", "/api/repos/create"),
    ("GET", "/tree/"),
    ("POST", "/preupload/"),
    ("POST", "/objects/batch"),
    ("PUT", "/lfs/"),
    ("POST", "/validate-yaml"),
    ("POST", "/commit/"),
    ("GET", "/refs"),
    ("POST", "/tag/"),
    ("HEAD", "/resolve/"),
    ("GET", "/resolve/"),
]


@pytest.mark.parametrize("how", ONCE)
@pytest.mark.parametrize(("method", "part"), REQUESTS, ids=[f"{m} {p}" for m, p in REQUESTS])
def test_a_passing_fault_is_waited_out_and_leaves_one_whole_commit(hub, publisher, method, part, how):
    """Whatever request it hits; nobody ever saw anything but nothing and everything."""
    hub.fault(method, part, **how)
    pushed = publisher.push()
    assert visible_trees(hub) == [{}, FILES]
    assert hub.repo("ann/x").tags == {"run-01": pushed.revision}


LASTING = [
    pytest.param(method, part, how, id=f"{method} {part} {name}")
    for method, part in REQUESTS
    for name, how in {"reset": {"reset": True}, "500": {"status": 500}, "lost": {"lost": True}}.items()
    if (part, name) != ("/commit/", "lost")  # that it arrived is seen at once, so it does not last
]


@pytest.mark.parametrize(("method", "part", "how"), LASTING)
def test_a_lasting_fault_is_one_sentence_and_the_same_command_finishes(hub, publisher, method, part, how):
    """Until then main is what it was, or (a lasting fault after the commit) all of the new version, without a tag."""
    hub.fault(method, part, times=1000, **how)
    with pytest.raises(HubError, match=r"ann/x: .*(run the same command again)") as caught:
        publisher.push()
    assert "\n" not in str(caught.value)
    assert all(tree in ({}, FILES) for tree in visible_trees(hub))
    hub.faults.clear()
    pushed = publisher.push()
    assert visible_trees(hub) == [{}, FILES]
    assert hub.repo("ann/x").tags == {"run-01": pushed.revision}


def test_an_interrupted_push_leaves_the_old_revision_current(hub, publisher):
    """The upload of the second version never gets through: main is the first, whole, and says so."""
    first = publisher.push()
    hub.fault("PUT", "/lfs/", times=1000, reset=True)
    changed = {**FILES, "data/a/train.parquet": "PAR1 other rows"}
    with pytest.raises(HubError, match=f"main is still {first.revision}, nothing half-published"):
        publisher.push(changed, tag="run-02")
    assert hub.repo("ann/x").head.oid == first.revision
    assert visible_trees(hub) == [{}, FILES]


def test_a_commit_whose_reply_was_lost_with_the_process_is_recognised(hub, publisher, tmp_path):
    """It arrived, but neither its reply nor the head came back, and then the run went on: it is still ours."""
    publisher.push()
    second = {**FILES, "README.md": "# second\n"}
    hub.fault("POST", "/commit/", lost=True)
    hub.fault("GET", "/api/datasets/ann/x", times=1, delay_s=0)  # the head before the commit
    hub.fault("GET", "/api/datasets/ann/x/tree", times=2, delay_s=0)
    hub.fault("GET", "/api/datasets/ann/x", times=1000, status=500)
    with pytest.raises(HubError, match="does not say whether it arrived"):
        publisher.push(second, tag="run-02")
    hub.faults.clear()
    assert visible_trees(hub)[-1] == second
    third = {**FILES, "README.md": "# third\n"}
    publisher.push(third, tag="run-03")
    assert visible_trees(hub) == [{}, FILES, second, third]


def test_somebody_elses_newer_commit_is_refused_with_both_revisions_named(hub, publisher):
    """Before anything is sent."""
    ours = publisher.push().revision
    theirs = hub.repo("ann/x").add("edit the card", {**hub.repo("ann/x").head.files})
    hub.repo("ann/x").commits[-1].files["README.md"] = hub.repo("ann/x").commits[0].files[".gitattributes"]
    hub.requests.clear()
    with pytest.raises(HubError, match=f"main is {theirs}.*last published {ours}"):
        publisher.push({**FILES, "README.md": "# new\n"})
    assert hub.repo("ann/x").head.oid == theirs
    assert hub.changes == []


def test_somebody_who_is_faster_by_a_moment_is_not_overwritten(hub, publisher):
    """Their commit lands between our look at the head and our commit: the Hub refuses (412), and both are named."""
    ours = publisher.push().revision
    theirs = []

    def commit_first(server):
        repo = server.repo("ann/x")
        theirs.append(repo.add("faster", {**repo.head.files, "theirs.txt": repo.head.files["README.md"]}))

    hub.fault("POST", "/commit/", before=commit_first)
    with pytest.raises(HubError) as caught:
        publisher.push({**FILES, "README.md": "# new\n"})
    assert theirs[0] in str(caught.value)
    assert ours in str(caught.value)
    assert hub.repo("ann/x").head.oid == theirs[0]


def test_naming_the_foreign_commit_builds_on_it(hub, publisher):
    """`--onto` with the head's own revision; its content stays in the history."""
    publisher.push()
    theirs = hub.repo("ann/x").add("theirs", {})
    with pytest.raises(HubError, match="committed by someone else"):
        publisher.push({**FILES, "README.md": "# new\n"}, onto="0" * 40)
    publisher.push({**FILES, "README.md": "# new\n"}, onto=theirs)
    assert visible_trees(hub)[-1] == {**FILES, "README.md": "# new\n"}


def test_a_repository_of_another_run_is_refused(hub, tmp_path, patience):
    """This run has published nothing there, so what is there is not its own."""
    Publisher(hub, tmp_path, patience, name="one").push()
    with pytest.raises(HubError, match="this run has published nothing there"):
        Publisher(hub, tmp_path, patience, {"README.md": "# mine\n"}, name="two").push()


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict_that_passes_is_no_foreign_commit(hub, publisher, status):
    """The Hub answers 409 or 412 although nobody committed; the user is told to run again, and that works."""
    hub.fault("POST", "/commit/", status=status)
    with pytest.raises(
        HubError, match=f"the Hub answered {status}; main is still .* run the same command again"
    ):
        publisher.push()
    publisher.push()
    assert visible_trees(hub) == [{}, FILES]


def test_the_wait_is_what_the_server_says(hub, publisher):
    """Retry-After 7 on the commit, which the client does not repeat by itself."""
    hub.fault("POST", "/commit/", status=429, headers={"Retry-After": "7"})
    publisher.push()
    assert publisher.patience.slept == [7.0]


def test_a_server_that_asks_for_hours_is_not_waited_for(hub, publisher):
    """The sentence says how long it asks for; main is as it was."""
    hub.fault("POST", "/commit/", status=429, headers={"Retry-After": "7200"})
    with pytest.raises(HubError, match="the Hub asks to wait 7200 s"):
        publisher.push()
    assert publisher.patience.slept == []


def test_a_server_that_says_nothing_is_given_up(hub, publisher, monkeypatch):
    """It takes the commit and falls silent; the second try is answered, and when the first one wakes up, it comes too late."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    monkeypatch.setattr(account, "SILENCE_S", 0.2)
    account.limit_silence()
    hub.fault("POST", "/commit/", delay_s=1.0)
    try:
        publisher.push()
    finally:
        set_client_factory(default_client_factory)
    answers = wait_for(lambda: [s for m, p, s in hub.requests if "/commit/" in p], n=2)
    assert answers == [200, 412]
    assert visible_trees(hub) == [{}, FILES]


def test_working_offline_is_said_at_once(hub, publisher, monkeypatch):
    """HF_HUB_OFFLINE will not pass by waiting."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set; unset it and run the same command again"):
        publisher.push()
    assert publisher.patience.slept == []


def test_waits_without_a_word_from_the_server_grow(hub, tmp_path):
    """1, 2, 4 seconds, then success; and never more than the tries allowed."""
    waiting = Patience(sleep=lambda seconds: None)
    hub.fault("POST", "/commit/", status=502, times=3)
    Publisher(hub, tmp_path, waiting).push()
    assert waiting.slept == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    ("status", "words"), [(401, "does not accept your token"), (403, "your token may not do that there")]
)
def test_a_token_that_may_not_is_one_sentence(hub, publisher, status, words):
    """And nothing is sent twice: it will not pass by waiting."""
    hub.fault("POST", "/commit/", status=status)
    with pytest.raises(HubError, match=words):
        publisher.push()
    assert publisher.patience.slept == []
    assert visible_trees(hub) == [{}]


def test_bytes_that_changed_on_the_way_up_get_no_tag(hub, publisher):
    """The Hub lists the hash that was promised, but gives back something else: only reading back shows it."""
    hub.fault("PUT", "/lfs/", corrupt=True)
    with pytest.raises(
        HubError,
        match=r"data/a/train.parquet at .* differs from what was sent, so the revision was not tagged",
    ):
        publisher.push()
    assert hub.repo("ann/x").tags == {}


def test_the_rows_are_looked_at_too(hub, publisher):
    """The check is given the folder of what was read back."""
    seen = []
    publisher.push(check=lambda folder: seen.append((folder / "data/a/train.parquet").read_text()))
    assert seen == ["PAR1 rows"]


def test_a_private_run_does_not_go_into_a_public_repository(hub, publisher):
    """Said before anything is sent; a new repository is made private."""
    publisher.push()
    with pytest.raises(HubError, match="is public, but --private was given"):
        publisher.push({**FILES, "README.md": "secret"}, private=True)


def test_a_new_private_repository_is_private(hub, publisher):
    publisher.push(private=True)
    assert hub.repo("ann/x").private


def test_a_repository_that_only_holds_what_the_hub_made_is_nobodys(hub, publisher):
    """Made beforehand on the website."""
    connect(hub.url).create_repo("ann/x", repo_type="dataset")
    publisher.push()
    assert visible_trees(hub) == [{}, FILES]


def test_a_blob_has_the_hash_that_git_gives_it(tmp_path):
    """`git hash-object` of "hello\\n" is ce013625030ba8dba906f756967f9e9ca394464a."""
    (tmp_path / "x").write_text("hello\n")
    assert hash_file(tmp_path / "x").git_sha1 == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_no_word_about_waiting_is_no_number(hub, publisher):
    """A date in Retry-After is not read; the growing waits stand in."""
    hub.fault("POST", "/commit/", status=503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})
    publisher.push()
    assert publisher.patience.slept == [1.0]
    assert asked_wait_s(ValueError("no answer")) is None
