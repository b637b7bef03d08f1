"""How long the audits take on generated runs, beside the same work in pandas, and how the time grows.

    python benchmarks/audits.py                                  # 200 thousand candidates, 600 thousand judgements
    python benchmarks/audits.py --candidates 50000 500000 5000000 --keep /path/with/20GB

Each size is a run of its own: 4 candidates a prompt, 3 judgements a candidate, about 300 characters a response and 130
a judgement, pairs by the paper's rule. Generating and publishing is not timed. The audits run in a process of their
own with two DuckDB threads; its peak memory is read from the kernel, pages of the memory-mapped run (which the
kernel may drop at any time) apart from the rest. Wall time says little on a busy machine: CPU time divided by two is
what two free cores need at least.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

N_SAMPLES = 4
N_JUDGEMENTS = 3
THREADS = 2

SUBJECTS = ["The teacher", "A river", "The old bridge", "My neighbour", "Every garden", "The committee", "One engine",
            "The island", "A careful reader", "The market", "This method", "The second answer", "A small village",
            "The library", "An open window", "The winter", "That question", "The new law", "A patient doctor", "The data"]  # fmt: skip
VERBS = ["explains", "follows", "improves", "measures", "protects", "describes", "answers", "covers", "changes",
         "repairs", "supports", "replaces", "questions", "collects", "shows", "needs", "limits", "opens"]  # fmt: skip
OBJECTS = ["the first step in detail", "what people ask for most", "a part of the cost", "the way to the harbour",
           "the results of the survey", "an example that is easy to check", "the reasons for the delay",
           "each of the three options", "the rules that apply to it", "what you would expect from it",
           "the water that runs under it", "a plan for the coming year", "the names of all the members",
           "several books on the topic", "the difference between the two"]  # fmt: skip

PROMPTS = """
SELECT 'p-' || printf('%016x', hash(i)) AS prompt_id, 1::BIGINT AS iteration,
    'Explain why ' || lower(s(i, 1)) || ' and tell me whether ' || lower(s(i, 2)) || '?' AS prompt,
    ['ift-' || printf('%016x', hash((i + k) % 3200)) for k in range(8)] AS demonstration_ids, 'M0' AS generator, true AS kept,
    NULL::VARCHAR AS reason, NULL::VARCHAR AS nearest_id, 0.4::DOUBLE AS nearest_rouge_l, 0::BIGINT AS round,
    i::BIGINT AS seed
FROM range({n_prompts}) t(i)"""
CANDIDATES = """
SELECT 'c-' || printf('%016x', hash(i)) AS candidate_id, 1::BIGINT AS iteration,
    'p-' || printf('%016x', hash(i // 4)) AS prompt_id, (i % 4)::BIGINT AS sample, response,
    if(hash(i, 'f') % 50 = 0, 'length', 'stop') AS finish_reason, (length(response) // 4)::BIGINT AS n_tokens,
    length(response)::BIGINT AS n_chars, 'M1' AS model, i::BIGINT AS seed, NULL::VARCHAR AS error
FROM (SELECT i, array_to_string(list_slice([s(i, 1), s(i, 2), s(i, 3), s(i, 4), s(i, 5), s(i, 6), s(i, 7), s(i, 8)], 1,
          3 + (hash(i, 'n') % 6)::INT), ' ') AS response FROM range({n_candidates}) t(i))"""
JUDGEMENTS = """
SELECT 'j-' || printf('%016x', hash(i)) AS judgement_id, 1::BIGINT AS iteration,
    'p-' || printf('%016x', hash(i // 12)) AS prompt_id, 'c-' || printf('%016x', hash(i // 3)) AS candidate_id,
    (i % 3)::BIGINT AS sample, 'M1' AS judge, 'additive' AS template, 'sampled' AS judge_mode,
    s(i, 11) || ' ' || s(i, 12) || coalesce(chr(10) || 'Score: ' || score::INT, '') AS judgement, score,
    if(score IS NULL, 'no_score', 'ok') AS status, 'stop' AS finish_reason, 40::BIGINT AS n_tokens,
    1::BIGINT AS attempts, false AS injection_suspected, i::BIGINT AS seed
FROM (SELECT i, if(hash(i, 'u') % 33 = 0, NULL,
          (1 + (hash(i // 3, 'b') % 4) + (hash(i, 'e') % 3 = 0)::INT)::DOUBLE) AS score
      FROM range({n_judgements}) t(i))"""
PAIRS = """
SELECT 'pair-' || substr(chosen_id, 3) AS pair_id, 1::BIGINT AS iteration, p.prompt_id,
    [{{'role': 'user', 'content': p.prompt}}] AS prompt, [{{'role': 'assistant', 'content': a.response}}] AS chosen,
    [{{'role': 'assistant', 'content': b.response}}] AS rejected, chosen_id, rejected_id, c.score AS chosen_score,
    r.score AS rejected_score, c.score - r.score AS margin, 'max_min' AS rule
FROM picked JOIN prompts p USING (prompt_id) JOIN judged c ON c.candidate_id = chosen_id
JOIN judged r ON r.candidate_id = rejected_id JOIN candidates a ON a.candidate_id = chosen_id
JOIN candidates b ON b.candidate_id = rejected_id WHERE a.response <> b.response"""
IFT = """
SELECT 'ift-' || printf('%016x', hash(i)) AS ift_id, 'Tell me why ' || lower(s(i, 21)) || ' when ' || lower(s(i, 22))
    AS prompt, s(i, 23) || ' ' || s(i, 24) AS response, [{{'role': 'user', 'content': 'x'}}] AS messages, 'made' AS source,
    'seed' || i AS source_id, 0::BIGINT AS human_rank, 0.5::DOUBLE AS quality, 'en' AS lang
FROM range(3200) t(i)"""


EFT = """
SELECT 'eft-' || i AS eft_id, if(i // 2 % 4 = 0, 'eval', 'train') AS split, 'ep-' || (i // 2) AS prompt_id,
    printf('In case %x of list %x, which rule was broken?', hash(i // 2), hash(i // 2, 1)) AS prompt, 'r-' || i AS response_id,
    s(i, 33) || ' ' || s(i, 34) AS response, (i % 2)::BIGINT AS human_rank, 'Judge: ' || s(i, 33) AS judge_prompt,
    s(i, 35) || chr(10) || 'Score: 3' AS target, 3.0::DOUBLE AS target_score, true AS accepted,
    NULL::VARCHAR AS reason, 'made' AS source, 'seed' || i AS source_id
FROM range(2000) t(i)"""


def make_run(path: Path, n_candidates: int) -> None:
    """A published run of this size; the same rows every time."""
    from selfreward.builders.pairs import rule_text
    from selfreward.judging.scores import _SCORES
    from selfreward.sql.views import connect, read_stream
    from selfreward.store.run import Counts, Recipe, Run

    run = Run.create(path)
    connection = connect({"threads": THREADS, "memory_limit": "4GB", "temp_directory": str(path / ".spill")})
    subjects, verbs, objects = (
        connection.execute("SELECT $1::VARCHAR[]", [v]).fetchall()[0][0] for v in (SUBJECTS, VERBS, OBJECTS)
    )
    connection.execute(
        "CREATE MACRO s(i, k) AS ($S)[1 + (hash(i, k, 's') % len($S))::INT] || ' ' || ($V)[1 + (hash(i, k, 'v') % len($V))::INT]"
        " || ' ' || ($O)[1 + (hash(i, k, 'o') % len($O))::INT] || '.'".replace("$S", str(subjects))
        .replace("$V", str(verbs))
        .replace("$O", str(objects))
    )
    sizes = {
        "n_prompts": n_candidates // N_SAMPLES,
        "n_candidates": n_candidates,
        "n_judgements": n_candidates * N_JUDGEMENTS,
    }

    def publish(name: str, query: str, params: dict[str, Any]) -> None:
        recipe = Recipe(name, "benchmark 1", {}, {**params, **sizes})
        if run.find(recipe) is None:
            filled = query.format(**sizes)
            ((n_rows,),) = connection.execute(f"SELECT count(*) FROM ({filled})").fetchall()
            run.publish_table(recipe, read_stream(connection.sql(filled)), Counts(n_rows, n_rows))
        connection.register(name.rpartition("/")[2], run.current(name).table())

    publish("ift", IFT, {})
    publish("eft", EFT, {"prompts": "unlike the others"})
    publish("iter1/prompts", PROMPTS, {})
    publish("iter1/candidates", CANDIDATES, {"candidates": {"n": N_SAMPLES}})
    publish("iter1/judgements", JUDGEMENTS, {"judging": {"samples": N_JUDGEMENTS, "mode": "sampled"}})
    publish("iter1/scores", _SCORES, {})
    _make_eligible(connection)
    connection.execute(f"CREATE TABLE picked AS {rule_text('max_min')}")
    publish("iter1/pairs", PAIRS, {})


def _make_eligible(connection: Any) -> None:
    """What a pair rule chooses from, as the builder of pairs makes it with the default settings."""
    from selfreward.builders.pairs import _ELIGIBLE, _JUDGED

    connection.register("judged", connection.sql(_JUDGED, params={"min_scored": 1}).to_arrow_table())
    connection.register("eligible", connection.sql(_ELIGIBLE, params={"allow": False}).to_arrow_table())


def evaluation_file(folder: Path) -> Path:
    """The prompts of the embedded seeds as an evaluation set: real English, some hundreds of them."""
    seeds = Path(__file__).parents[1] / "builders" / "seeds"
    lines = [
        line
        for path in sorted(seeds.glob("*.jsonl"))
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    prompts = [{"prompt": json.loads(line)["prompt"]["text"]} for line in lines if line.strip()]
    path = folder / "embedded.jsonl"
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts), encoding="utf-8")
    return path


# -- what is measured, each in a process of its own --------------------------------------------------------------


def measure_audits(path: Path, against: Path) -> dict[str, Any]:
    """Every audit but near_duplicates, on all rows."""
    from selfreward.judging.audits.pack import load_pack
    from selfreward.judging.audits.runner import run_audits
    from selfreward.store.run import Run

    checks = [audit.name for audit in load_pack() if audit.name != "near_duplicates"]
    started = time.monotonic()
    report = run_audits(
        Run(path), checks=checks, against=[against], save=False, threads=THREADS, memory_limit="5GB"
    )
    results = {
        r.name: {"seconds": r.seconds, "verdict": r.verdict, "figure": r.figure, "reason": r.reason}
        for r in report.results
    }
    return {"seconds": time.monotonic() - started, "results": results, "notes": report.notes}


def measure_pairs(path: Path, against: Path) -> dict[str, Any]:
    """Pair selection: what may enter a pair, then the paper's rule; reading and verifying the datasets included."""
    from selfreward.builders.pairs import rule_text
    from selfreward.sql.views import OpenRun

    started = time.monotonic()
    with OpenRun(path, THREADS, "5GB") as run:
        run.load(["candidates", "scores"])
        loaded = time.monotonic() - started
        connection = run.bare_connection
        _make_eligible(connection)
        ((n_pairs,),) = connection.execute(f"SELECT count(*) FROM ({rule_text('max_min')})").fetchall()
    return {"seconds": time.monotonic() - started, "verify": loaded, "n_pairs": n_pairs}


def measure_pandas(path: Path, against: Path) -> dict[str, Any]:
    """The same figures as some of the audits, and pair selection, with pandas on the same verified tables."""
    import pandas as pd

    from selfreward.store.run import Run

    run = Run(path)

    def frame(name: str, columns: list[str]) -> pd.DataFrame:
        return run.current(f"iter1/{name}").table(columns).to_pandas()

    times: dict[str, float] = {}
    figures: dict[str, float] = {}

    def timed(name: str, function: Any) -> None:
        begun = time.monotonic()
        figures[name] = float(function())
        times[name] = time.monotonic() - begun

    started = time.monotonic()
    prompts = frame("prompts", ["prompt_id"])
    candidates = frame(
        "candidates", ["candidate_id", "prompt_id", "sample", "n_chars", "finish_reason", "response"]
    )
    judgements = frame("judgements", ["judgement_id", "candidate_id", "score"])
    scores = frame(
        "scores", ["candidate_id", "prompt_id", "score", "score_variance", "n_judgements", "n_scored"]
    )
    times["reading"] = time.monotonic() - started
    timed("keys_unique", lambda: judgements.judgement_id.duplicated().sum() + candidates.candidate_id.duplicated().sum()
          + prompts.prompt_id.duplicated().sum() + scores.candidate_id.duplicated().sum())  # fmt: skip
    timed("references_resolve", lambda: (~judgements.candidate_id.isin(candidates.candidate_id)).sum()
          + (~candidates.prompt_id.isin(prompts.prompt_id)).sum() + (~scores.candidate_id.isin(candidates.candidate_id)).sum())  # fmt: skip

    def recomputed() -> int:
        again = judgements.groupby("candidate_id").score.agg(["mean", "size", "count"])
        joined = scores.set_index("candidate_id").join(again)
        wrong = (joined["size"] != joined.n_judgements) | (joined["count"] != joined.n_scored)
        return (wrong | ((joined["mean"] - joined.score).abs() > 1e-9)).sum()

    timed("scores_match_judgements", recomputed)
    timed("unscored_judgements", lambda: judgements.score.isna().mean())
    timed("modal_score", lambda: judgements.score.value_counts(normalize=True).max())

    def tied() -> float:
        group = scores.groupby("prompt_id").score.agg(["min", "max", "count"])
        group = group[group["count"] > 1]
        return (group["min"] == group["max"]).mean()

    timed("tied_prompts", tied)
    timed(
        "score_follows_length",
        lambda: abs(
            scores.merge(candidates[["candidate_id", "n_chars"]], on="candidate_id")[["score", "n_chars"]]
            .corr("spearman")
            .iloc[0, 1]
        ),
    )
    timed("repeated_answers", lambda: candidates.response.duplicated(keep=False).mean())

    def pick() -> int:
        eligible = candidates[(candidates.finish_reason == "stop")][["candidate_id", "prompt_id", "sample"]]
        eligible = eligible.merge(
            scores[["candidate_id", "score", "score_variance"]].dropna(), on="candidate_id"
        )
        best = eligible.sort_values(
            ["score", "score_variance", "sample"], ascending=[False, True, True]
        ).drop_duplicates("prompt_id")
        worst = eligible.sort_values(["score", "score_variance", "sample"]).drop_duplicates("prompt_id")
        pairs = best.merge(worst, on="prompt_id")
        return (pairs.score_x > pairs.score_y).sum()

    timed("pairs", pick)
    return {"seconds": time.monotonic() - started, "times": times, "figures": figures}


MEASURES = {"audits": measure_audits, "pairs": measure_pairs, "pandas": measure_pandas}


def watched(measure: str, path: Path, against: Path) -> dict[str, Any]:
    """Run one measurement while a thread looks at this process's memory ten times a second."""
    peak = {"RssAnon": 0, "RssFile": 0}

    def look() -> None:
        while True:
            for line in Path("/proc/self/status").read_text().splitlines():
                name, _, value = line.partition(":")
                if name in peak:
                    peak[name] = max(peak[name], int(value.split()[0]))
            time.sleep(0.1)

    threading.Thread(target=look, daemon=True).start()
    result = MEASURES[measure](path, against)
    result["cpu_seconds"] = time.process_time()
    return {**result, "peak_gib": peak["RssAnon"] / 2**20, "mapped_gib": peak["RssFile"] / 2**20}


def in_own_process(measure: str, path: Path, against: Path) -> dict[str, Any]:
    """The measurement's result, from a fresh interpreter."""
    command = [sys.executable, __file__, "--measure", measure, str(path), str(against)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        return {"failed": done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


# -- the report --------------------------------------------------------------------------------------------------


def report_size(n_candidates: int, found: dict[str, dict[str, Any]]) -> None:
    """One size: DuckDB beside pandas, then the slowest audits."""
    audits, pairs, frames = found["audits"], found["pairs"], found["pandas"]
    print(f"\n{n_candidates:,} candidates, {n_candidates * N_JUDGEMENTS:,} judgements")
    for name, part in found.items():
        if "failed" in part:
            print(f"  {name}: failed: {part['failed']}")
            return
    lines = {
        "whole pack but near_duplicates": audits,
        f"pair selection ({pairs['n_pairs']:,} pairs)": pairs,
        "pandas, the rows below": frames,
    }
    print(f"  {'':34}{'wall s':>8}{'CPU s':>8}{'GiB':>7}{'and mapped':>12}")
    for what, part in lines.items():
        figures = (part["seconds"], part["cpu_seconds"], part["peak_gib"], part["mapped_gib"])
        print(f"  {what:34}{figures[0]:8.1f}{figures[1]:8.1f}{figures[2]:7.2f}{figures[3]:12.2f}")
    print(f"\n  {'check':28}{'DuckDB s':>9}{'pandas s':>9}   figures (must agree)")
    for name, seconds in frames["times"].items():
        if name in audits["results"]:
            ours, theirs = audits["results"][name], frames["figures"][name]
            print(f"  {name:28}{ours['seconds']:9.2f}{seconds:9.2f}   {ours['figure']:.6g} {theirs:.6g}")
    print(f"  {'pair selection':28}{pairs['seconds'] - pairs['verify']:9.2f}{frames['times']['pairs']:9.2f}"
          f"   {pairs['n_pairs']} {frames['figures']['pairs']:.0f}")  # fmt: skip
    slowest = sorted(audits["results"].items(), key=lambda entry: -entry[1]["seconds"])
    print("\n  slowest: " + ", ".join(f"{name} {result['seconds']:.1f}" for name, result in slowest[:12]))
    odd = [
        f"{n} ({r['verdict']}: {r['reason']})"
        for n, r in audits["results"].items()
        if r["verdict"] in ("error", "skipped")
    ]
    print("  not measured: " + "; ".join(odd))
    print("  " + "\n  ".join(audits["notes"]))


def main() -> None:
    """Sizes one after the other, then how the time grew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--candidates", type=int, nargs="+", default=[200_000])
    parser.add_argument("--keep", type=Path, help="keep the generated runs in this folder and use them again")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure, path, against = options.measure
        print(json.dumps(watched(measure, Path(path), Path(against))))
        return
    growth = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        against = evaluation_file(folder)
        for n_candidates in options.candidates:
            path = folder / f"run-{n_candidates}"
            make_run(path, n_candidates)
            found = {measure: in_own_process(measure, path, against) for measure in MEASURES}
            report_size(n_candidates, found)
            growth.append((n_candidates, *(found[m].get("seconds", float("nan")) for m in MEASURES)))
    print(
        f"\nload average {os.getloadavg()[0]:.1f}; how the wall time grows (seconds)\n  candidates    audits     pairs    pandas"
    )
    for n_candidates, *seconds in growth:
        print(f"  {n_candidates:10,}" + "".join(f"{s:10.1f}" for s in seconds))


if __name__ == "__main__":
    main()
