"""What `ray:` decides before there is a cluster: options, parcels, what is missing. Needs no Ray."""

from __future__ import annotations

import doctest

import pytest
from word_model import make_word_model

from selfreward.config.run import EngineConfig
from selfreward.engines.base import Completion, EngineOptions, Request, Sampling
from selfreward.engines.ray import actor as ray_actor
from selfreward.engines.ray import engine as ray
from selfreward.engines.ray.actor import pack_answers, pack_requests, unpack_answers, unpack_requests
from selfreward.engines.ray.cluster import cluster_settings
from selfreward.engines.ray.engine import RayEngine
from selfreward.engines.registry import _concerning
from selfreward.errors import ConfigError, EngineError
from selfreward.tables import Message


@pytest.mark.parametrize("module", [ray, ray_actor], ids=["ray", "ray_actor"])
def test_the_examples_in_docstrings_hold(module):
    results = doctest.testmod(module)
    assert results.attempted
    assert not results.failed


def test_requests_arrive_as_they_were_sent():
    """Also text that no other encoding carries: a lone surrogate, a null byte, what looks like JSON."""
    messages = (Message("system", "\ud800"), Message("user", 'a\x00 {"b": [1]} é'))
    wanted = [
        (Request("x", messages, Sampling(0.25, 0.5, 7, (",", "\n")), 4, 2**62, "Score:", (" 1",)), (1, 3)),
        (Request("y", messages[:1], Sampling()), (0,)),
    ]
    assert unpack_requests(pack_requests(wanted)) == wanted


def test_answers_arrive_as_they_were_sent():
    group = [
        Completion("x", 1, "\ud800 é", "length", 7, 9, 2**62, None, {" 1": -0.1, " 2": float("-inf")}),
        Completion("x", 3, "", "error", 0, error="too long"),
    ]
    assert unpack_answers(pack_answers([group])) == [group]


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ({"actor": 2}, r"engine\.extra\.ray\.actor: .*knows address, actors"),
        ({"actors": 0}, r"engine\.extra\.ray\.actors: .*greater than or equal to 1"),
        ({"num_gpus": "all"}, r"engine\.extra\.ray\.num_gpus: .*valid number"),
    ],
    ids=["unknown", "no-actors", "no-number"],
)
def test_wrong_settings_are_named(section, said):
    with pytest.raises(ConfigError, match=said):
        cluster_settings({"ray": section})


def test_where_it_runs_is_not_part_of_a_datasets_key():
    one = EngineConfig(extra={"tensor_parallel_size": 2, "ray": {"actors": 2}})
    other = EngineConfig(extra={"tensor_parallel_size": 2, "ray": {"address": "head:6379"}})
    assert one.keyed() == other.keyed()
    assert one.keyed()["extra"] == {"tensor_parallel_size": 2}


def test_an_engine_does_not_see_what_is_about_another():
    """So that changing the model string alone goes from one machine to a cluster and back."""
    extra = {"tensor_parallel_size": 2, "ray": {"actors": 2}, "openai": {"prefix": True}, "max_cost": 1}
    assert _concerning("vllm", extra) == {"tensor_parallel_size": 2}
    assert _concerning("ray", extra) == {"tensor_parallel_size": 2, "ray": {"actors": 2}}
    assert _concerning("openai", extra).keys() == {"tensor_parallel_size", "openai", "max_cost"}


def test_a_missing_ray_names_the_extra_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("selfreward.engines.ray.engine.find_spec", lambda name: None)
    with pytest.raises(EngineError, match=r"pip install 'selfreward\[vllm,ray\]'"):
        RayEngine(str(make_word_model(tmp_path)), EngineOptions())
