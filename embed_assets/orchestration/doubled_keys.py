"""A key that stands twice in a YAML file: Dagster, as PyYAML, takes the last without a word."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from embed_assets.errors import SettingsError


def refuse_doubled_keys(file: Path) -> None:
    """Raise SettingsError with file, line and key if a mapping has a key twice (YAML 1.2, 3.2.1.3
    forbids it).
    """
    with file.open(encoding="utf-8") as text:
        for document in yaml.compose_all(text, Loader=yaml.SafeLoader):
            for key, first, again in _doubled(document):
                raise SettingsError(
                    f"{file}:{again}: {key} stands here and in line {first}; keep one of them"
                )


def _doubled(node: yaml.Node | None) -> Iterator[tuple[str, int, int]]:
    """(key, line, later line) of keys that stand twice in a mapping, at any depth."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _doubled(item)
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    yield key.value, lines[key.value], line
                lines[key.value] = line
            yield from _doubled(value)
