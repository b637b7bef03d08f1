"""`selfreward view` over HTTP: who may ask, what a page says, verdicts that are kept, damage and news of the run."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import time
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from sample_run import changed, make_sample_run
from view_server import TOKEN, shown_run

from selfreward.config.files import load_config
from selfreward.errors import UsageError
from selfreward.exchange.exporting import export_file
from selfreward.exchange.importing import import_file
from selfreward.judging.audits.runner import run_audits
from selfreward.judging.prompts.templates import load_template
from selfreward.sql.lineage import lineage
from selfreward.sql.views import open_run
from selfreward.store.run import Run
from selfreward.text import printable
from selfreward.view import reviews, server
from selfreward.view.reviews import WITHDRAWN, Reviews
from selfreward.view.shelf import Shelf

ARCHIVE = Path(__file__).parents[1] / "data" / "run-of-0.1.tar.gz"


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Run:
    return make_sample_run(tmp_path_factory.mktemp("sample") / "run")


@pytest.fixture
def fresh(tmp_path) -> Run:
    return make_sample_run(tmp_path / "run", 1)


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))


def form_of(html: str, **values: str) -> dict[str, str]:
    hidden = dict(
        re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', html.split('action="/review"')[1])
    )
    return (
        {name: unescape(value) for name, value in hidden.items()} | {"note": "", "human_score": ""} | values
    )


# -- who may ask -------------------------------------------------------------------------------------------------


def test_only_who_has_the_token_and_asks_this_machine_is_answered(sample):
    with shown_run(sample.path) as shown:
        cookie = {"cookie": f"selfreward-{shown.port}={TOKEN}"}
        assert shown.get("/")[0] == 200
        assert shown.get(f"/?token={TOKEN}", accept="*/*")[0] == 200
        for path, headers in [
            ("/", {"accept": "*/*"}),
            ("/?token=wrong", {"accept": "*/*"}),
            ("/", {"cookie": f"selfreward-{shown.port}=wrong"}),
            ("/", {"cookie": f"selfreward-1={TOKEN}"}),
            (f"/?token={TOKEN}", {"host": "evil.example"}),
            ("/", cookie | {"host": f"evil.example:{shown.port}"}),
            ("/view.js", {"accept": "*/*"}),
        ]:
            status, text, _ = shown.get(path, **headers)
            assert (status, len(text.splitlines())) == (403, 1), (path, headers)
            assert "run" not in text.split(":")[0]
        assert shown.get("/", **cookie, host=f"localhost:{shown.port}")[0] == 200


def test_every_answer_forbids_scripts_and_hosts_that_are_not_ours(sample):
    with shown_run(sample.path) as shown:
        nonces = set()
        for path in ("/", "/table/iter1/pairs", "/sql", "/nothing"):
            _, html, headers = shown.get(path)
            nonce = re.search(r"script-src 'nonce-([\w-]+)'", headers["content-security-policy"])[1]
            assert f'nonce="{nonce}"' in html
            assert headers["content-security-policy"].startswith("default-src 'none';")
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["set-cookie"].endswith("HttpOnly; SameSite=Strict; Path=/")
            assert TOKEN not in html
            nonces.add(nonce)
        assert len(nonces) == 4


def test_a_form_needs_its_own_token_and_no_form_of_another_site_is_taken(fresh):
    id = fresh.current("iter1/judgements").table()["judgement_id"][0].as_py()
    with shown_run(fresh.path) as shown:
        form = form_of(shown.get(f"/id/{id}")[1], verdict="agree")
        assert shown.post("/review", form | {"form": "guessed"})[0] == 400
        assert shown.post("/review", form, origin="https://evil.example")[0] == 403
        assert not fresh.has("reviews")
        status, _, headers = shown.post("/review", form | {"back": "//evil.example/"})
        assert (status, headers["location"]) == (303, "/")
        assert shown.get("/review")[0] == 405


# -- pages -------------------------------------------------------------------------------------------------------


def test_every_dataset_has_pages_and_every_row_a_page(sample):
    with shown_run(sample.path) as shown:
        home = shown.get("/")[1]
        for name in sample.names():
            assert f'href="/table/{name}"' in home
            status, html, _ = shown.get(f"/table/{name}")
            assert status == 200
            link = unescape(re.search(r'data-row href="([^"]+)"', html)[1])
            status, html, _ = shown.get(link)
            assert status == 200
            assert "None" not in text_of(html)


def test_pages_follow_one_another_through_a_sorted_and_filtered_table(sample):
    rows = sample.current("iter1/judgements").table().to_pylist()
    n = sum(row["score"] >= 3 for row in rows)
    with shown_run(sample.path) as shown:
        path, seen = "/table/iter1/judgements?f=score%3Amin%3A3&sort=-score", []
        while path:
            html = shown.get(path)[1]
            seen += re.findall(r'data-row href="[^"]+">([^<]+)<', html)
            following = re.search(r'rel="next" href="([^"]+)"', html)
            path = unescape(following[1]) if following else ""
        assert len(seen) == n == len(set(seen))
        score = {row["judgement_id"]: row["score"] for row in rows}
        assert [score[id] for id in seen] == sorted((score[id] for id in seen), reverse=True)


def test_a_row_shows_its_lineage_both_ways(sample):
    pair = sample.current("iter1/pairs").table().to_pylist()[0]
    with shown_run(sample.path) as shown:
        html = shown.get(f"/id/{pair['pair_id']}")[1]
        candidate = shown.get(f"/id/{pair['chosen_id']}")[1]
        seed = shown.get("/id/i0")[1]
    tree = lineage(sample, pair["pair_id"]).to_dict()

    def ids(node):
        yield node["id"]
        for child in node["children"]:
            yield from ids(child)

    assert all(f"/id/{id}" in html for id in ids(tree))
    assert pair["pair_id"] in candidate.split("What was made from it")[1].split("Where it comes from")[0]
    assert "score of" in candidate
    assert "ift-" in seed.split("What was made from it")[1]


@pytest.fixture
def old(tmp_path, monkeypatch) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_the_judge_prompt_is_what_was_sent_or_the_reason_why_not(old, sample):
    run, name = Run(old), load_config(old / "config.yaml").judging.template
    judgement = run.current("iter1/judgements").table().to_pylist()[0]
    candidates = {row["candidate_id"]: row for row in run.current("iter1/candidates").table().to_pylist()}
    prompts = {row["prompt_id"]: row["prompt"] for row in run.current("iter1/prompts").table().to_pylist()}
    candidate = candidates[judgement["candidate_id"]]
    sent = load_template(name).render(prompts[candidate["prompt_id"]], candidate["response"])
    with shown_run(old) as shown:
        html = shown.get(f"/id/{judgement['judgement_id']}")[1]
    assert printable(sent) in text_of(html)
    made = sample.current("iter1/judgements").table()["judgement_id"][0].as_py()
    with shown_run(sample.path) as shown:
        assert "It cannot be shown exactly: " in text_of(shown.get(f"/id/{made}")[1])


def test_other_judgements_of_the_answer_are_beside_it_also_of_earlier_versions(fresh):
    row = fresh.current("iter1/judgements").table().to_pylist()[0]
    make_sample_run(fresh.path, 1, iter1_judgements=changed(0, score=1.0, judgement="Otherwise.\nScore: 1"))
    with shown_run(fresh.path) as shown:
        part = shown.get(f"/id/{row['judgement_id']}")[1].split("The same answer, judged")[1].split("<h2>")[0]
    assert part.count("(earlier)") == 3
    assert part.count('href="/id/j-') == 2


def test_sql_answers_as_table_picture_and_file_and_changes_nothing(sample):
    with shown_run(sample.path) as shown:
        query = "query=SELECT+score,count(*)+AS+n+FROM+scores+WHERE+score+IS+NOT+NULL+GROUP+BY+ALL"
        assert "<svg" in shown.get(f"/sql?{query}&picture=bars&x=score&y=n")[1]
        status, text, headers = shown.get("/sql/rows.csv?query=SELECT+'%3D1'+AS+a&spreadsheet=1")
        assert (status, text, headers["content-type"]) == (200, "a\n'=1\n", "text/csv; charset=utf-8")
        assert shown.get("/sql/rows.parquet?query=FROM+pairs")[2]["content-disposition"].endswith(
            '"rows.parquet"'
        )
        for query, said in [
            ("DROP+VIEW+pairs", "a run is read-only"),
            ("FROM+nowhere", "there is no dataset"),
            ("SELECT+1;SELECT+2", "expected one"),
            ("SELECT+'a'::INT", "Could not convert"),
            ("FROM+read_csv('/etc/passwd')", "query: "),
        ]:
            assert said in text_of(shown.get(f"/sql?query={query}")[1]), query
        assert "chart: " in text_of(shown.get("/sql?query=SELECT+'a'+AS+a&picture=line")[1])


def test_two_versions_and_two_runs_are_compared(fresh, sample):
    make_sample_run(fresh.path, 1, iter1_pairs=changed(0, rule="another"))
    with shown_run(fresh.path) as shown:
        html = text_of(shown.get("/compare?name=iter1/pairs")[1])
        assert "Changed by column: rule 1" in html
        assert "another" in html
        other = text_of(shown.get(f"/compare?name=iter1/pairs&a=current&other={sample.path}")[1])
        assert "Matched by pair_id" in other
        assert "run folder" in text_of(shown.get("/compare?name=iter1/pairs&other=/nowhere")[1])


# -- a run that is not as it should be -----------------------------------------------------------------------------


def test_a_damaged_dataset_is_named_and_the_others_stay_usable(fresh):
    data = next(fresh.current("iter1/candidates").folder.glob("*.arrow"))
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with shown_run(fresh.path) as shown:
        status, html, _ = shown.get("/table/iter1/candidates")
        assert (status, "SHA-256" in html) == (409, True)
        assert "iter1/candidates cannot be used" in text_of(shown.get("/")[1])
        assert shown.get("/table/iter1/pairs")[0] == 200
        pair = fresh.current("iter1/pairs").table()["pair_id"][0].as_py()
        status, html, _ = shown.get(f"/id/{pair}")
        assert (status, "SHA-256" in html) == (200, True)
        assert "SHA-256" in shown.get("/sql?query=FROM+candidates")[1]
        assert "SHA-256" not in shown.get("/sql?query=FROM+pairs")[1]


def test_what_is_published_meanwhile_is_shown_and_a_run_at_work_says_so(fresh):
    with shown_run(fresh.path) as shown:
        before = shown.get("/state")[1]
        with fresh.hold("iter2/prompts"):
            assert "This run is being written (process" in text_of(shown.get("/")[1])
            make_sample_run(fresh.path, 2)
        assert shown.get("/state")[1] != before
        assert "/table/iter2/pairs" in shown.get("/")[1]
        assert shown.get("/table/iter2/pairs")[0] == 200
        assert shown.get("/sql?query=FROM+iter2.pairs")[0] == 200


def test_an_empty_run_has_a_page(tmp_path):
    Run.create(tmp_path / "new")
    with shown_run(tmp_path / "new") as shown:
        assert "Nothing is finished yet" in shown.get("/")[1]
        assert shown.get("/sql")[0] == shown.get("/compare")[0] == 200


# -- verdicts ------------------------------------------------------------------------------------------------------


def test_a_verdict_is_a_version_of_reviews_that_everything_knows(fresh, tmp_path):
    row = fresh.current("iter1/judgements").table().to_pylist()[0]
    id = row["judgement_id"]
    with shown_run(fresh.path) as shown:
        form = form_of(shown.get(f"/id/{id}")[1], verdict="disagree", note="<b>too mild</b>", human_score="2")
        assert shown.post("/review", form)[0] == 303
        assert "&lt;b&gt;too mild" in shown.get(f"/id/{id}")[1]
        assert shown.post("/review", form | {"verdict": "perhaps"})[0] == 400
        assert shown.post("/review", form | {"human_score": "nan"})[0] == 400
        assert shown.post("/review", form | {"verdict": "agree", "human_score": ""})[0] == 303
    (review,) = fresh.current("reviews").table().to_pylist()
    assert (review["row_id"], review["verdict"], review["reviewer"]) == (id, "agree", "ann")
    assert (review["score"], review["candidate_id"], review["iteration"]) == (
        row["score"],
        row["candidate_id"],
        1,
    )
    assert len(fresh.versions("reviews")) == 2
    with open_run(fresh.path) as opened:
        assert opened.sql("SELECT verdict FROM reviews").fetchall() == [("agree",)]
        assert opened.sql(f"SELECT id FROM lineage('{review['review_id']}')").fetchall()[1] == (id,)
    assert lineage(fresh, review["review_id"]).children[0].id == id
    assert {r.name: r.verdict for r in run_audits(fresh, save=False).results}["keys_unique"] == "pass"
    export_file(fresh, "reviews", tmp_path / "reviews.csv")
    other = make_sample_run(tmp_path / "other", 1)
    (imported,) = import_file(other, "reviews", tmp_path / "reviews.csv")
    assert imported.content_sha256 == fresh.current("reviews").content_sha256


def test_verdicts_of_two_people_and_two_processes_are_all_kept(fresh):
    rows = fresh.current("iter1/judgements").table().to_pylist()
    ann, bob = (Reviews(Shelf(fresh.path), name) for name in ("ann", "bob"))
    ann.save("iter1/judgements", rows[0], "agree", "", None)
    bob.save("iter1/judgements", rows[0], "disagree", "no", 1.0)
    ann.save("iter1/judgements", rows[1], "flagged", "", None)
    found = {(r["reviewer"], r["row_id"]): r["verdict"] for r in fresh.current("reviews").table().to_pylist()}
    assert found == {
        ("ann", rows[0]["judgement_id"]): "agree",
        ("bob", rows[0]["judgement_id"]): "disagree",
        ("ann", rows[1]["judgement_id"]): "flagged",
    }
    ann.save("iter1/judgements", rows[0], WITHDRAWN, "", None)
    assert {r["reviewer"] for r in bob.of(rows[0]["judgement_id"])} == {"bob"}
    with pytest.raises(UsageError, match="no ids of their own"):
        ann.save("audits", {}, "flagged", "", None)


def test_a_version_published_between_reading_and_writing_is_merged(fresh, monkeypatch):
    """Bob's verdict is published after Ann's process has read the reviews, and before it writes."""
    rows = fresh.current("iter1/judgements").table().to_pylist()
    ann, bob = (Reviews(Shelf(fresh.path), name) for name in ("ann", "bob"))
    publish, calls = reviews._publish, []

    def late(run, table):
        calls.append(table.num_rows)
        if len(calls) == 1:
            bob.save("iter1/judgements", rows[1], "disagree", "", None)
        return publish(run, table)

    ann.save("iter1/judgements", rows[2], "agree", "", None)
    monkeypatch.setattr(reviews, "_publish", late)
    ann.save("iter1/judgements", rows[0], "agree", "", None)
    assert fresh.current("reviews").n_rows == 3


# -- the command -----------------------------------------------------------------------------------------------------


def start(run: Path, *flags: str, **environment: str) -> subprocess.Popen:
    env = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"} | environment
    command = [sys.executable, "-m", "selfreward", "view", str(run), *flags]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_command_says_where_the_page_is_and_ctrl_c_stops_it(sample):
    child = start(sample.path, "--no-open", SSH_CONNECTION="10.0.0.9 51111 10.0.0.2 22")
    try:
        address = re.search(r"http://127\.0\.0\.1:(\d+)/\?token=[\w-]{20,}", child.stdout.readline())
        assert child.stdout.readline() == "Ctrl-C stops it\n"
        line = child.stdout.readline()
        assert re.search(rf"ssh -N -L {address[1]}:127\.0\.0\.1:{address[1]} \S+@10\.0\.0\.2$", line)
        time.sleep(0.5)
        child.send_signal(signal.SIGINT)
        assert child.wait(30) == 0
        assert child.stderr.read() == "\nstopped\n"
    finally:
        child.kill()


def test_a_port_in_use_and_a_folder_that_is_no_run_are_one_sentence(sample, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        child = start(sample.path, "--no-open", "--port", str(taken.getsockname()[1]))
        _, errors = child.communicate(timeout=60)
    assert (child.returncode, errors.count("\n")) == (2, 1)
    assert "Address already in use" in errors
    child = start(tmp_path / "nothing", "--no-open")
    _, errors = child.communicate(timeout=60)
    assert (child.returncode != 0, errors.count("\n")) == (True, 1)


def test_without_a_browser_the_address_is_there_all_the_same(monkeypatch, capsys):
    import webbrowser

    monkeypatch.setattr(webbrowser, "open", lambda address: False)
    server._open("http://127.0.0.1:1/")
    assert capsys.readouterr().err == "no browser was found; open the address in one\n"


def test_the_first_page_needs_none_of_the_heavy_libraries(sample):
    """A table may bring pandas, which Arrow imports by itself."""
    heavy = ("torch", "datasets", "transformers", "pandas", "matplotlib", "pydantic", "sklearn", "scipy")
    code = (
        "import sys; sys.path.insert(0, 'tests/helpers')\n"
        "from pathlib import Path\nfrom view_server import shown_run\n"
        f"with shown_run(Path({str(sample.path)!r})) as shown:\n"
        "    for path in ('/', '/table/iter1/pairs'):\n"
        "        assert shown.get(path)[0] == 200\n"
        f"        print([m for m in {heavy} if m in sys.modules])"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.replace("['pandas']", "[]") == "[]\n[]\n"
    assert done.stdout.startswith("[]")


def test_control_characters_and_secrets_do_not_reach_the_page(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_API_KEY", "sk-verysecretvalue1234567890")
    said = "\x00\x1b[31m\u202eevil sk-verysecretvalue1234567890 </div><script>alert(1)</script>"

    def hostile(rows):
        return [replace(row, response=said + row.candidate_id) for row in rows]

    run = make_sample_run(tmp_path / "run", 1, iter1_candidates=hostile)
    with shown_run(run.path) as shown:
        for path in (
            "/table/iter1/candidates",
            "/row/iter1/candidates?at=0",
            "/row/iter1/candidates?at=0&full=1",
        ):
            html = shown.get(path)[1]
            assert "\\u0000\\u001b[31m\\u202eevil" in html, path
            assert not set("\x00\x1b\u202e") & set(html)
            assert "verysecret" not in html
            assert "<script>alert" not in html
