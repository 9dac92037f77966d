"""Where Dagster keeps its state, as the environment says: the only reader of these variables."""

import os
from pathlib import Path

from embed_assets.errors import SettingsError

_POSTGRES = "postgresql+psycopg2://"


def dagster_home() -> Path | None:
    """DAGSTER_HOME from the environment, or None where it is not set."""
    value = os.environ.get("DAGSTER_HOME")
    return Path(value).expanduser() if value else None


def uses_postgres() -> bool:
    """Whether Dagster's state is to be kept in the database that DAGSTER_POSTGRES_URL names.

    Raises SettingsError where the URL names another driver than the one that Dagster brings.
    """
    url = os.environ.get("DAGSTER_POSTGRES_URL", "")
    if url and not url.startswith(_POSTGRES):
        # Not the URL itself: it holds a password.
        raise SettingsError(
            f"DAGSTER_POSTGRES_URL starts with {url.split('://')[0][:20]!r}; write "
            f"{_POSTGRES}USER:PASSWORD@HOST:5432/DATABASE"
        )
    return bool(url)
