"""The commands that bring data over: ``plan``, ``run``, ``verify``, ``rollback``, ``report``."""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from a2rchi_pg.collections import CollectionSpec
from a2rchi_pg.database import Database
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import _engine, _runs
from a2rchi_pg.migrate._chroma import ChromaSource
from a2rchi_pg.migrate._chunks import ChunkTarget
from a2rchi_pg.migrate._report import report

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

DONE, FAILED, DIFFERENT = 0, 1, 4
TOKEN = "A2RCHI_PG_CHROMA_TOKEN"  # noqa: S105 - a variable's name


def add_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """The grammar of the commands; they are returned for what all commands take."""
    plan = commands.add_parser("plan", help="say what a run would do; writes nothing")
    run = commands.add_parser("run", help="bring data over, or go on where a run stopped")
    verify = commands.add_parser("verify", help="compare both sides, row by row")
    rollback = commands.add_parser("rollback", help="take back what one run wrote")
    report = commands.add_parser("report", help="what a run came to; without --run-id, all runs")
    run.add_argument("--restart", action="store_true", help="read from the beginning again")
    run.add_argument(
        "--resume", action="store_true", help="go on where a run stopped (the default)"
    )
    run.add_argument("--dry-run", action="store_true", help="the same as plan")
    rollback.add_argument("--yes", action="store_true", help="don't ask")
    for command in (plan, run, verify):
        _add_source(command)
    for command in (plan, run, verify, rollback):
        command.add_argument("--batch-size", type=_positive, default=1000, metavar="N")
    for command in (run, verify, rollback, report):
        command.add_argument(
            "--run-id", metavar="ID", required=command in (verify, rollback), help="the run's name"
        )
    every = [plan, run, verify, rollback, report]
    for command in every:
        command.add_argument("--json", action="store_true", help="write JSON")
    return every


def _add_source(command: argparse.ArgumentParser) -> None:
    command.add_argument("--source", required=True, choices=["chroma"])
    command.add_argument("--path", help="Chroma's directory, the one with chroma.sqlite3")
    command.add_argument("--host", help="or the host of its server")
    command.add_argument("--port", type=int, default=8000)
    command.add_argument("--ssl", action="store_true")
    command.add_argument("--tenant", default="default_tenant")
    command.add_argument("--database", default="default_database")
    command.add_argument(
        "--from-collection", required=True, metavar="NAME", help="the collection in the source"
    )
    command.add_argument(
        "--collection", metavar="NAME", help="the one to fill (default: of the same name)"
    )
    command.add_argument(
        "--embedding-model", metavar="NAME", help="recorded with a collection that is made"
    )
    command.epilog = f"A server's token is read from ${TOKEN}."


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def execute(arguments: argparse.Namespace) -> int:
    """Run one of the commands and return its exit code."""
    with Database(arguments.target, schema=arguments.schema, max_size=2) as database:
        return _COMMANDS[arguments.command](database, arguments)


def _plan(database: Database, arguments: argparse.Namespace) -> int:
    source, target = _sides(arguments)
    plan = _engine.plan(database, source, target, batch_size=arguments.batch_size)
    if arguments.json:
        return _json(asdict(plan))
    _say(f"from {plan.source} {plan.location}: {plan.rows:,} rows")
    for name, value in plan.facts.items():
        _say(f"  {name}: {value}")
    there = "which exists" if plan.target_exists else "which will be made"
    _say(f"into {plan.target}, {there}")
    _say(f"{plan.sampled:,} rows read; reading all would take about {plan.seconds:.0f} s")
    for problem, rows in plan.problems.items():
        _say(f"{rows:,} of them can't be stored: {problem}")
    return DONE


def _run(database: Database, arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _plan(database, arguments)
    source, target = _sides(arguments)
    run = _engine.run(
        database,
        source,
        target,
        run_id=arguments.run_id,
        batch_size=arguments.batch_size,
        restart=arguments.restart,
        progress=progress(),
    )
    return _show(database, run.run_id, arguments)


def _verify(database: Database, arguments: argparse.Namespace) -> int:
    source, target = _sides(arguments)
    found = _engine.verify(
        database, source, target, arguments.run_id, batch_size=arguments.batch_size
    )
    code = DIFFERENT if found.counts else DONE
    if arguments.json:
        _json(asdict(found))
        return code
    _say(f"{found.checked:,} rows compared, {sum(found.counts.values()):,} differences")
    for kind, rows in found.counts.items():
        _say(f"{kind}: {rows:,}, among them {', '.join(found.examples[kind])}")
    return code


def _rollback(database: Database, arguments: argparse.Namespace) -> int:
    run = _runs.found(database.run(_runs.get_run(arguments.run_id)), arguments.run_id)
    if not arguments.yes and not _agreed(f"Take back run {run.run_id} ({run.target})?"):
        raise MigrationError("nothing was taken back: answer y, or pass --yes")
    name = run.target.removeprefix("collection ")
    target = ChunkTarget(CollectionSpec(name=name), 1)
    undone = _engine.rollback(database, target, run.run_id, batch_size=arguments.batch_size)
    if arguments.json:
        _json(asdict(undone))
    else:
        _say(f"{undone.removed:,} rows removed{' with their target' if undone.dropped else ''}")
        for key in undone.stays:
            _say(f"stays, as it was changed since or is in use: {key}")
    return DIFFERENT if undone.stays else DONE


def _report(database: Database, arguments: argparse.Namespace) -> int:
    if arguments.run_id is not None:
        return _show(database, arguments.run_id, arguments)
    runs = database.run(_runs.list_runs())
    if arguments.json:
        return _json([asdict(run) for run in runs])
    for run in runs:
        _say(f"{run.run_id}  {run.status}  {run.source} {run.location} -> {run.target}")
    return DONE


def _show(database: Database, run_id: str, arguments: argparse.Namespace) -> int:
    made = report(database, run_id)
    if arguments.json:
        return _json(asdict(made))
    sys.stdout.write(made.markdown())
    return DONE


def _sides(arguments: argparse.Namespace) -> tuple[ChromaSource, ChunkTarget]:
    if (arguments.path is None) == (arguments.host is None):
        raise MigrationError("say where Chroma is: either --path or --host")
    if arguments.path is not None:
        source = ChromaSource.directory(arguments.path, arguments.from_collection)
    else:
        source = ChromaSource.server(
            arguments.host,
            arguments.port,
            collection=arguments.from_collection,
            tenant=arguments.tenant,
            database=arguments.database,
            token=os.environ.get(TOKEN),
            ssl=arguments.ssl,
        )
    spec = CollectionSpec(
        name=arguments.collection or arguments.from_collection,
        metric=source.metric,
        embedding_model=arguments.embedding_model,
    )
    return source, ChunkTarget(spec, source.dimensions)


def progress() -> Callable[[int, int], None]:
    """Says how far a run is, on stderr: a bar on a terminal, else a line now and then."""
    started = said = time.monotonic()
    terminal = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        nonlocal said
        now = time.monotonic()
        if not terminal and now - said < 10:  # noqa: PLR2004 - seconds between lines
            return
        said = now
        rate = done / max(now - started, 1e-3)
        text = f"{done:,} rows, {rate:,.0f} a second, {max(total - done, 0) / rate:,.0f} s left"
        if terminal:
            filled = round(30 * min(done / max(total, 1), 1))
            end = "\n" if done >= total else ""
            sys.stderr.write(f"\r\x1b[K[{'#' * filled:<30}] {text}{end}")
        else:
            sys.stderr.write(text + "\n")
        sys.stderr.flush()

    return show


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _json(value: Any) -> int:
    sys.stdout.write(json.dumps(value, default=str, ensure_ascii=False, indent=2) + "\n")
    return DONE


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "verify": _verify,
    "rollback": _rollback,
    "report": _report,
}
