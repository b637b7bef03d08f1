"""Which kinds of malicious or broken input are tried, where, and how many cases that is."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
RUN, HUB = "store/test_foreign_run.py", "data_cards/test_foreign_hub.py"
SQL, MODELS = "store/test_foreign_sql.py", "store/test_foreign_models.py"
SECRETS, SERVER = "selfreward/test_secrets.py", "engines/test_openai_engine.py"
TEXT, TEMPLATES = "selfreward/test_text.py", "judging/test_templates.py"
EXCHANGE, QUERIES = "reading/test_exchange.py", "sql/test_sql.py"

KINDS = {
    "a version or file of a repository that leads out of the run": (
        HUB, "test_a_run_file_that_selfreward_never_wrote_is_refused"),
    "names of a model's files": (HUB, "test_a_model_holds_weights_and_settings_by_plain_names"),
    "SQL in the name of a version": (RUN, "test_a_sealed_run_json_that_selfreward_never_wrote_is_refused"),
    "SQL in the name of a column": (SQL, "test_diff_compares_columns_of_any_name"),
    "SQL in the name of a key": (SQL, "test_diff_matches_by_a_key_of_any_name"),
    "files and network from SQL": (SQL, "test_a_connection_of_ours_reaches_no_file_and_cannot_be_opened"),
    "links in a run folder": (RUN, "test_a_link_in_a_run_folder_is_refused_before_anything_follows_it"),
    "links where a pull would write": (HUB, "test_a_folder_with_links_is_not_pulled_into"),
    "two columns of one name": (QUERIES, "test_columns_of_one_name_keep_their_values"),
    "a list that would become letters": (
        EXCHANGE, "test_what_was_exported_is_imported_with_the_same_content_hash"),
    "a server that echoes the key": (SERVER, "test_a_servers_echo_of_the_key_reaches_no_row_and_no_journal"),
    "a key for another host": (SERVER, "test_each_server_gets_the_key_that_is_for_it"),
    "a host without encryption": (SERVER, "test_another_machine_is_asked_without_encryption_only_with_the_users_word"),
    "a configuration that reaches out": (SECRETS, "test_whatever_a_strangers_configuration_reaches_is_asked_about"),
    "secrets of a configuration": (SECRETS, "test_nothing_private_of_a_configuration_is_published"),
    "secrets in rows": (SECRETS, "test_a_secret_in_rows_stops_the_push_and_the_dataset_is_named"),
    "an answer that cannot be": (SERVER, "test_an_answer_that_cannot_be_is_a_row_with_its_reason"),
    "a pair rule that does more than select": (SQL, "test_a_rule_is_one_select_that_keeps_its_contract"),
    "Arrow bytes": (RUN, "test_arrow_bytes_are_looked_at_before_anybody_computes_with_them"),
    "Parquet bytes": (HUB, "test_a_file_that_is_no_parquet_is_refused"),
    "weights outside a model's hash": (MODELS, "test_weights_that_lie_elsewhere_or_are_not_hashed_are_refused"),
    "pickles": (MODELS, "test_a_pickle_is_refused_unless_safetensors_lie_beside_it"),
    "attention kernels from elsewhere": (MODELS, "test_an_attention_kernel_from_elsewhere_is_refused"),
    "an emptied dataset": (SQL, "test_an_emptied_dataset_does_not_pass"),
    "rows of another iteration": (SQL, "test_rows_of_another_iteration_do_not_pass_and_sql_goes_by_the_name"),
    "an answer that unpacks to much": (SERVER, "test_more_than_was_asked_for_is_not_read"),
    "a repository that unpacks to much": (HUB, "test_a_small_file_of_much_is_stopped_while_it_is_unpacked"),
    "a manifest of something else": (HUB, "test_a_manifest_of_something_else_is_refused"),
    "rows that are not the published ones": (HUB, "test_rows_that_are_not_the_published_ones_are_refused"),
    "a model that is not what its manifest says": (
        HUB, "test_a_model_that_is_not_what_its_manifest_says_is_refused"),
    "a full disk": (RUN, "test_gc_makes_room_on_a_full_disk"),
    "a run that cannot be written to": (SQL, "test_a_run_that_cannot_be_written_to_is_audited_all_the_same"),
    "an audit that breaks": (SQL, "test_one_broken_audit_is_an_error_of_its_own_and_hides_no_other"),
    "a chat template that raises": (SQL, "test_a_template_that_raises_is_a_reason_to_skip"),
    "control and bidirectional characters": (TEXT, "test_rows_in_a_terminal_are_safe"),
    "names of datasets": (RUN, "test_what_is_no_name_of_a_dataset_is_refused"),
    "cells of another type, NaN": (EXCHANGE, "test_a_bad_file_is_one_sentence_and_nothing_is_published"),
    "a judge template that computes or loops": (
        TEMPLATES, "test_a_template_that_computes_loops_or_fails_is_refused_in_one_sentence"),
    "a sealed manifest of another shape": (
        RUN, "test_a_sealed_manifest_that_selfreward_never_wrote_is_found_by_verify_and_read_by_nobody"),
    "a query with a huge result": (QUERIES, "test_a_table_does_not_fetch_the_rows_that_it_does_not_show"),
    "files of a killed writer": (RUN, "test_what_a_killed_writer_left_beside_a_file_goes_when_the_file_is_written_again"),
    "formulas for a spreadsheet": (
        QUERIES, "test_csv_for_spreadsheets_has_no_formulas_and_other_csv_is_as_it_is"),
    "a record of what was published": (HUB, "test_a_record_of_what_was_published_that_nobody_wrote_is_refused"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cases():
    """How many cases each test function has."""
    files = sorted({file for file, _ in KINDS.values()})
    command = [sys.executable, "-m", "pytest", "--collect-only", *(str(TESTS / file) for file in files)]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=TESTS.parent)
    assert found.returncode == 0, found.stdout[-2000:]
    lines = [line.partition("tests/")[2] for line in found.stdout.splitlines() if "::" in line]
    return Counter(tuple(line.partition("[")[0].split("::")) for line in lines)


def test_every_kind_of_malicious_input_is_tried(cases):
    assert {kind: test for kind, test in KINDS.items() if not cases[test]} == {}


def test_there_are_150_cases_and_more(cases):
    counted = {kind: cases[test] for kind, test in KINDS.items()}
    print("\n".join(f"{n:4d}  {kind}" for kind, n in counted.items()))
    assert sum(counted.values()) >= 150
