"""What the server is told: settings by the machine's size, and who may connect."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from a2rchi_pg.embedded._account import Account

Setting = str | int | float | bool

INCLUDED = "a2rchi_pg.conf"
_MB = 1024**2
_GB = 1024**3
# These are how clients find the server; a caller's value would cut them off.
_OURS = frozenset(
    {"port", "listen_addresses", "unix_socket_directories", "data_directory", "cluster_name"}
)
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def settings_file(
    preload: Sequence[str],
    overrides: Mapping[str, Setting],
    *,
    memory: int,
    shm_free: int,
    crash_safe: bool,
) -> str:
    """The included configuration file; later lines win, so the caller's come last."""
    chosen: dict[str, Setting] = {
        **_by_memory(memory, shm_free),
        "shared_preload_libraries": ",".join(preload),
        "max_connections": 100,
        "unix_socket_permissions": "0700",
        "jit": False,
        "random_page_cost": 1.1,
        "max_wal_size": "2GB",
        "checkpoint_timeout": "15min",
        "wal_compression": True,
        # By itself the server would come back without the repair that bm25 indexes need.
        "restart_after_crash": crash_safe,
        "timezone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "log_destination": "stderr",
        "logging_collector": False,
        "log_checkpoints": False,
        "log_line_prefix": "%m [%p] %q%u@%d ",
        # Failing statements may carry documents and questions; the log is not their place.
        "log_min_error_statement": "panic",
    }
    lines = [f"{name} = {_quoted(value)}" for name, value in chosen.items()]
    lines += [f"{_checked(name)} = {_quoted(value)}" for name, value in overrides.items()]
    return "# Rewritten at each start; EmbeddedPostgres(settings=...) overrides it.\n" + "".join(
        f"{line}\n" for line in lines
    )


def _by_memory(memory: int, shm_free: int) -> dict[str, Setting]:
    maintenance = _between(64 * _MB, memory // 8, 8 * _GB)
    return {
        "shared_buffers": _kb(_between(32 * _MB, memory // 8, 4 * _GB)),
        "effective_cache_size": _kb(memory // 2),
        "maintenance_work_mem": _kb(maintenance),
        "work_mem": _kb(_between(4 * _MB, memory // 512, 64 * _MB)),
        "dynamic_shared_memory_type": _shared_memory(maintenance, shm_free),
    }


def _shared_memory(needed: int, shm_free: int) -> str:
    """Containers often have 64 MB of /dev/shm; a parallel HNSW build asks for far more."""
    return "posix" if shm_free >= needed + 64 * _MB else "sysv"


def _between(low: int, value: int, high: int) -> int:
    return max(low, min(value, high))


def _kb(size: int) -> str:
    return f"{size // 1024}kB"


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name):
        raise EmbeddedError(f"not the name of a setting: {name!r}")
    if name.lower() in _OURS:
        raise EmbeddedError(f"the setting {name} is decided by EmbeddedPostgres itself")
    return name


def _quoted(value: Setting) -> str:
    text = ("on" if value else "off") if isinstance(value, bool) else str(value)
    if "\0" in text:
        raise EmbeddedError("a setting's value can't hold a NUL character")
    return "'" + text.replace("\\", r"\\").replace("'", "''").replace("\n", r"\n") + "'"


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or its container's."""
    sizes = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for limit in map(Path, _CGROUP_LIMITS):
        text = limit.read_text().strip() if limit.exists() else "max"
        sizes += [int(text)] if text.isdecimal() else []
    return min(sizes)


def free_shm() -> int:
    """Bytes free in /dev/shm; plenty where shared memory is not kept there."""
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108 -- only looked at
    except FileNotFoundError:
        return 2**63
    return status.f_bavail * status.f_frsize


def hba_file(*, tcp: bool) -> str:
    """Peer authentication on the socket, a password on 127.0.0.1 if that was asked for."""
    lines = ["local all all peer map=a2rchi", "local replication all peer map=a2rchi"]
    if tcp:
        lines.append("host all all 127.0.0.1/32 scram-sha-256")
    return "# Rewritten at each start.\n" + "".join(f"{line}\n" for line in lines)


def ident_file(account: Account) -> str:
    """The data's owner and root, who can read every file of it anyway, and nobody else."""
    names = dict.fromkeys((account.name, "root"))
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    return "# Rewritten at each start.\n" + "".join(f"a2rchi {name} all\n" for name in quoted)
