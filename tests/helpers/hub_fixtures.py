"""Fixtures around the Hub on loopback: the real client, without Xet, without real waiting, with the canary token."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
from hub_server import TOKEN, HubServer

from selfreward.data_cards.hub.failures import Patience


@pytest.fixture(autouse=True)
def client(monkeypatch, tmp_path):
    """The client as a user's shell sets it up; `client.waits` are the seconds it would have waited."""
    from huggingface_hub import constants
    from huggingface_hub.utils import _http, disable_progress_bars

    waits: list[float] = []
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login-file"))
    monkeypatch.setattr(
        _http, "time", SimpleNamespace(sleep=waits.append, time=time.time, monotonic=time.monotonic)
    )
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    disable_progress_bars()
    return SimpleNamespace(waits=waits)


@pytest.fixture
def hub():
    """A fresh Hub."""
    with HubServer() as server:
        yield server


@pytest.fixture
def patience():
    """Waits are written down in `patience.slept` and not waited."""
    return Patience(sleep=lambda seconds: None)
