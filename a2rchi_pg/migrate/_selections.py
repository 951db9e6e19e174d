"""What was chosen for conversations and by users in older systems, as a source."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from a2rchi_pg._content import clean_text
from a2rchi_pg._dates import read_moment
from a2rchi_pg.errors import InvalidInput
from a2rchi_pg.migrate._files import in_folder, is_file
from a2rchi_pg.migrate._hashes import renamed, todays_hash
from a2rchi_pg.migrate._selected import OF_CONVERSATIONS, Choice, quoted
from a2rchi_pg.migrate._source import Row, Survey
from a2rchi_pg.migrate._sqlite import check_table, has_table, read_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from a2rchi_pg.migrate._selected import Tier

TABLE = "chat_document_selections"
COLUMNS = ("conversation_id", "document_hash", "enabled", "updated_at")
UNKNOWN = datetime(1970, 1, 1, tzinfo=UTC)


class Stored(NamedTuple):
    """A choice as it is stored there, whatever that is."""

    owner: object
    document: object
    enabled: object
    updated_at: object


class SelectionSource:
    """Choices, which are held in memory.

    Args:
        kind: What a run's name ends with.
        location: Where they are.
        stored: Reads them; of two for the same, the last one counts.
        tier: Whose they are.
    """

    def __init__(
        self, kind: str, location: str, stored: Callable[[], Iterable[Stored]], tier: Tier
    ) -> None:
        self.kind, self.location = kind, location
        self._stored, self._tier = stored, tier

    @classmethod
    def open(cls, path: str | Path) -> SelectionSource:
        """A conversation's choices in a file, or in ``catalog.sqlite`` of a folder."""
        file = in_folder(path, "catalog.sqlite")
        check_table(file, TABLE, COLUMNS, "catalog with selections")

        def stored() -> list[Stored]:
            query = f"SELECT {', '.join(COLUMNS)} FROM {TABLE}"  # noqa: S608 - our own names
            return [Stored(*row.values()) for row in read_sqlite(file, query)]

        return cls("selections", str(file.resolve()), stored, OF_CONVERSATIONS)

    def survey(self) -> Survey:
        """Count the choices."""
        return Survey(rows=len(self._named()))

    def batches(self, after: str | None, size: int) -> Iterator[Sequence[Row[Choice]]]:
        """The choices after a key."""
        stored = self._named()
        names = renamed(stored, lambda name: self._todays_key(stored[name]))
        wanted = [key for key in names if after is None or key > after]
        for start in range(0, len(wanted), size):
            yield [self._row(key, stored[names[key]]) for key in wanted[start : start + size]]

    def _named(self) -> dict[str, Stored]:
        return {f"{quoted(str(each.owner))}/{each.document}": each for each in self._stored()}

    def _todays_key(self, stored: Stored) -> str:
        try:
            owner = self._tier.read(stored.owner)
        except InvalidInput:
            owner = clean_text(str(stored.owner))
        return f"{owner}/{todays_hash(str(stored.document))}"

    def _row(self, key: str, stored: Stored) -> Row[Choice]:
        moment = read_moment(stored.updated_at)
        try:
            choice = Choice(
                owner=self._tier.read(stored.owner),
                resource_hash=_document(stored),
                enabled=_enabled(stored),
                updated_at=moment or UNKNOWN,
            )
        except InvalidInput as error:
            return Row(key=key, problem=str(error))
        if key != choice.key:
            return Row(key=key, problem=f"it is {choice.key} today, which another one is as well")
        notes = () if moment else ("updated_at can't be read: 1970 stands for it",)
        return Row(key=key, digest=choice.digest, value=choice, notes=notes)


def has_selections(path: str | Path) -> bool:
    """Whether there is a ``catalog.sqlite`` that has choices: the first ones had none."""
    file = in_folder(path, "catalog.sqlite")
    return is_file(file) and has_table(file, TABLE)


def _document(stored: Stored) -> str:
    if stored.document in (None, ""):
        raise InvalidInput("it names no document")
    return todays_hash(str(stored.document))


def _enabled(stored: Stored) -> bool:
    if stored.enabled not in (0, 1):
        raise InvalidInput("enabled is neither 0 nor 1")
    return bool(stored.enabled)
