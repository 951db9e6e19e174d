"""What documents were called once, and what they are called today."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg._content import clean_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

RENAMED = ("jira_", "redmine_")  # what hashes of tickets began with before they all began so:
TICKET = "ticket_"
ORIGINAL = "original_resource_hash"  # the key of metadata that keeps what a document was called


def ticket_hash(resource_hash: str) -> str:
    """The hash a ticket has today: trackers had prefixes of their own once."""
    for prefix in RENAMED:
        if resource_hash.startswith(prefix):
            return TICKET + resource_hash.removeprefix(prefix)
    return resource_hash


def todays_hash(resource_hash: str) -> str:
    """The hash a document has today."""
    return ticket_hash(clean_text(resource_hash))


def renamed(names: Iterable[str], rename: Callable[[str], str]) -> dict[str, str]:
    """Each name by what it becomes, in order of the latter.

    Where two become the same, the one that is called so already has it, else the first; the others
    stand under what they were called.
    """
    new: dict[str, str] = {}
    for name in sorted(names, key=lambda name: (rename(name) != name, name)):
        wanted = rename(name)
        new[written(name) if wanted in new else wanted] = name
    return dict(sorted(new.items()))


def written(name: str) -> str:
    """A name as a ledger can keep it: what PostgreSQL can't store is spelt out."""
    return name if clean_text(name) == name else ascii(name)
