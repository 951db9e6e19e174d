"""The catalog under the names and signatures that hosts of the older services call.

Selection, states, listings and previews here; recording and finding in ``_legacy_lookup``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeAlias

from a2rchi_pg._arguments import MAX_PAGE, one_of, row_id
from a2rchi_pg._documents import STATUSES
from a2rchi_pg._legacy_forms import flat, listed
from a2rchi_pg._legacy_lookup import LegacyLookup
from a2rchi_pg._op import Steps, fetch_tuples, fetch_value, read, write
from a2rchi_pg.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable

    from a2rchi_pg._documents import Status
    from a2rchi_pg._pages import ListedDocument

Conversation: TypeAlias = "int | str"
_ENABLED = {"all": None, "enabled": True, "disabled": False}


class LegacyCatalog(LegacyLookup):
    """``PostgresCatalogService`` as it was called.

    Selections are a conversation's, as they were; who owns it is for the host to check.

    Args:
        data_path: The folder that stored paths are relative to.
        runner: A ``Database``, or a ``Transaction`` of one.
        include_extensions: Endings of the files that :meth:`iter_files` yields.
        collection: The collection whose ingestion states are meant.
    """

    def is_document_enabled(self, conversation_id: Conversation, resource_hash: str) -> bool:
        """Whether a conversation sees a document; True where nothing was chosen."""
        found = self._selection.explain(resource_hash, None, _number(conversation_id))
        return found is None or found.effective

    def set_document_enabled(
        self, conversation_id: Conversation, resource_hash: str, enabled: bool
    ) -> None:
        """Choose for a conversation."""
        self.bulk_set_enabled(conversation_id, [resource_hash], enabled)

    def bulk_set_enabled(
        self, conversation_id: Conversation, resource_hashes: Iterable[str], enabled: bool
    ) -> int:
        """Choose for a conversation, for all documents or none; how many there were."""
        choices: dict[int | str, bool] = dict.fromkeys(resource_hashes, enabled)
        return self._selection.set_conversation(_number(conversation_id), choices)

    def get_selection_state(self, conversation_id: Conversation) -> dict[str, bool]:
        """What was chosen for a conversation."""
        return dict(self._runner.run(_chosen(_number(conversation_id))))

    def get_disabled_hashes(self, conversation_id: Conversation) -> set[str]:
        """What was chosen not to be seen in a conversation."""
        return {key for key, on in self.get_selection_state(conversation_id).items() if not on}

    def get_enabled_hashes(self, conversation_id: Conversation) -> set[str]:
        """What was chosen to be seen in a conversation."""
        return {key for key, on in self.get_selection_state(conversation_id).items() if on}

    def update_ingestion_status(
        self, resource_hash: str, status: Status, error: str | None = None
    ) -> None:
        """Move a document on to a state.

        Raises:
            NotFound: If there is no such document.
            IllegalTransition: If its state doesn't lead there.
        """
        found = self._one(resource_hash)
        if found is None:
            raise NotFound(f"there is no document {resource_hash!r}")
        name, owner = self._collection, self._owner
        match status:
            case "embedding":
                self._catalog.begin(name, found.id, owner=owner)
            case "embedded":
                count = self._runner.run(_chunk_count(found.id, name))
                self._catalog.finish(name, found.id, owner=owner, chunk_count=count)
            case "failed":
                if found.status != "embedding":
                    self._catalog.begin(name, found.id, owner=owner)
                self._catalog.fail(name, found.id, error or "no reason given", owner=owner)
            case "pending":
                self._catalog.retry(name, found.id)
            case _:
                raise InvalidInput(f"status must be one of {', '.join(STATUSES)}; got {status!r}")

    def reset_failed_document(self, resource_hash: str) -> bool:
        """Make a failed document pending; False where it hasn't failed."""
        return self._catalog.retry(self._collection, resource_hash) > 0

    def reset_all_failed_documents(self) -> int:
        """Make all failed documents pending; how many there were."""
        return self._catalog.retry(self._collection)

    def get_stats(self, conversation_id: Conversation | None = None) -> dict[str, Any]:
        """Counts by kind and state."""
        number = None if conversation_id is None else _number(conversation_id)
        stats = self._catalog.stats(conversation_id=number, collection=self._collection)
        kinds = stats.by_source_type.items()
        return {
            "total_documents": stats.documents,
            "total_chunks": stats.chunks,
            "enabled_documents": stats.enabled,
            "disabled_documents": stats.disabled,
            "total_size_bytes": stats.size_bytes,
            "by_source_type": {k: {"total": v.documents, "enabled": v.enabled} for k, v in kinds},
            "status_counts": stats.by_status,
            "ingestion_in_progress": stats.by_status["embedding"] > 0,
            "last_sync": stats.last_sync.isoformat() if stats.last_sync else None,
        }

    def list_documents(
        self,
        conversation_id: Conversation | None = None,
        source_type: str | None = None,
        search: str | None = None,
        enabled_filter: str | None = None,
        limit: int | None = 100,
        offset: int = 0,
    ) -> dict[str, Any]:
        """A page of documents with whether a conversation sees them; None as limit means all."""
        number = None if conversation_id is None else _number(conversation_id)
        view: dict[str, Any] = {
            "source_type": source_type,
            "search": search or None,
            "sort": "added",
            "conversation_id": number,
            "collection": self._collection,
        }
        wanted = _ENABLED[one_of(enabled_filter or "all", "enabled_filter", _ENABLED)]
        enabled_count = self._catalog.list(**view, enabled=True, limit=0).total
        if limit is None:
            every = self._every(**view, enabled=wanted)
            shown, total = every[offset:], len(every)
        else:
            page = self._catalog.list(**view, enabled=wanted, limit=limit, offset=offset)
            shown, total = page.documents, page.total or 0
        has_more = offset + len(shown) < total
        return {
            "documents": [listed(each) | {"enabled": each.effective} for each in shown],
            "total": total,
            "enabled_count": enabled_count,
            "limit": total if limit is None else limit,
            "offset": offset,
            "has_more": has_more,
            "next_offset": offset + len(shown) if has_more else None,
        }

    def list_documents_with_status(
        self,
        status_filter: Status | None = None,
        source_type: str | None = None,
        search: str | None = None,
        limit: int = 50,
        offset: int = 0,
    ) -> dict[str, Any]:
        """A page of documents with their states."""
        page = self._catalog.list(
            status=status_filter,
            source_type=source_type,
            search=search or None,
            sort="added",
            collection=self._collection,
            limit=limit,
            offset=offset,
        )
        return {
            "documents": [listed(each) for each in page.documents],
            "total": page.total,
            "limit": limit,
            "offset": offset,
            "status_counts": self._catalog.stats(collection=self._collection).by_status,
        }

    def list_documents_grouped(
        self, show_all: bool = False, expand: str | None = None
    ) -> dict[str, Any]:
        """Documents by origin; ``expand`` names one whose unfinished documents are listed."""
        groups = self._catalog.grouped(collection=self._collection)
        return {
            "groups": [
                {
                    "source_name": group.origin,
                    "total": group.documents,
                    **{status: getattr(group, status) for status in STATUSES},
                    "has_actionable": group.actionable,
                    "documents": self._unfinished(group.origin) if group.origin == expand else [],
                }
                for group in groups
                if show_all or group.actionable
            ],
            "status_counts": self._catalog.stats(collection=self._collection).by_status,
        }

    def get_document_chunks(self, resource_hash: str) -> list[dict[str, Any]]:
        """The chunks of a document, up to ten thousand."""
        found = self._catalog.chunks(resource_hash, limit=MAX_PAGE)
        return [
            {
                "index": each.index,
                "text": each.text,
                "start_char": each.start_char,
                "end_char": each.end_char,
            }
            for each in found
        ]

    def get_document_content(
        self, resource_hash: str, max_size: int = 100_000
    ) -> dict[str, Any] | None:
        """A document's text from its file or chunks, or what is known of it if it has none."""
        found = self._one(resource_hash)
        if found is None:
            return None
        text, source = self._text(found, max_size + 1)
        if not text:
            text, source = json.dumps(flat(found), indent=2, ensure_ascii=False), "metadata"
        return {
            "hash": found.resource_hash,
            "display_name": found.display_name,
            "content": text[:max_size],
            "content_type": found.mime_type or "text/plain",
            "size_bytes": found.size_bytes,
            "truncated": len(text) > max_size,
            "source": source,
        }

    def _unfinished(self, origin: str) -> list[dict[str, Any]]:
        order: tuple[Status, ...] = ("failed", "pending", "embedding")
        found: list[ListedDocument] = []
        for status in order:
            left = 100 - len(found)
            view: dict[str, Any] = {"status": status, "limit": left, "with_total": False}
            found += self._catalog.list(
                filter={"origin": origin}, collection=self._collection, **view
            ).documents
        return [listed(each) for each in found]


@read
def _chosen(conversation_id: int) -> Steps[list[tuple[Any, ...]]]:
    query = """
        SELECT d.resource_hash, s.enabled
        FROM conversation_document_selection AS s JOIN documents AS d ON d.id = s.document_id
        WHERE s.conversation_id = %(conversation_id)s AND d.deleted_at IS NULL
    """
    return (yield from fetch_tuples(query, conversation_id=conversation_id))


@write  # a replica may not have the last of them yet
def _chunk_count(document_id: int, collection: str) -> Steps[int]:
    query = """
        SELECT count(*) FROM document_chunks
        WHERE document_id = %(document_id)s AND collection_id =
            (SELECT id FROM collections WHERE name = %(collection)s::text)
    """
    return int((yield from fetch_value(query, document_id=document_id, collection=collection)))


def _number(conversation_id: Conversation) -> int:
    if isinstance(conversation_id, str) and conversation_id.strip().isdecimal():
        return row_id(int(conversation_id), "conversation_id")
    return row_id(conversation_id, "conversation_id")
