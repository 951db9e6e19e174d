"""What the documentation says to type works: every page's Python runs, its commands are parsed.

A page's ``python`` blocks run in order, in one namespace and one folder, on a database of the
page's own; ``model`` is there already. A block with a file's name after its language is that file.
One marked ``no-run`` is only compiled, and the page says why.
"""

from __future__ import annotations

import re
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from a2rchi_pg import Database, PostgresVectorStore
from a2rchi_pg._filters import OPERATORS
from a2rchi_pg._local_key import generate_key
from a2rchi_pg.database import DSN_VARIABLE
from a2rchi_pg.keyring import KEY_VARIABLE
from docs import schema
from tests.plugins.stores import WordModel

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
BLOCK = re.compile(r"(?ms)^```(\w+)(?: ([^\n]*))?\n(.*?)^```$")
ASSIGNMENT = re.compile(r"""\w+=("[^"]*"|'[^']*'|\S*)""")
TARGET = re.compile(r"(?m)(?:^|`)make ([a-z-]+)")
COMMAND = re.compile(r"python -m (a2rchi_pg[.\w]*)")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")
# In place of the program, so that a shell takes each command apart and none is run.
RECORDER = """python() { printf '%s\\0' "$@" >> calls; printf '\\n' >> calls; }\n"""


class Block(NamedTuple):
    language: str
    info: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(found[1], found[2] or "", found[3], text.count("\n", 0, found.start(3)))
        for found in BLOCK.finditer(text)
    ]


@pytest.fixture
def folder(dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader might type along, with a database and a key of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(DSN_VARIABLE, dsn)
    monkeypatch.setenv(KEY_VARIABLE, generate_key())
    return tmp_path


@pytest.mark.servers("embedded")
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_python_runs(page: Path, dsn: str, folder: Path):
    """The README's own embedded server is started in test_packaging."""
    names: dict[str, Any] = {"__name__": "__main__", "model": WordModel()}
    for block in blocks(page):
        if "." in block.info:
            file = folder / block.info
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.code)
    try:
        for block in blocks(page):
            if block.language == "python":
                code = block.code.replace('Database.embedded("./pgdata")', "Database()")
                code = code.replace("postgresql://localhost/rag", dsn)
                compiled = compile("\n" * block.line + code, str(page), "exec")
                if block.info != "no-run":
                    exec(compiled, names)  # noqa: S102 - our own pages
    finally:
        close(names)


def close(names: dict[str, Any]) -> None:
    for value in names.values():
        opened = value.database if isinstance(value, PostgresVectorStore) else value
        if isinstance(opened, Database):
            opened.close()


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_are_understood(page: Path, tmp_path: Path):
    for module, *arguments in calls(page, tmp_path):
        # Raises SystemExit, having said on stderr what it doesn't know.
        import_module(parser_of(module)).parser().parse_args(arguments)


def parser_of(module: str) -> str:
    return f"{module}.__main__" if (ROOT / module.replace(".", "/")).is_dir() else module


def calls(page: Path, folder: Path) -> Iterator[list[str]]:
    """Our commands on a page, each as its module and its arguments."""
    for block in blocks(page):
        if block.language == "sh":
            lines = block.code.replace("\\\n", " ").splitlines()
            ours = [line for line in lines if COMMAND.search(line) or ASSIGNMENT.fullmatch(line)]
            shell = ["/bin/sh", "-euc", "\n".join([RECORDER, *ours])]
            subprocess.run(shell, cwd=folder, env={"PATH": "/nowhere"}, timeout=10, check=True)
    recorded = folder / "calls"
    for line in recorded.read_text().split("\0\n") if recorded.exists() else []:
        if line:
            _, *rest = line.split("\0")
            yield rest


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_lead_somewhere(page: Path):
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


@pytest.mark.servers("embedded")
@pytest.mark.owner
def test_the_schema_page_says_what_the_schema_says(dsn: str):
    assert schema.PAGE.read_text() == schema.page(dsn), "run `make schema-docs`"
    assert "None" not in schema.PAGE.read_text(), "every table, view and function has a comment"


def test_the_table_of_operators_is_whole():
    page = (ROOT / "docs/search.md").read_text()
    assert [name for name in (*OPERATORS, "$and", "$or", "$not") if name not in page] == []


def test_the_index_names_every_page():
    index = (ROOT / "docs/README.md").read_text()
    pages = [page.name for page in PAGES if page.name != "README.md"]
    assert [name for name in pages if f"({name})" not in index] == []


def test_make_has_what_is_said_of_it():
    asked = {target for page in PAGES for target in TARGET.findall(page.read_text())}
    has = re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text())
    assert asked <= set(has)


def test_the_readme_fits_on_a_few_screens():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
