"""Cards: what they say, that hostile text shows as text, and which licence they carry."""

from __future__ import annotations

import html
import json
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published_run import HOSTILE, make_hostile_run, make_published_run
from sample_run import changed, every, make_sample_run

from selfreward.data_cards.cards.audits import Audits
from selfreward.data_cards.cards.facts import Origin, gather, seed_origin
from selfreward.data_cards.cards.front_matter import dataset_front_matter
from selfreward.data_cards.cards.licences import choose_licence, forbidden_because, source_licence
from selfreward.data_cards.cards.markdown import as_text, code, pre, render
from selfreward.data_cards.cards.report_copy import write_report
from selfreward.data_cards.cards.weaknesses import weaknesses
from selfreward.data_cards.preview import write_cards
from selfreward.data_cards.publish import PublishOptions, dry_run
from selfreward.data_cards.staging import select
from selfreward.data_cards.tree.layout import checked_repo, config_names, free_tag
from selfreward.errors import UsageError
from selfreward.store.run import Counts, Recipe, Run
from selfreward.summary.facts import Iteration, Lengths
from selfreward.summary.settings import settings_of


def facts_of(run, versions=None):
    """The facts of the chosen versions of a run; of all its datasets by default."""
    versions = versions or select(run).datasets
    settings = settings_of(run.path, {version.name: version for version in versions})
    return gather(run, versions, settings, seed_origin(run))


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """What would be published of the sample run."""
    folder = tmp_path_factory.mktemp("cards")
    run = make_published_run(folder / "run")
    dry_run(run.path, PublishOptions("ann/x", license="cc-by-4.0"), folder / "dry")
    return folder / "dry"


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The card of a run whose rows try to break it."""
    folder = tmp_path_factory.mktemp("hostile")
    run = make_hostile_run(folder / "run")
    write_cards(run.path, "ann/x", "cc-by-4.0", folder / "card")
    return (folder / "card" / "README.md").read_text()


# -- what it says --------------------------------------------------------------------------------------------


def test_the_card_says_what_how_how_many_and_how_good(tree):
    """Counts, flow, parameters, funnel, pictures, audits, agreement, lineage, licence, citation, weaknesses, loading."""
    text = (tree / "README.md").read_text()
    for expected in (
        'load_dataset("ann/x", "iter1_pairs", split="train")',
        "| `iter1_judgements` | one judgement of an answer: its text, `score` or NULL, `status` | `train` 288 | 288 | – |",
        "| prompts kept | 24 | not&#95;novel 6 |",
        "seeds → ift, eft → SFT → M1",
        "![Scores, iteration 1](images/iter1-scores.svg)",
        "| M1 | 10 | 9 | 62.5 % | 50.0 % to 75.0 % | 8 |",
        "| `keys_unique` | contract | pass |",
        "`cc-by-4.0`",
        "arXiv:2401.10020",
        "## Known weaknesses",
        "selfreward pull ann/x RUN",
        "<summary>The judge's prompt template</summary>",
    ):
        assert expected in text, expected


def test_the_yaml_names_every_configuration_with_its_features_and_counts(tree):
    """Read by the libraries that the Hub and `load_dataset` use."""
    from datasets.info import DatasetInfosDict
    from datasets.utils.metadata import MetadataConfigs
    from huggingface_hub import DatasetCard

    data = DatasetCard.load(tree / "README.md").data
    configs = MetadataConfigs.from_dataset_card_data(data)
    infos = DatasetInfosDict.from_dataset_card_data(data)
    assert data.license == "cc-by-4.0"
    assert set(configs) == set(infos) >= {"seeds", "ift", "eft", "iter1_pairs"}
    assert configs.get_default_config_name() == "iter1_pairs"
    assert {name: split.num_examples for name, split in infos["eft"].splits.items()} == {
        "train": 30,
        "eval": 10,
    }
    files = [f for c in configs.values() for d in c["data_files"] for f in [d["path"]]]
    assert sorted(files) == sorted(p.relative_to(tree).as_posix() for p in tree.rglob("*.parquet"))


def test_croissant_names_every_file_by_hash_and_every_column_by_type(tree):
    """pairs.prompt is a repeated structure of two texts; margin is a number."""
    import hashlib

    meta = json.loads((tree / "croissant.json").read_text())
    files = {
        f["@id"]: f["sha256"]
        for f in meta["distribution"]
        if f["encodingFormat"] != "git+https" and "sha256" in f
    }
    assert files == {
        p.relative_to(tree).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in tree.rglob("*.parquet")
    }
    pairs = next(r for r in meta["recordSet"] if r["@id"] == "iter1_pairs")
    fields = {field["name"]: field for field in pairs["field"]}
    assert fields["margin"]["dataType"] == "sc:Float"
    assert fields["prompt"]["repeated"] is True
    assert [part["name"] for part in fields["prompt"]["subField"]] == ["role", "content"]


def test_the_same_run_gives_the_same_tree_byte_for_byte(tree, tmp_path):
    """Made again from nothing, in another folder; pictures and compression included."""
    make_published_run(tmp_path / "run")
    for manifest in (tree / "selfreward" / "manifests").rglob(
        "*.json"
    ):  # `created` is the only thing a clock wrote
        assert json.loads(manifest.read_text())["created"]
    other = Run(tree.parent / "run")
    dry_run(other.path, PublishOptions("ann/x", license="cc-by-4.0"), tmp_path / "dry")
    files = {p.relative_to(tree): p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    assert {
        p.relative_to(tmp_path / "dry"): p.read_bytes() for p in (tmp_path / "dry").rglob("*") if p.is_file()
    } == files


def test_every_dataset_of_the_contract_is_explained(tree):
    """A kind that the registry does not know would get a dash."""
    text = (tree / "README.md").read_text()
    assert "| – | `train`" not in text
    assert "| a preference pair in TRL's conversational form |" in text


def test_languages_are_codes_that_the_hub_takes(tree):
    """`pt-BR` is `pt`; a language that is no code is left out of the YAML, and the commit is not refused for it."""
    run = Run(tree.parent / "run")
    facts = replace(facts_of(run), origin=Origin([], ["English", "en", "pt-BR", "uk-UA"]))
    text = dataset_front_matter("x", "mit", facts, [])
    assert "language:\n- en\n- pt\n- uk\nlicense" in text


def test_a_model_among_the_inputs_is_named_with_one_hash(tmp_path):
    """Its name in a manifest holds one already."""
    run = make_sample_run(tmp_path / "run", 1)
    recipe = Recipe(
        "iter1/scores",
        "tests 3",
        {"model": {"name": "hf:base@0123456789ab", "content_sha256": "0123456789ab" * 5}},
    )
    scores = run.current("iter1/scores").table()
    version = run.publish_table(recipe, scores, Counts(scores.num_rows, scores.num_rows))
    (dataset,) = facts_of(run, [version]).datasets
    assert dataset.inputs == ["hf:base@0123456789ab"]


def test_a_card_that_is_only_looked_at_speaks_of_no_gate(tmp_path):
    """Nobody asked for `--no-gate`: the failed check stands there, and nothing is said to have been overruled."""
    run = make_sample_run(tmp_path / "run", 1, iter1_pairs=changed(0, chosen_score=0.0, rejected_score=5.0))
    text = write_cards(run.path, "USER/NAME", None, tmp_path / "card")[0].read_text()
    assert "| `pairs_chosen_beats_rejected` | contract | fail |" in text
    assert "--no-gate" not in text


def test_a_card_alone_needs_no_licence_and_no_figures(tmp_path):
    """`selfreward card`: what is not known yet is left open, on the model's card too."""
    run = make_published_run(tmp_path / "run")
    card = tmp_path / "card"
    written = [path.relative_to(card).as_posix() for path in write_cards(run.path, "USER/NAME", None, card)]
    assert written[:2] == ["README.md", "M1/README.md"]
    assert {"report.html", "images/iter1-lengths.svg", "images/iter1-scores.svg"} <= set(written)
    for path, words in (("README.md", "Not chosen yet"), ("M1/README.md", "Not known yet")):
        text = (card / path).read_text()
        assert words in text
        assert "license:" not in text.split("---")[1]


def test_imported_rows_are_named_as_a_weakness(tmp_path, monkeypatch):
    """Their manifests hold no builder's notes, and the card is whole all the same."""
    import pyarrow.parquet

    from selfreward.exchange.importing import import_file

    monkeypatch.setattr("selfreward.data_cards.preview.audit_run", lambda run, gated: Audits([], [], False))
    sample = make_sample_run(tmp_path / "sample", 1)
    run = Run.create(tmp_path / "run")
    for name in ("iter1/prompts", "iter1/candidates", "iter1/judgements", "iter1/scores", "iter1/pairs"):
        pyarrow.parquet.write_table(sample.current(name).table(), tmp_path / "rows.parquet")
        import_file(run, name, tmp_path / "rows.parquet")
    written = write_cards(run.path, "USER/NAME", "mit", tmp_path / "card")
    text = written[0].read_text()
    assert "Rows of iter1/prompts, iter1/candidates" in text
    assert "| judgements scored | 288 | – |" in text


# -- hostile text --------------------------------------------------------------------------------------------


def test_hostile_text_stands_in_the_card_as_text(hostile):
    """Every character of it, and none of it active: no second front matter, no template, no tag, no link."""
    body = hostile.split("\n---\n", 1)[1]
    assert html.escape(HOSTILE) in body
    assert "<script" not in hostile
    assert "49" not in body.split("Prompt:")[1].split("Chosen")[0]  # {{ 7 * 7 }}
    from huggingface_hub import DatasetCard

    assert DatasetCard(hostile).data.license == "cc-by-4.0"


def test_a_markdown_renderer_makes_nothing_of_it(hostile):
    """As CommonMark with tables and raw HTML reads it: no script, no foreign image, no link to anywhere hostile."""
    markdown_it = pytest.importorskip("markdown_it", reason="needs a Markdown parser")
    rendered = (
        markdown_it.MarkdownIt("commonmark", {"html": True})
        .enable("table")
        .render(hostile.split("\n---\n", 1)[1])
    )
    assert "<script" not in rendered
    assert "<b>bold" not in rendered
    assert 'src="http' not in rendered
    assert 'evil.example"' not in rendered
    assert "javascript:alert" not in rendered.replace("[y](javascript:alert(2))", "")
    assert "not&#95;novel" not in rendered
    assert "<td>&lt;b&gt;|`x` # y 6</td>" in rendered


def test_no_folder_of_this_machine_stands_in_the_card(hostile):
    """The configuration names one, and an audit says that the model there has no tokenizer."""
    assert "/home/ann" not in hostile
    assert "model: scripted:answers.yaml" in hostile
    assert "scripted:answers.yaml has no tokenizer here" in hostile


LINES = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Zl", "Zp", "Zs"], whitelist_characters=" "), max_size=60
)


@given(LINES)
def test_any_text_reads_back_as_itself_and_has_nothing_active(text):
    """Character references are undone by every reader; what is left unescaped is no markup."""
    shown = str(as_text(text))
    assert html.unescape(shown) == " ".join(text.split())
    assert not set("<>|`*_[]{}\\~") & set(shown)
    assert shown[:1] not in tuple("#-+=")


@given(st.text(max_size=200))
def test_any_text_in_a_block_stays_in_the_block(text):
    """One opening and one closing tag, whatever is between them."""
    shown = str(pre(text))
    assert (shown.count("<pre>"), shown.count("</pre>")) == (1, 1)
    assert shown.endswith("\n</pre>")


def test_a_long_text_says_what_was_left_out():
    assert "… (5 more characters)" in pre("a" * 15, 10)


def test_a_name_with_a_backtick_is_not_put_between_backticks():
    assert str(code("a`b")) == "<code>a&#96;b</code>"


def test_an_unknown_name_in_a_template_is_an_error():
    """An empty place in a card would be noticed by nobody."""
    from jinja2 import UndefinedError

    with pytest.raises(UndefinedError):
        render("model.md.jinja")


# -- pictures ------------------------------------------------------------------------------------------------


def pictures_of(path, **defects):
    """Path in the repository -> text, of the pictures beside the card of a sample run."""
    run = make_sample_run(path / "run", 1, **defects)
    report = write_report(path / "card", "x", "ann/x", facts_of(run))
    return {name: (path / "card" / name).read_text() for name in report.files if name.endswith(".svg")}


@pytest.mark.parametrize(
    ("defects", "left"),
    [
        pytest.param({"iter1_scores": lambda rows: []}, "iter1-scores", id="no candidate scored"),
        pytest.param({"iter1_judgements": lambda rows: []}, "iter1-lengths", id="nothing judged"),
        pytest.param({"iter1_judgements": every(score=3.0)}, "iter1-scores", id="one score only"),
        pytest.param({"iter1_candidates": lambda rows: rows[:1]}, "iter1-lengths", id="one candidate"),
    ],
)
def test_pictures_of_little_data_are_drawn_without_an_error(defects, left, tmp_path):
    """And a picture of nothing is not drawn at all."""
    drawn = pictures_of(tmp_path, **defects)
    assert f"images/{left}.svg" in drawn
    assert all("<rect" in picture for picture in drawn.values())
    assert ("images/iter1-scores.svg" in drawn) is (
        defects.get("iter1_judgements") is None or left == "iter1-scores"
    )


def test_scores_that_are_all_different_are_visible(tmp_path):
    """As token probabilities give them: 288 values of [2, 4.88), none twice. In bars as wide as their gaps nothing would show."""
    drawn = pictures_of(
        tmp_path,
        iter1_judgements=lambda rows: [replace(row, score=2 + i / 100) for i, row in enumerate(rows)],
    )
    bars = re.findall(
        r'<rect class="c0" x="[\d.]+" y="[\d.]+" width="([\d.]+)"', drawn["images/iter1-scores.svg"]
    )
    assert 10 <= len(bars) <= 40
    assert all(float(width) > 5 for width in bars)


def test_the_copy_of_the_report_holds_only_what_is_published(tmp_path):
    """Neither the dataset that is left out, nor a folder of this machine, nor what no version holds."""
    run = make_hostile_run(tmp_path / "run")
    only = [run.current("iter1/candidates")]
    write_report(tmp_path / "card", "x", "ann/x", facts_of(run, only))
    text = (tmp_path / "card" / "report.html").read_text()
    assert str(tmp_path) not in text
    assert "/home/ann" not in text
    assert "iter1.prompts" not in text
    assert "iter1.judgements" not in text
    assert "selfreward pull ann/x RUN" in text


def test_the_card_shows_whether_it_gets_better_and_links_the_page(tree):
    card = (tree / "README.md").read_text()
    section = card.partition("## Does it get better?")[2].partition("\n## ")[0]
    shown = re.findall(r"!\[[^]]*\]\(([^)]*)\)", section)
    assert shown
    assert all((tree / path).is_file() for path in re.findall(r"!\[[^]]*\]\(([^)]*)\)", card))
    assert "`report.html`" in section
    assert (tree / "report.html").is_file()


# -- weaknesses ----------------------------------------------------------------------------------------------


def test_weaknesses_name_the_figures_that_show_them(tmp_path):
    """9 of 10 judgements say 3, 2 of 12 have no score, and the chosen answer is longer in both pairs."""
    run = make_sample_run(tmp_path / "run", 1)
    facts = facts_of(run)
    bad = replace(
        Iteration(1),
        statuses={"ok": 10, "no_score": 2},
        histogram=[(3.0, 9), (4.0, 1)],
        lengths=Lengths([], [9, 9], [1, 1]),
    )
    said = " ".join(weaknesses(replace(facts, summary=replace(facts.summary, iterations=[bad]))))
    assert "2 of 12 judgements (17 %) have no readable score" in said
    assert "90 % of the scores are 3" in said
    assert "the longer one in 100 % of the pairs" in said
    assert "2 pairs are a small dataset; the paper has 3,964 here" in said
    assert "not compared with a ranking" in said
    third = replace(facts.summary, iterations=[replace(bad, number=3)])
    said = weaknesses(replace(facts, summary=third))
    assert "Iteration 3: 2 pairs are a small dataset." in said  # the paper has two iterations of pairs


# -- licences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seeds", "wanted", "allowed"),
    [
        ("apache-2.0", "apache-2.0", True),
        ("apache-2.0", "cc-by-nc-4.0", True),
        ("apache-2.0", "cc0-1.0", False),
        ("cc0-1.0", "mit", True),
        ("cc-by-sa-3.0", "cc-by-sa-4.0", True),
        ("cc-by-sa-3.0", "apache-2.0", False),
        ("cc-by-nc-4.0", "cc-by-4.0", False),
        ("cc-by-nc-4.0", "cc-by-nc-sa-4.0", True),
        ("cc-by-nd-4.0", "cc-by-nd-4.0", False),
        ("llama2", "mit", False),
        ("llama2", "llama2", True),
    ],
)
def test_a_licence_is_allowed_if_it_keeps_what_the_seeds_licence_asks(seeds, wanted, allowed):
    """Attribution, share alike, non-commercial, no derivatives, terms of one's own."""
    assert (forbidden_because(seeds, wanted) is None) is allowed


def test_the_seeds_licence_is_carried_over():
    """Embedded and Open Assistant's seeds are Apache-2.0; a file that is only called so is not."""
    assert choose_licence(["embedded"], None) == "apache-2.0"
    assert choose_licence(["OpenAssistant/oasst1"], None) == "apache-2.0"
    assert source_licence("2023-04-12_oasst_ready") is None


def test_a_licence_that_the_seeds_forbid_is_refused():
    with pytest.raises(
        UsageError,
        match=r"'databricks/databricks-dolly-15k' are under cc-by-sa-3.0, which requires derived works",
    ):
        choose_licence(["databricks/databricks-dolly-15k"], "mit")


@pytest.mark.parametrize("sources", [[], ["my-table"], ["embedded", "my-table"]])
def test_an_unknown_licence_must_be_given(sources):
    """Rows of one's own, or none that say where they are from."""
    with pytest.raises(UsageError, match="--license"):
        choose_licence(sources, None)
    assert choose_licence(sources, "cc-by-4.0") == "cc-by-4.0"


@pytest.mark.parametrize("written", ["MIT", "Mit", "mit"])
def test_a_licence_is_known_however_it_is_capitalized(written):
    assert choose_licence(["my-table"], written) == "mit"
    with pytest.raises(UsageError, match="did you mean mit"):
        choose_licence(["my-table"], f"{written}t")


def test_seeds_from_a_file_have_no_known_licence_whatever_the_file_is_called(tmp_path):
    """`embedded.jsonl` names its rows' source `embedded`, and is not the project's own set."""
    run = make_sample_run(tmp_path / "run", 1, seeds=every(source="embedded"))
    assert seed_origin(run).sources == ["embedded"]
    seeds = run.current("seeds")
    recipe = Recipe("seeds", "tests 2", {"seed_file": {"name": "embedded.jsonl", "content_sha256": "0" * 64}})
    run.publish_table(recipe, seeds.table(), Counts(seeds.n_rows, seeds.n_rows))
    assert seed_origin(run).sources == ["embedded.jsonl"]
    with pytest.raises(UsageError, match=r"embedded\.jsonl"):
        choose_licence(seed_origin(run).sources, None)


def test_several_licences_are_not_mixed_silently():
    with pytest.raises(UsageError, match="several licenses"):
        choose_licence(["embedded", "Anthropic/hh-rlhf"], None)


# -- names ---------------------------------------------------------------------------------------------------


def test_two_datasets_that_would_share_a_configuration_are_refused():
    with pytest.raises(UsageError, match="would both be configuration 'iter1_pairs'"):
        config_names(["iter1/pairs", "iter1_pairs"])


def test_repository_names_are_the_hubs():
    assert checked_repo("ann/x.y-z_1") == "ann/x.y-z_1"


def test_a_tag_is_reused_for_its_own_revision_only():
    """`run-1` names a; for b the first free one is `run-1.3`."""
    tags = {"run-1": "a", "run-1.2": "c"}
    assert free_tag("run-1", "a", tags) == "run-1"
    assert free_tag("run-1", "b", tags) == "run-1.3"
