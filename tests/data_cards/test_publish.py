"""`publish` as a user meets it: a whole run, real HTTP, what `load_dataset` gives, and what is refused beforehand."""

# ruff: noqa: F811
from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hub_fixtures import client, hub, patience  # noqa: F401
from hub_server import READER_TOKEN, TOKEN
from published_run import LICENCE, change_run, make_published_run, publish_model
from sample_run import changed, make_sample_run
from tiny_llama import make_tiny_llama, make_tiny_tokenizer

from selfreward.data_cards.cards.audits import audit_run
from selfreward.data_cards.hub.account import connect
from selfreward.data_cards.hub.failures import HubError
from selfreward.data_cards.publish import PublishOptions, dry_run, publish
from selfreward.data_cards.tree.parquet import DatasetFiles, pieces, read_dataset, write_dataset
from selfreward.errors import GateError, InputError, SelfrewardError, UsageError
from selfreward.store.run import Run
from selfreward.store.state import state_sha256

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    """One run for all tests that do not change it."""
    return make_published_run(tmp_path_factory.mktemp("pristine") / "run").path


@pytest.fixture
def run_path(tmp_path, pristine):
    """A copy of it."""
    import shutil

    return Path(shutil.copytree(pristine, tmp_path / "run", symlinks=True))


@pytest.fixture(autouse=True)
def audited_once(monkeypatch):
    """The same state of a run has the same audits, so they are run once for all tests."""
    monkeypatch.setattr("selfreward.data_cards.publish.audit_run", _audited_once)


_AUDITED = {}


def _audited_once(run, gated=True):
    key = state_sha256(run.path), gated
    if key not in _AUDITED:
        _AUDITED[key] = audit_run(run, gated)
    return _AUDITED[key]


def options(hub=None, **changes):
    given = PublishOptions("ann/x", license=LICENCE, model_license=LICENCE, endpoint=hub.url if hub else None)
    return replace(given, **changes)


def published_files(hub, repo="ann/x", kind="dataset"):
    return {p: b.content for p, b in hub.repo(repo, kind).head.files.items() if p != ".gitattributes"}


def run_python(code, *args, **environment):
    """A process of its own: the client reads HF_ENDPOINT when it is imported."""
    env = {
        **os.environ,
        "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}",
        "HF_HUB_DISABLE_XET": "1",
        **environment,
    }
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, args)], env=env, capture_output=True, text=True, timeout=120
    )


COMPARE = """
import sys, datasets
from selfreward.store.run import Run, is_model
run, sources = Run(sys.argv[1]), sys.argv[2:]
for source in sources:
    for name in run.names():
        if is_model(name):
            continue
        stored = run.current(name).dataset()
        loaded = datasets.load_dataset(source, name.replace("/", "_"))
        rows = stored.to_list()
        for split, part in loaded.items():
            expected = [r for r in rows if r["split"] == split] if name == "eft" else rows
            assert part.to_list() == expected, (source, name, split)
            assert part.features == stored.features, (source, name, split)
        assert sum(loaded.num_rows.values()) == len(rows)
        print(source == sources[0], name, *loaded)
"""


def test_load_dataset_gives_exactly_the_rows_of_the_store(hub, run_path, tmp_path, patience):
    """From the Hub and from a dry run's folder: every configuration, every value, every type, in order."""
    publish(run_path, options(hub), patience)
    dry_run(run_path, options(), tmp_path / "dry")
    done = run_python(
        COMPARE, run_path, "ann/x", tmp_path / "dry", HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path / "home")
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 18  # nine datasets from two places
    assert "True eft train eval" in lines
    assert "True iter1/pairs train" in lines


def test_rejected_rows_of_eft_are_no_training_split(tmp_path):
    """Fifteen training prompts of two replies; the replies ranked second were not accepted: 15 to train on, 15 rejected."""
    import pyarrow.parquet

    def reject(rows):
        return [
            replace(row, accepted=False, reason="disagrees_with_ranks")
            if row.split == "train" and row.human_rank
            else row
            for row in rows
        ]

    run = make_sample_run(tmp_path / "run", 1, eft=reject)
    dry_run(run.path, options(), tmp_path / "dry")
    splits = {}
    for split in ("train", "rejected", "eval"):
        (file,) = (tmp_path / "dry" / "data" / "eft").glob(f"{split}-*.parquet")
        splits[split] = pyarrow.parquet.read_table(file).to_pylist()
    assert {split: {(row["split"], row["accepted"]) for row in rows} for split, rows in splits.items()} == {
        "train": {("train", True)}, "rejected": {("train", False)}, "eval": {("eval", True)},
    }  # fmt: skip
    assert [len(rows) for rows in splits.values()] == [15, 15, 10]
    described = json.loads((tmp_path / "dry" / "selfreward" / "run.json").read_text())["datasets"]["eft"]
    stored = run.current("eft").table()
    files = DatasetFiles.from_described({key: described[key] for key in DatasetFiles.__dataclass_fields__})
    assert read_dataset(files, tmp_path / "dry").to_pylist() == stored.to_pylist()


def test_the_cards_line_for_ift_is_what_trl_trains_on(run_path, tmp_path):
    """Given `prompt` and `messages` side by side, TRL looks for a column `completion`; of the messages alone it trains."""
    import datasets
    from trl import SFTConfig, SFTTrainer

    dry_run(run_path, options(), tmp_path / "dry")
    card = (tmp_path / "dry" / "README.md").read_text()
    assert 'ift = load_dataset("ann/x", "ift", split="train").select_columns(["messages"])' in card
    rows = datasets.load_dataset(
        str(tmp_path / "dry"), "ift", split="train", cache_dir=str(tmp_path / "cache")
    )
    model = make_tiny_llama(tmp_path / "tiny")
    settings = SFTConfig(str(tmp_path / "out"), use_cpu=True, bf16=False, max_length=64, report_to="none")

    def train_on(dataset):
        return SFTTrainer(str(model), settings, train_dataset=dataset, processing_class=make_tiny_tokenizer())

    assert len(train_on(rows.select_columns(["messages"])).train_dataset) == len(rows) == 40
    with pytest.raises(KeyError, match="completion"):
        train_on(rows)


def test_a_dry_run_writes_exactly_the_trees_that_are_pushed(hub, run_path, tmp_path, patience):
    """Byte for byte; except that a model's card then names a tag where it will name a commit."""
    folders = dry_run(run_path, options(hub, models=True), tmp_path / "dry")
    publish(run_path, options(hub, models=True), patience)
    assert [folder.name for folder in folders] == ["dry", "dry-M1"]
    for folder, (repo, kind) in zip(folders, [("ann/x", "dataset"), ("ann/x-M1", "model")], strict=True):
        written = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        pushed = published_files(hub, repo, kind)
        assert written.keys() == pushed.keys()
        assert [p for p in written if written[p] != pushed[p]] == (["README.md"] if kind == "model" else [])


def test_a_dry_run_sends_nothing_and_needs_no_token(run_path, tmp_path, monkeypatch):
    """Nor a Hub: there is none in this test."""
    monkeypatch.delenv("HF_TOKEN")
    dry_run(run_path, options(endpoint="http://127.0.0.1:9"), tmp_path / "dry")
    assert (tmp_path / "dry" / "README.md").is_file()


def test_a_dry_run_touches_no_folder_that_holds_anything(run_path, tmp_path):
    """Not even an earlier dry run: whoever typed `.` must not lose a clone."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "selfreward").mkdir()
    with pytest.raises(UsageError, match="already exists"):
        dry_run(run_path, options(), tmp_path / "mine")
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["selfreward"]


def test_datasets_and_models_are_one_commit_each_and_the_tag_is_the_state(hub, run_path, patience):
    """The tag is the hash of everything current; the model's tag is its version."""
    datasets, model = publish(run_path, options(hub, models=True), patience)
    assert [len(hub.repo(*key).commits) for key in (("ann/x", "dataset"), ("ann/x-M1", "model"))] == [2, 2]
    assert datasets.tag == f"run-{state_sha256(run_path)[:12]}"
    assert model.tag == f"version-{Run(run_path).current('M1').version}"


def test_an_unchanged_run_makes_no_commit_and_a_changed_one_makes_one(hub, run_path, patience):
    """A second push of the same; then a pair fewer."""
    publish(run_path, options(hub, models=True), patience)
    hub.requests.clear()
    again = publish(run_path, options(hub, models=True), patience)
    assert [entry.committed for entry in again] == [False, False]
    assert hub.changes == []
    change_run(Run(run_path))
    third = publish(run_path, options(hub), patience)
    assert third[0].committed
    assert third[0].tag != again[0].tag
    assert len(hub.repo("ann/x").commits) == 3


def test_a_model_repository_has_its_files_a_manifest_and_a_card_with_results(hub, run_path, patience):
    """Safetensors and tokenizer byte for byte; `model-index` with the judge's agreement, 62.5 %."""
    from huggingface_hub import ModelCard

    datasets, _ = publish(run_path, options(hub, models=True), patience)
    files = published_files(hub, "ann/x-M1", "model")
    version = Run(run_path).current("M1")
    for name in ("model.safetensors", "tokenizer.json", "config.json", "training.json"):
        assert files[name] == (version.folder / name).read_bytes()
    assert files["selfreward/manifest.json"] == version.manifest_bytes
    card = ModelCard(files["README.md"].decode())
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == {"pairwise_accuracy": 62.5, "scored_share": 90.0}
    assert card.data.eval_results[0].dataset_revision == datasets.revision
    assert card.data.datasets == ["ann/x"]
    assert f"configuration `ift`, revision `{datasets.revision}`" in card.text
    assert "| started from | scripted:none, which is not on the Hub |" in card.text
    assert "Iteration 1: 24 pairs" not in card.text  # M1 is trained on none of them
    assert "over 24 of\n40 training rows" in card.text
    assert "| completion | -20.500 | -18.250 | 2.250 |" in card.text
    assert "&lt;response&gt;\n{{ response }}\n&lt;/response&gt;" in card.text


def test_only_some_datasets_can_be_published(hub, run_path, patience):
    """The repository then holds these and nothing else, and it is said how many files are gone from it."""
    whole = publish(run_path, options(hub), patience)[0]
    before = set(published_files(hub))
    part = publish(run_path, options(hub, only=("iter1/pairs", "ift")), patience)[0]
    gone = before - set(published_files(hub))
    assert (whole.removed, part.removed) == (0, len(gone))
    # eft has two files; 7 manifests; no picture of what is no longer there
    kinds = Counter(path.rpartition(".")[2] for path in gone)
    assert (kinds["parquet"], kinds["json"], sum(kinds.values())) == (8, 7, 15 + kinds["svg"])
    parquet = sorted(path for path in published_files(hub) if path.endswith(".parquet"))
    assert [path.split("/")[1] for path in parquet] == ["ift", "iter1_pairs"]


def test_saved_audit_rows_are_not_part_of_the_dataset(hub, run_path, patience):
    """`selfreward audit` saves offending rows in the run; a run that was looked at is published like one that was not."""
    from selfreward.judging.audits.runner import run_audits

    before = publish(run_path, options(hub), patience)[0]
    run_audits(Run(run_path))
    assert Run(run_path).has("audits")
    assert publish(run_path, options(hub), patience)[0].revision == before.revision


# -- the form of the files -----------------------------------------------------------------------------------


def test_row_groups_are_small_compressed_and_indexed(run_path, tmp_path):
    """What the viewer needs: zstd, a page index, explicit types."""
    import pyarrow.parquet

    files = write_dataset(Run(run_path).current("iter1/judgements"), tmp_path)
    metadata = pyarrow.parquet.read_metadata(tmp_path / files.files[0].path)
    column = metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert column.has_offset_index


def test_a_large_table_is_cut_into_groups_of_bounded_size(monkeypatch, tmp_path, run_path):
    """96 candidates in groups of at most 2 kB of Arrow data and files of at most 8 kB, in order."""
    import pyarrow.parquet

    from selfreward.data_cards.tree import parquet

    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 2_000)
    monkeypatch.setattr(parquet, "FILE_BYTES", 8_000)
    version = Run(run_path).current("iter1/candidates")
    files = write_dataset(version, tmp_path)
    assert len(files.files) > 2
    assert files.files[0].path.endswith(f"train-00000-of-{len(files.files):05d}.parquet")
    for entry in files.files:
        metadata = pyarrow.parquet.read_metadata(tmp_path / entry.path)
        assert metadata.num_row_groups > 1
    assert parquet.read_dataset(files, tmp_path).equals(version.table())


def test_pieces_lose_no_row_and_a_large_row_stays_whole():
    """Four texts of 10, 5000, 10 and 10 bytes, at most 100 bytes a piece: the large one stands alone."""
    import pyarrow as pa

    table = pa.table({"x": ["a" * 10, "b" * 5000, "c" * 10, "d" * 10]})
    parts = list(pieces(table, 100))
    assert [part.num_rows for part in parts] == [1, 1, 2]
    assert pa.concat_tables(parts).equals(table)


def test_odd_columns_and_empty_datasets_survive(tmp_path):
    """Imported columns of many types come back with their types; a dataset without rows has no configuration."""
    import datetime

    import datasets
    import pyarrow as pa

    from selfreward.data_cards.tree.parquet import DatasetFiles, read_dataset
    from selfreward.store.run import Counts, Recipe
    from selfreward.store.sealed import unseal

    run = make_published_run(tmp_path / "run", with_model=False)
    empty = run.current("iter1/judge_eval").table().slice(0, 0)
    run.publish_table(Recipe("iter1/judge_eval", "tests 2"), empty, Counts(0, 0))
    odd = run.current("iter1/pairs").table().slice(0, 2)
    nested = pa.list_(pa.struct([("a", pa.int32()), ("b", pa.list_(pa.float32()))]))
    extra = {
        "when": pa.array([datetime.datetime(2024, 1, 1), None], pa.timestamp("us", "UTC")),
        "nothing": pa.nulls(2),
        "bytes": pa.array([b"", None], pa.binary()),
        "small": pa.array([None, 3], pa.int8()),
        "nested": pa.array([[{"a": 1, "b": [1.5, None]}], None], nested),
        "--- : {{ x }}": pa.array(["a name that YAML must quote", None], pa.large_string()),
    }
    for name, column in extra.items():
        odd = odd.append_column(name, column)
    version = run.publish_table(Recipe("iter1/pairs", "tests 2"), odd, Counts(2, 2))
    dry_run(run.path, options(gate=False), tmp_path / "dry")
    loaded = datasets.load_dataset(
        str(tmp_path / "dry"), "iter1_pairs", split="train", cache_dir=str(tmp_path / "cache")
    )
    assert loaded.features == version.dataset().features
    assert loaded.to_list() == version.dataset().to_list()
    assert "config_name: iter1_judge_eval" not in (tmp_path / "dry" / "README.md").read_text()
    body = unseal((tmp_path / "dry" / "selfreward" / "run.json").read_bytes(), tmp_path)
    for name in ("iter1/judge_eval", "iter1/pairs"):
        back = read_dataset(DatasetFiles.from_described(body["datasets"][name]), tmp_path / "dry")
        assert back.schema.equals(run.current(name).table().schema)


# -- refused before anything is sent -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["x", "ann/x/y", "ann/-x", "ann/x.git", "ann/a--b", "ann/ü", "ann/" + "x" * 100, ""]
)
def test_a_name_that_the_hub_would_refuse_is_wrong_use(name, run_path):
    """Said without asking the Hub."""
    with pytest.raises(UsageError, match="--repo"):
        publish(run_path, options(repo=name, endpoint="http://127.0.0.1:9"))


REFUSED = [
    pytest.param({"repo": "other/x"}, HubError, "you are ann, who may publish to ann, lab", id="someone else's namespace"),
    pytest.param({"license": "apache2"}, UsageError, "did you mean apache-2.0", id="no licence identifier"),
    pytest.param({"license": None}, UsageError, "of the seeds from 'sample' is unknown", id="unknown licence"),
    pytest.param({"only": ("iter1/pairz",)}, UsageError, "did you mean iter1/pairs", id="unknown dataset"),
    pytest.param({"only": ("M1",)}, UsageError, "names no dataset", id="only a model"),
    pytest.param({"endpoint": "nonsense"}, UsageError, "expected an address", id="no address"),
    pytest.param({"models": True, "model_license": None}, UsageError, "--model-license", id="unknown base licence"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "error", "words"), REFUSED)
def test_bad_input_is_one_sentence_and_nothing_is_sent(hub, run_path, patience, how, error, words):
    """The Hub may be asked who the user is, and nothing else."""
    with pytest.raises(error, match=words) as caught:
        publish(run_path, options(hub, **how), patience)
    assert "\n" not in str(caught.value)
    assert hub.changes == []


def test_without_a_token_nothing_is_asked(hub, run_path, patience, monkeypatch):
    """Neither HF_TOKEN nor the login file."""
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(HubError, match="no Hugging Face token found; set HF_TOKEN"):
        publish(run_path, options(hub), patience)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("token", "words"), [("hf_wrong", "does not accept your token"), (READER_TOKEN, "can only read")]
)
def test_a_token_that_cannot_write_is_found_first(hub, run_path, patience, monkeypatch, token, words):
    """A wrong token, and one for reading only."""
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=words):
        publish(run_path, options(hub), patience)
    assert hub.changes == []


def test_the_login_file_is_a_place_for_the_token_too(hub, run_path, patience, monkeypatch, tmp_path):
    """As `hf auth login` leaves it."""
    from huggingface_hub import constants

    (tmp_path / "login").write_text(TOKEN)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "login"))
    assert publish(run_path, options(hub), patience)[0].committed


def test_a_failed_audit_stops_it_and_no_gate_is_told_on_the_card(hub, tmp_path, patience):
    """A pair whose margin is not the difference of its scores."""
    path = make_sample_run(
        tmp_path / "run", 1, iter1_pairs=changed(0, chosen_score=0.0, rejected_score=5.0)
    ).path
    with pytest.raises(GateError, match=r"pairs_\w+ \(fail\).*nothing was sent"):
        publish(path, options(hub), patience)
    assert hub.changes == []
    publish(path, options(hub, gate=False), patience)
    files = published_files(hub)
    assert b"The gate was off" in files["README.md"]
    assert json.loads(files["selfreward/audits.json"])["overruled"] is True


def test_pickled_weights_are_not_published(hub, tmp_path, patience):
    """They run code when they are loaded."""
    run = make_sample_run(tmp_path / "run", 1)
    publish_model(run)
    folder = run.current("M1").folder
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest.pop("seal")
    manifest["files"] = [
        {**f, "name": f["name"].replace("model.safetensors", "pytorch_model.bin")} for f in manifest["files"]
    ]
    from selfreward.store.sealed import seal
    from selfreward.store.state import update_state
    from selfreward.store.version import Version

    (folder / "manifest.json").write_bytes(seal(manifest))
    sha256 = Version("M1", folder).manifest_sha256
    update_state(run.path, lambda state: state.with_current("M1", folder.name, sha256))
    with pytest.raises(InputError, match=r"pytorch_model.bin, which runs code"):
        publish(run.path, options(hub, models=True), patience)
    assert hub.changes == []


def test_models_of_a_run_without_any_is_wrong_use(hub, tmp_path, patience):
    path = make_sample_run(tmp_path / "run", 1).path
    with pytest.raises(UsageError, match="has no model"):
        publish(path, options(hub, models=True), patience)


def test_a_damaged_version_is_not_published(hub, run_path, patience):
    """One bit of the pairs flipped on disk."""
    shard = next(Run(run_path).current("iter1/pairs").folder.glob("*.arrow"))
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SelfrewardError, match="SHA-256"):
        publish(run_path, options(hub, gate=False), patience)
    assert hub.changes == []


# -- the command line ----------------------------------------------------------------------------------------


@pytest.fixture
def command(hub, monkeypatch):
    """`selfreward …` against the loopback Hub: arguments in, standard output out."""
    import typer
    from typer.testing import CliRunner

    from selfreward.data_cards.cli import register

    for module in ("publish", "hub.pull"):
        monkeypatch.setattr(f"selfreward.data_cards.{module}.connect", lambda endpoint: connect(hub.url))
    app = typer.Typer()
    register(app)

    def run(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout

    return run


def test_the_commands_say_what_they_did(hub, command, run_path, tmp_path):
    """Published, unchanged, a folder of a dry run, restored; `--json` is the same as values."""
    repo = ("--repo", "ann/x", "--license", LICENCE)
    assert "published; revision" in command("publish", run_path, *repo)
    assert "unchanged, nothing committed; revision" in command("publish", run_path, *repo)
    assert json.loads(command("publish", run_path, *repo, "--json"))[0]["committed"] is False
    assert "nothing was sent" in command("publish", run_path, *repo, "--dry-run", tmp_path / "dry")
    assert json.loads(command("publish", run_path, *repo, "--dry-run", tmp_path / "dry2", "--json")) == {
        "folders": [str(tmp_path / "dry2")]
    }
    table = command("pull", "ann/x", tmp_path / "back")
    assert [line.split()[0] for line in table.splitlines()[2:5]] == ["seeds", "ift", "eft"]
    assert "same files" in table
    assert json.loads(command("pull", "ann/x", tmp_path / "back", "--json"))[0]["identical"] is True


# -- tokens --------------------------------------------------------------------------------------------------

COMMAND = "import sys; from selfreward.cli import main; sys.argv[0] = 'selfreward'; main()"


@pytest.mark.parametrize("disable_xet", ["1", "0"], ids=["large files by LFS", "large files by Xet"])
def test_the_token_appears_nowhere(hub, run_path, tmp_path, disable_xet):
    """Not in what is published, the run folder, the output, the logs at their loudest, or a traceback of a failure."""
    environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": TOKEN, "HF_HUB_VERBOSITY": "debug",
                   "HF_DEBUG": "1", "HF_HUB_DISABLE_XET": disable_xet, "RUST_LOG": "debug"}  # fmt: skip
    command = ["--debug", "publish", run_path, "--repo", "ann/x", "--license", LICENCE, "--json"]
    failing = hub.fault
    failing("POST", "/commit/", status=403)
    failed = run_python(COMMAND, *command, **environment)
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr
    assert "selfreward: " + hub.url + "/datasets/ann/x: committing failed" in failed.stderr
    done = run_python(COMMAND, *command, **environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)[0]["committed"] is True
    canary = TOKEN.encode()
    said = [failed.stdout, failed.stderr, done.stdout, done.stderr]
    assert [text for text in said if TOKEN in text] == []
    written = [
        p for p in tmp_path.rglob("*") if p.is_file()
    ]  # the run, and the client's own folder with its logs
    assert [p for p in written if canary in p.read_bytes()] == []
    assert [p for p, content in published_files(hub).items() if canary in content] == []


def test_a_token_in_the_run_itself_stops_the_push(hub, tmp_path, patience):
    """Somebody's answer holds it; of the configuration, `engine.extra` is left out."""

    def leaky(rows):
        return [replace(rows[0], response=f"My token is {TOKEN}."), *rows[1:]]

    run = make_sample_run(tmp_path / "leaky", iterations=1, ift=leaky)
    with pytest.raises(HubError, match="holds your Hugging Face token; nothing was sent") as caught:
        publish(run.path, options(hub, gate=False), patience)
    assert TOKEN not in str(caught.value)
    assert hub.changes == []


def test_a_token_among_the_engine_s_settings_is_not_published(hub, run_path, patience):
    config = run_path / "config.yaml"
    config.write_text(config.read_text() + f"engine: {{extra: {{key: {TOKEN}}}}}\n")
    publish(run_path, options(hub), patience)
    assert [p for p, content in published_files(hub).items() if TOKEN.encode() in content] == []
    assert published_files(hub)["selfreward/config.yaml"].startswith(b"# not published: engine.extra.key\n")
