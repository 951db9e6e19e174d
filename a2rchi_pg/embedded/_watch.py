"""The last one out stops the server: a client that leaves, or the watcher.

The watcher sleeps in the kernel until no client is left, whatever ended the last one. It holds
no state: if it is killed, the next client starts another one. It runs for as long as the
server does, so this module uses the standard library only.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from a2rchi_pg.embedded._locks import Layout, is_same_file, is_unused, opened
from a2rchi_pg.embedded._process import end_server, find_postmaster, names_run


def watch_until_unused(root: str, watch: int) -> None:
    """Stop the server when no client holds it any more.

    Args:
        root: The server's directory.
        watch: The descriptor that holds the watcher's lock.
    """
    layout = Layout(Path(root))
    with suppress(FileNotFoundError):  # the directory was removed: there is nothing to watch
        _watch(layout, watch)


def _watch(layout: Layout, watch: int) -> None:
    with (
        opened(layout.lock("start"), os.O_RDWR) as start,
        opened(layout.lock("clients"), os.O_RDWR) as clients,
    ):
        while not _last_one_left(layout, start, clients):
            fcntl.flock(start, fcntl.LOCK_UN)
        # Before `start` is released: the next client must see that nobody watches.
        os.close(watch)


def _last_one_left(layout: Layout, start: int, clients: int) -> bool:
    fcntl.flock(clients, fcntl.LOCK_EX)
    fcntl.flock(clients, fcntl.LOCK_UN)  # a newcomer must be able to come in
    fcntl.flock(start, fcntl.LOCK_EX)
    # A directory made anew at the same place has other locks, and a watcher of its own.
    return not is_same_file(start, layout.lock("start")) or stop_if_unused(layout)


def stop_if_unused(layout: Layout) -> bool:
    """With the start lock held: stop the server unless it has a client or is to be kept.

    Returns:
        Whether no client is left.
    """
    if not is_unused(layout.lock("clients")):
        return False
    if not is_kept(layout):
        end_server(layout)
    return True


def is_kept(layout: Layout) -> bool:
    """Whether ``start`` on the command line asked for this very run to outlive its clients."""
    server = find_postmaster(layout.data)
    return server is not None and names_run(layout.keep, server)
