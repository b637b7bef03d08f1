"""Import and export: what goes out comes back equal, what people have comes in, and the rest is one sentence."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sample_run import make_sample_run, publish_rows

from selfreward.exchange.exporting import export_file
from selfreward.store.exchange import ROW_CLASSES, import_file
from selfreward.store.run import Run
from selfreward.tables import Annotation, JudgeEval, ModelOutput, Seed

ENDINGS = ("jsonl", "csv", "parquet")
AWKWARD = [
    "",
    " ",
    "007",
    "1.50",
    "TRUE",
    "N/A",
    "null",
    "2024-01-01",
    '"',
    "a,b",
    "x\r\ny",
    "\r",
    "\n",
    "é😀",
    "[]",
    "-",
]


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    run = make_sample_run(tmp_path_factory.mktemp("sample") / "run", iterations=1)
    publish_rows(
        run,
        "iter1/judge_eval",
        JudgeEval,
        [
            JudgeEval("e", 1, "p", "r", 0, 3, 0, "M1", "t", "sampled", text, None, "empty", "stop", 0)
            for text in AWKWARD
        ],
    )
    publish_rows(
        run,
        "iter1/model_outputs",
        ModelOutput,
        [
            ModelOutput(f"o{i}", 1, text, None, text or None, "M1", "stop", 1, 1, "r", "g", None)
            for i, text in enumerate(AWKWARD)
        ],
    )
    publish_rows(
        run,
        "iter1/annotations",
        Annotation,
        [
            Annotation(
                "o",
                1,
                "i",
                None,
                "a",
                "g",
                "b",
                "h",
                "j",
                1.1,
                "ok",
                None,
                1 / 3,
                None,
                "",
                None,
                True,
                1e-30,
                None,
            )
        ],
    )
    return run


@pytest.fixture
def run(tmp_path):
    return Run.create(tmp_path / "run")


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(run: Run, name: str) -> list[dict]:
    return run.current(name).table().to_pylist()


# -- there and back ------------------------------------------------------------------------------------------


def test_the_sample_holds_every_dataset(sample):
    assert {name.rpartition("/")[2] for name in sample.names()} == set(ROW_CLASSES)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("kind", ROW_CLASSES)
def test_what_was_exported_is_imported_with_the_same_content_hash(sample, run, tmp_path, kind, ending):
    name = kind if kind in ("seeds", "ift", "eft") else f"iter1/{kind}"
    file = tmp_path / f"rows.{ending}"
    n_rows = export_file(sample, name, file)
    (version,) = import_file(run, name, file)
    assert version.n_rows == n_rows
    assert version.content_sha256 == sample.current(name).content_sha256


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(AWKWARD)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            TEXT,
            TEXT,
            st.none() | st.integers(0, 9),
            st.none() | st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_text_and_number_comes_back(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("any")
    rows = [
        Seed(f"s{i}", "p", prompt, response, rank, quality, "en", prompt or None, "x")
        for i, (prompt, response, rank, quality) in enumerate(drawn)
    ]
    one, two = Run.create(folder / "one"), Run.create(folder / "two")
    publish_rows(one, "seeds", Seed, rows)
    for ending in ENDINGS:
        export_file(one, "seeds", folder / f"s.{ending}")
        (version,) = import_file(two, "seeds", folder / f"s.{ending}")
        assert version.content_sha256 == one.current("seeds").content_sha256, ending
