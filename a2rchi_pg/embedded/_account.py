"""The OS account the server runs under, and which paths that account can reach.

PostgreSQL refuses to run as root. Root therefore runs it as the owner of the data directory,
or as ``nobody`` for a new one; no account is created and no existing mode is changed.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

from a2rchi_pg.errors import EmbeddedError

if TYPE_CHECKING:
    from pathlib import Path

    from a2rchi_pg.embedded._locks import Layout

_NEW_FOR_ROOT = "nobody"


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """An OS account that can own a server."""

    uid: int
    gid: int
    name: str

    @property
    def is_me(self) -> bool:
        return self.uid == os.geteuid()

    def run_as(self) -> _RunAs:
        """Arguments for ``subprocess`` that make the child run under this account."""
        if self.is_me:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def reaches(self, directory: Path) -> bool:
        """Whether this account may walk into that directory, by the modes on the way."""
        if self.is_me:
            return os.access(directory, os.X_OK)
        return all(self._enters(step.stat()) for step in (directory, *directory.parents))

    def reads(self, path: Path) -> bool:
        """Whether this account may read (and run, where anybody may) that file."""
        status = path.stat()
        needed = stat.S_IROTH | (stat.S_IXOTH if status.st_mode & stat.S_IXUSR else 0)
        return self._allowed(status, needed)

    def _enters(self, status: os.stat_result) -> bool:
        return self._allowed(status, stat.S_IXOTH)

    def _allowed(self, status: os.stat_result, needed: int) -> bool:
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid == self.gid else 0
        return (status.st_mode >> shift) & needed == needed

    def own(self, path: Path) -> None:
        """Give a file or directory that was just created to this account."""
        if not self.is_me:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for(layout: Layout) -> Account:
    """The account that owns, or is to own, this data directory."""
    data = layout.data
    if not data.exists():
        return _account(pwd.getpwnam(_NEW_FOR_ROOT).pw_uid if os.geteuid() == 0 else os.geteuid())
    owner = data.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise EmbeddedError(
            f"{data} belongs to {_name(owner)}; only that account or root can use it"
        )
    if owner == 0:
        raise EmbeddedError(
            f"{data} belongs to root, and PostgreSQL refuses to run as root; "
            f"chown -R {_NEW_FOR_ROOT} {data}"
        )
    return _account(owner)


def whose(path: Path) -> str:
    """Who owns a path, or the nearest directory above it that is there, and who asks."""
    nearest = next(step for step in (path, *path.parents) if os.access(step, os.F_OK))
    return f"{nearest} belongs to {_name(nearest.stat().st_uid)}, and this is {_name(os.geteuid())}"


def _account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise EmbeddedError(
            f"the OS user {uid} has no name in the account database, and PostgreSQL needs one; "
            "run as an account that is listed in /etc/passwd"
        ) from None
    return Account(uid, entry.pw_gid, entry.pw_name)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
