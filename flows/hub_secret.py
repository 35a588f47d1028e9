"""Secrets as Prefect Secret blocks, for runs whose worker has none in its environment.

hf-token         the hub's token
gateway-token    what clients of the gateway must send
venice-api-key   a provider's key: the name of its variable (VENICE_API_KEY), in the way blocks are named
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client

from flows.settings import Settings
from flows.settings_keys import CLOUD_KEYS, digest_of, usable_keys
from tasks.errors import SettingsError

BLOCK = "hf-token"
GATEWAY = "gateway-token"


def with_secrets(settings: Settings) -> Settings:
    """Return the settings with what Secret blocks hold, where the environment has none.

    Raises:
        SettingsError: a block cannot be read, or the gateway's token is none that could be sent or kept from
            guessing.
    """
    gateway = settings.gateway
    there = {name for name, _ in gateway.keys}
    missing = [name for name in CLOUD_KEYS.values() if name not in there]
    blocks = {block_of(name): name for name in missing}
    if not settings.hub_token:
        blocks[BLOCK] = BLOCK
    if not gateway.token_sha256:
        blocks[GATEWAY] = GATEWAY
    found = {blocks[block]: value for block, value in loaded(blocks).items()}
    token, own = found.pop(BLOCK, None), found.pop(GATEWAY, "")
    keys, bad = usable_keys(found)
    return replace(
        settings,
        hub_token=settings.hub_token or token,
        gateway=replace(
            gateway,
            token_sha256=gateway.token_sha256 or digest_of(own),
            keys=(*gateway.keys, *keys),
            bad_keys=(*gateway.bad_keys, *bad),
        ),
    )


def block_of(variable: str) -> str:
    """Return how the Secret block of a variable is called."""
    return variable.lower().replace("_", "-")


def secret_values(names: Iterable[str]) -> dict[str, str]:
    """Return the values of variables that have a Secret block."""
    blocks = {block_of(name): name for name in names}
    return {blocks[block]: value for block, value in loaded(blocks).items()}


def loaded(blocks: Iterable[str]) -> dict[str, str]:
    """Return what the Secret blocks of these names hold; nothing of those that are not there.

    Without a server there are none. One question tells which there are, for each that is missing costs one.

    Raises:
        SettingsError: a block is there and cannot be read: to go on without a token or a key that somebody
            set would open the gateway, or take a cloud out of it.
    """
    wanted = set(blocks)
    try:
        with get_client(sync_client=True) as client:
            found = client.read_block_documents_by_type("secret", include_secrets=False)
    except Exception:  # noqa: BLE001  # Prefect raises ValueError, HTTP errors and more: no server, no blocks
        return {}
    there = [one.name for one in found if one.name in wanted]
    values = {name: _value(name) for name in there if name is not None}
    return {name: value for name, value in values.items() if value}


def _value(name: str) -> str:
    try:
        block = Secret.load(name)
        value = block.get() if isinstance(block, Secret) else None
    except Exception as error:  # noqa: BLE001  # the same, and what it says may quote the secret
        raise SettingsError(
            f"the Prefect Secret block {name} is there and cannot be read ({type(error).__name__})",
            "nothing was changed",
            "write it again in the Prefect UI, or remove it",
        ) from None
    return value.strip() if isinstance(value, str) else ""
