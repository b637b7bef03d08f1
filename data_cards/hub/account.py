"""The Hub account: the client, its token, and the token's permissions.

The token comes from the standard place (`HF_TOKEN`, the login file) and only the client reads it: this
module does not store it, and no message shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from selfreward.data_cards.cards.redact import public_endpoint
from selfreward.data_cards.hub.failures import HubError, Patience
from selfreward.data_cards.hub.repo import HubRepo
from selfreward.errors import UsageError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SILENCE_S = 300.0
"""Timeout for an unresponsive server; the client alone would wait forever."""


def connect(endpoint: str | None = None) -> HfApi:
    """The Hub's client. Raises UsageError if `HF_ENDPOINT` is not an address."""
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, library_name="selfreward")
    if not api.endpoint.startswith(("http://", "https://")):
        raise UsageError(
            f"HF_ENDPOINT {public_endpoint(api.endpoint)!r}: expected an address such as https://huggingface.co"
        )
    return api


def require_writer(api: HfApi, repo_id: str, patience: Patience) -> str:
    """The token's user. Raises HubError without a token, or if it may not write to the namespace."""
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(
            "no Hugging Face token found; set HF_TOKEN or log in with `hf auth login`; nothing was sent"
        )
    repo = HubRepo(api, repo_id, "dataset", patience)
    account = repo.patiently("asking who you are", api.whoami)
    namespace = repo_id.split("/")[0]
    name = str(account.get("name"))
    organisations = {str(org.get("name")) for org in account.get("orgs", [])}
    if namespace not in {name, *organisations}:
        mine = ", ".join([name, *sorted(organisations)])
        raise HubError(f"--repo {repo_id}: you are {name}, who may publish to {mine}; nothing was sent")
    # fine-grained tokens have other roles; only the Hub can say what they allow
    role = account.get("auth", {}).get("accessToken", {}).get("role")
    if role == "read":
        raise HubError(
            f"--repo {repo_id}: your token can only read; make one with write access at "
            "huggingface.co/settings/tokens and log in again; nothing was sent"
        )
    return name


def limit_silence() -> None:
    """Make the client time out on unresponsive servers. Process-wide, so only the commands call it."""
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    # the client has no option for a timeout, only for the factory of its sessions
    def impatient_client() -> Any:
        client = default_client_factory()
        client.timeout = SILENCE_S
        return client

    set_client_factory(impatient_client)
