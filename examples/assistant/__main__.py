"""Ask a folder, in the browser: everything runs on this machine, nothing is downloaded.

make assistant                    Python's own documentation
make assistant FOLDER=~/docs      your own: Markdown, text, HTML, CSV, JSON, PDF, DOCX
"""

from __future__ import annotations

import argparse
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from rich.console import Console

from a2rchi_pg import A2rchiError, Database, EmbeddedPostgres, KeyRing, LocalKey
from a2rchi_pg.vectorstore import PostgresVectorStore
from examples.assistant.app import create_app
from examples.assistant.chat_models import maker, with_keys
from examples.assistant.library import COLLECTION, ingested, python_documentation
from examples.local_model import digest

if TYPE_CHECKING:
    from a2rchi_pg import IngestProgress

DATA = Path(__file__).resolve().parents[2] / ".cache" / "assistant"  # which git ignores
console = Console(markup=False, highlight=False)


def main() -> None:
    """Bring the folder into the database, then serve until somebody presses Ctrl-C."""
    given = arguments()
    folder = given.folder or python_documentation(given.data / "python")
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        sys.exit(f"There is no folder {folder}.")
    home = given.data / digest(str(folder))
    home.mkdir(parents=True, exist_ok=True)
    make = maker(given.model) if given.model else None  # first, as it may not be installed
    try:
        with EmbeddedPostgres(home / "server"):  # one server for both
            with Database.embedded(home / "server") as database:
                model, report = ingested(database, folder, home, progress=show)
            for name, reason in report.failed.items():
                console.print(f"Left out: {name}: {reason}", style="yellow")
            documents = report.added + report.updated + report.unchanged
            console.print(f"{documents:,} documents of {folder}", style="dim")
            store = PostgresVectorStore(
                model, database=Database.embedded(home / "server"), collection=COLLECTION
            )
            ring = KeyRing([LocalKey(kept_secret(home / "api-keys.key"))])
            models = [with_keys(given.model, make, store.database, ring)] if make else []
            app = create_app(
                store,
                secret=kept_secret(home / "cookies.key"),
                keyring=ring,
                answerers=models,
                admin=given.admin,
            )
            console.print(
                f"\nOpen http://localhost:{given.port}   (Ctrl-C ends it)\n", style="bold"
            )
            uvicorn.run(app, host="127.0.0.1", port=given.port, log_level="warning")
    except A2rchiError as error:
        sys.exit(f"Stopped: {error}")


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        prog="python -m examples.assistant", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--folder", type=Path, help="what to ask; without, Python's documentation")
    parser.add_argument("--model", metavar="PROVIDER:NAME", help="a chat model of LangChain's")
    parser.add_argument("--admin", help="the administrator's name; without, who comes first")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--data", type=Path, default=DATA, help="where the server keeps its data")
    return parser.parse_args()


def show(stage: str, progress: IngestProgress) -> None:
    """One line that is written over and over."""
    end = "\n" if progress.done == progress.total else ""
    said = f"{stage} {progress.done}/{progress.total} {progress.document:.40}"
    sys.stderr.write(f"\r{said}\033[K{end}")
    sys.stderr.flush()


def kept_secret(path: Path) -> str:
    """32 random bytes that only this account reads, the same at every start."""
    if not path.exists() or not path.stat().st_size:  # an empty one would let anybody sign
        (unfinished := path.with_suffix(".unfinished")).touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(32))
        unfinished.replace(path)
    return path.read_text()


if __name__ == "__main__":
    main()
