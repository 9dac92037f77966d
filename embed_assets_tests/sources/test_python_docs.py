"""The bundled corpus: language topics and standard library docstrings, parsed and never run."""

from pathlib import Path
from textwrap import dedent

import pytest

from embed_assets.digests import digest
from embed_assets.shards import Piece
from embed_assets.sources.docstrings import module_markdown
from embed_assets.sources.python_docs import PythonDocsSource
from embed_assets.sources.source import Document, Rejection

MODULE = dedent(
    '''
    """What the module is for."""

    class Shape(Base, metaclass=Meta):
        """A shape."""

        def area(self, *, unit: str = "m") -> float:
            """Its area."""

        def silent(self): ...

        class Corner:
            """A corner."""

    class Quiet:
        async def wait(self, seconds=1, *rest, **options):
            """Wait a little."""

    if True:
        def draw(shape, /, colour=None):
            """Draw it.

            At once.
            """
            def inner():
                """Not of interest."""
    '''
).encode()


def test_docstrings_become_markdown_in_source_order() -> None:
    assert module_markdown("pkg.shapes", MODULE) == dedent(
        """\
        # pkg.shapes

        What the module is for.

        ## class Shape(Base)

        A shape.

        ### Shape.area(self, *, unit: str='m')

        Its area.

        ## class Shape.Corner

        A corner.

        ### Quiet.wait(self, seconds=1, *rest, **options)

        Wait a little.

        ## function draw(shape, /, colour=None)

        Draw it.

        At once.
        """
    )


@pytest.fixture
def stdlib(tmp_path: Path) -> Path:
    for name in (
        "json/__init__.py",
        "json/tool.py",
        "json/tests/test_tool.py",
        "test/support.py",
        "site-packages/other.py",
        "config-3.11-x86_64/makesetup.py",
        "idlelib/idle_test/test_x.py",
        "__pycache__/x.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('"""Docstring with a lone \\ud800 surrogate."""')
    (tmp_path / "bare.py").write_text("raise SystemExit")
    (tmp_path / "broken.py").write_text("def (")
    (tmp_path / "data.txt").write_text("no module")
    return tmp_path


def test_modules_are_listed_without_tests_and_foreign_packages(stdlib: Path) -> None:
    sources = [file.source for file in PythonDocsSource(stdlib).files().files]
    assert [source for source in sources if source.startswith("stdlib/")] == [
        "stdlib/bare.py",
        "stdlib/broken.py",
        "stdlib/json/__init__.py",
        "stdlib/json/tool.py",
    ]


def test_every_module_is_a_document_or_says_why_not(stdlib: Path) -> None:
    source = PythonDocsSource(stdlib)
    items = {
        file.source.removeprefix("stdlib/"): item
        for file in source.files().files
        if file.source.startswith("stdlib/")
        for item in source.read(source.pieces(file, 1)[0])
    }
    package, bare, broken = items["json/__init__.py"], items["bare.py"], items["broken.py"]
    assert isinstance(package, Document)
    assert package.title == "json"
    assert package.text == "# json\n\nDocstring with a lone \ufffd surrogate.\n"
    assert package.doc_id == digest("stdlib/json/__init__.py", 0)
    assert isinstance(bare, Rejection)
    assert bare.reason == "no docstrings"
    assert isinstance(broken, Rejection)
    assert broken.reason == "not parseable"


def test_topics_are_documents_titled_by_their_name(stdlib: Path) -> None:
    source = PythonDocsSource(stdlib)
    file = next(file for file in source.files().files if file.source == "topics/for.rst")
    [item] = source.read(source.pieces(file, 1)[0])
    assert isinstance(item, Document)
    assert item.title == "for"
    assert "iterate over the elements of a sequence" in item.text
    assert file.n_bytes == len(item.text.encode())


def test_this_pythons_own_library_is_found() -> None:
    sources = {file.source for file in PythonDocsSource().files().files}
    assert {"stdlib/json/decoder.py", "stdlib/asyncio/base_events.py", "topics/for.rst"} <= sources
    assert not [source for source in sources if "/test/" in source or "site-packages" in source]


def test_a_python_without_a_library_folder_still_has_topics(tmp_path: Path) -> None:
    files = PythonDocsSource(tmp_path / "python.zip").files().files
    assert files
    assert all(file.source.startswith("topics/") for file in files)


@pytest.mark.parametrize("source", ["stdlib/../secret.py", "stdlib/gone.py", "topics/no.rst"])
def test_a_source_that_is_not_there_is_rejected(stdlib: Path, source: str) -> None:
    (stdlib.parent / "secret.py").write_text('"""Secret."""')
    [item] = PythonDocsSource(stdlib).read(Piece(source, 0, 1, 1, "v"))
    assert isinstance(item, Rejection)
