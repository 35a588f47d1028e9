"""The hub's token as a Prefect Secret block, for runs whose worker has none in its environment."""

from __future__ import annotations

from dataclasses import replace

from prefect.blocks.system import Secret

from flows.settings import Settings

BLOCK = "hf-token"


def with_token(settings: Settings) -> Settings:
    """Return the settings with the token of the Secret block, where the environment has none."""
    return settings if settings.hub_token else replace(settings, hub_token=hub_token())


def hub_token() -> str | None:
    """Return the token in the Secret block "hf-token"; None where there is no such block, or no server."""
    try:
        block = Secret.load(BLOCK)
    except Exception:  # noqa: BLE001  # Prefect raises ValueError, HTTP errors and more; no token is no error
        return None
    text = block.get() if isinstance(block, Secret) else None
    return text.strip() or None if isinstance(text, str) else None
