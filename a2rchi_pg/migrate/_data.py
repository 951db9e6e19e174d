"""The commands that bring data over: ``plan``, ``run``, ``verify``, ``rollback``, ``report``."""

from __future__ import annotations

import sys
from argparse import ArgumentTypeError
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from a2rchi_pg.database import Database
from a2rchi_pg.errors import MigrationError
from a2rchi_pg.migrate import _archi, _engine, _runs, _sources
from a2rchi_pg.migrate._origin import Origin
from a2rchi_pg.migrate._output import say, say_json
from a2rchi_pg.migrate._plan import plan
from a2rchi_pg.migrate._progress import progress
from a2rchi_pg.migrate._reading import DSN_VARIABLE
from a2rchi_pg.migrate._report import report, shortened
from a2rchi_pg.migrate._verify import verify

if TYPE_CHECKING:
    import argparse

    from a2rchi_pg.migrate._runs import Run
    from a2rchi_pg.migrate._source import Source
    from a2rchi_pg.migrate._sources import Sides

DONE, FAILED, DIFFERENT = 0, 1, 4
MAX_BATCH = 100_000


def add_commands(commands: Any) -> list[argparse.ArgumentParser]:
    """The grammar of the commands; they are returned for what all commands take."""
    planning = commands.add_parser("plan", help="say what a run would do; writes nothing")
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
    for command in (planning, run, verify):
        _sources.add_options(command)
    for command in (planning, run, verify, rollback):
        command.add_argument("--batch-size", type=_positive, default=1000, metavar="N")
    for command in (run, verify, rollback, report):
        command.add_argument(
            "--run-id", metavar="ID", required=command in (verify, rollback), help="the run's name"
        )
    configs = commands.add_parser(
        "configs", help="what the configurations in an old PostgreSQL tell, and a backup of them"
    )
    configs.add_argument("--source-dsn", metavar="DSN", help=f"it (default: ${DSN_VARIABLE})")
    configs.add_argument(
        "--backup", metavar="FILE", type=Path, help="write them there, and say how to drop them"
    )
    return [planning, run, verify, rollback, report]


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) <= MAX_BATCH:
        raise ArgumentTypeError(f"must be a whole number from 1 to {MAX_BATCH:,}, got {text!r}")
    return int(text)


def execute(arguments: argparse.Namespace) -> int:
    """Run one of the commands and return its exit code."""
    if arguments.command == "configs":
        return _configs(arguments)
    # A connection holds the lock, one works, one watches the indexes being built.
    with Database(arguments.target, schema=arguments.schema, max_size=3) as database:
        return _COMMANDS[arguments.command](database, arguments)


def _plan(database: Database, arguments: argparse.Namespace) -> int:
    plans = [
        plan(database, source, target, batch_size=arguments.batch_size)
        for source, target in _sources.sides(arguments)
    ]
    if arguments.json:
        say_json([asdict(each) for each in plans])
        return DONE
    for each in plans:
        say(f"from {each.source} {each.location}: {each.rows:,} rows")
        for name, value in each.facts.items():
            say(f"  {name}: {value}")
        there = "which exists" if each.target_exists else "which will be made"
        say(f"into {each.target}, {there}")
        say(f"  {each.server}")
        say(
            f"{each.sampled:,} rows read; all would take about {each.seconds:.0f} s to read and "
            f"{each.megabytes:,.0f} MB to store"
        )
        if each.present:
            say(f"{each.present:,} of them are there, {each.conflicts:,} with other content")
        for problem, rows in each.problems.items():
            say(f"{rows:,} of them can't be stored: {problem}")
    return DONE


def _run(database: Database, arguments: argparse.Namespace) -> int:
    if arguments.dry_run:
        return _plan(database, arguments)
    sides = _sources.sides(arguments)
    name = arguments.run_id or _engine.new_id()
    ids = [_runs.checked_name(_id(name, source, sides)) for source, _ in sides]
    done = []
    for id_, (source, target) in zip(ids, sides, strict=True):
        with progress(target.name, partial(target.building, database)) as show:
            made = _engine.run(
                database,
                source,
                target,
                run_id=id_,
                batch_size=arguments.batch_size,
                restart=arguments.restart,
                progress=show,
            )
        if arguments.run_id is not None and made.run_id != id_:
            sys.stderr.write(f"this went on with run {made.run_id}, which was unfinished\n")
        done.append(made)
    return _show(database, done, arguments)


def _verify(database: Database, arguments: argparse.Namespace) -> int:
    sides = _sources.sides(arguments)
    found = []
    for source, target in sides:
        id_ = _id(arguments.run_id, source, sides)
        with progress(target.name) as show:
            found.append(
                verify(
                    database, source, target, id_, batch_size=arguments.batch_size, progress=show
                )
            )
    code = DIFFERENT if any(each.counts for each in found) else DONE
    if arguments.json:
        named = zip(found, sides, strict=True)
        say_json([{"target": target.name, **asdict(each)} for each, (_, target) in named])
        return code
    for each, (_, target) in zip(found, sides, strict=True):
        differences = sum(each.counts.values())
        say(f"{target.name}: {each.checked:,} rows compared, {differences:,} differences")
        for kind, rows in each.counts.items():
            say(f"{kind}: {rows:,}, among them {', '.join(map(shortened, each.examples[kind]))}")
    return code


def _rollback(database: Database, arguments: argparse.Namespace) -> int:
    runs = database.run(_runs.named(arguments.run_id))
    names = ", ".join(f"{run.run_id} ({run.target})" for run in runs)
    if not arguments.yes and not _agreed(f"Take back {names}?"):
        raise MigrationError("nothing was taken back: answer y, or pass --yes")
    targets = [(run, _sources.target_of(run)) for run in runs]
    undone = []
    for run, target in reversed(targets):
        with progress(target.name) as show:
            undone.append(
                _engine.rollback(
                    database, target, run.run_id, batch_size=arguments.batch_size, progress=show
                )
            )
    if arguments.json:
        named = zip(undone, reversed(targets), strict=True)
        say_json([{"target": target.name, **asdict(each)} for each, (_, target) in named])
    else:
        for each, (_, target) in zip(undone, reversed(targets), strict=True):
            gone = " with their target" if each.dropped else ""
            say(f"{target.name}: {each.removed:,} rows removed{gone}")
            for key in each.stays:
                say(f"stays, as it was changed since or is in use: {shortened(key)}")
    return DIFFERENT if any(each.stays for each in undone) else DONE


def _report(database: Database, arguments: argparse.Namespace) -> int:
    if arguments.run_id is not None:
        return _show(database, database.run(_runs.named(arguments.run_id)), arguments)
    runs = database.run(_runs.list_runs())
    if arguments.json:
        say_json([asdict(run) for run in runs])
        return DONE
    for run in runs:
        say(f"{run.run_id}  {run.status}  {run.source} {run.location} -> {run.target}")
    return DONE


def _configs(arguments: argparse.Namespace) -> int:
    origin = Origin(_sources.other_database(arguments.source_dsn))
    configs = _archi.configs_of(origin)
    untold = _archi.untold(origin, configs)
    saved = None if arguments.backup is None else configs.back_up(arguments.backup)
    drop = [] if saved is None or untold else [*origin.keeping_configs(), "DROP TABLE configs;"]
    if arguments.json:
        about = {"facts": configs.facts(), "untold": untold, "saved": saved, "drop": drop}
        say_json(about)
        return DONE
    for name, value in configs.facts().items():
        say(f"{name}: {value}")
    say(f"{untold:,} answers have one that doesn't tell their model")
    if saved is not None:
        say(f"{saved:,} configurations written to {arguments.backup}")
    if drop:
        say("nothing more can be learned from the table; to drop it, run in the old database:")
        for statement in drop:
            say(f"    {statement}")
    return DONE


def _show(database: Database, runs: list[Run], arguments: argparse.Namespace) -> int:
    made = [report(database, run.run_id) for run in runs]
    if arguments.json:
        say_json([asdict(each) for each in made])
        return DONE
    sys.stdout.write("\n".join(each.markdown() for each in made))
    return DONE


def _id(name: str, source: Source[Any], sides: list[Sides]) -> str:
    """The name of one of the runs that a command makes."""
    return name if len(sides) == 1 else f"{name}-{source.kind}"


def _agreed(question: str) -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


_COMMANDS = {
    "plan": _plan,
    "run": _run,
    "verify": _verify,
    "rollback": _rollback,
    "report": _report,
}
