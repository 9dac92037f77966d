"""Where Dagster's state is, by the environment."""

from pathlib import Path

import pytest

from embed_assets.orchestration.environment import dagster_home


def test_dagster_home_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DAGSTER_HOME", "/srv/dagster")
    assert dagster_home() == Path("/srv/dagster")
    monkeypatch.delenv("DAGSTER_HOME")
    assert dagster_home() is None
