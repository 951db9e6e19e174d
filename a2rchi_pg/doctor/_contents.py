"""What is stored: chunks without documents, states that don't fit, keys that can't be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg import _rotation
from a2rchi_pg._op import Steps, fetch_tuples, fetch_value, write
from a2rchi_pg.doctor._finding import Finding

if TYPE_CHECKING:
    from a2rchi_pg._flow import Flow
    from a2rchi_pg.keyring import KeyRing


@write
def orphans() -> Steps[list[Finding]]:
    """Chunks whose document is gone, which no foreign key lets happen by itself."""
    lost = yield from fetch_value(
        """
        SELECT count(*) FROM document_chunks AS c
        WHERE document_id IS NOT NULL
            AND NOT EXISTS (SELECT FROM documents AS d WHERE d.id = c.document_id)
        """
    )
    if not lost:
        return []
    return [
        Finding(
            check="orphaned_chunks",
            severity="error",
            problem="chunks belong to documents that are not there, and searches find them",
            evidence=f"{lost:,} chunks",
            remedy="DELETE FROM document_chunks AS c WHERE document_id IS NOT NULL AND NOT EXISTS "
            "(SELECT FROM documents AS d WHERE d.id = c.document_id);",
        )
    ]


@write
def drift() -> Steps[list[Finding]]:
    """Documents whose recorded state is not what is stored."""
    ((wrong, stuck, failed),) = yield from fetch_tuples(
        """
        SELECT count(*) FILTER (WHERE status = 'embedded' AND chunk_count <> (
                   SELECT count(*) FROM document_chunks AS c
                   WHERE c.collection_id = i.collection_id AND c.document_id = i.document_id)),
               count(*) FILTER (WHERE status = 'embedding' AND leased_until < now()),
               count(*) FILTER (WHERE status = 'failed')
        FROM indexed_documents AS i
        """
    )
    found = list[Finding]()
    if wrong:
        found.append(
            Finding(
                check="chunk_count",
                severity="warning",
                problem="documents have another number of chunks than was recorded",
                evidence=f"{wrong:,} documents",
                remedy="UPDATE indexed_documents AS i SET status = 'pending' WHERE status = "
                "'embedded' AND chunk_count <> (SELECT count(*) FROM document_chunks AS c WHERE "
                "c.collection_id = i.collection_id AND c.document_id = i.document_id); then "
                "ingest again",
            )
        )
    if stuck:
        found.append(
            Finding(
                check="stuck_ingestion",
                severity="warning",
                problem="documents were taken up by a worker that is gone",
                evidence=f"{stuck:,} documents are 'embedding' with a lease that ended",
                remedy="run the ingestion again: it takes them up",
            )
        )
    if failed:
        found.append(
            Finding(
                check="failed_ingestion",
                severity="warning",
                problem="documents could not be embedded",
                evidence=f"{failed:,} documents are 'failed'",
                remedy="SELECT document_id, error FROM indexed_documents WHERE status = 'failed'; "
                "mend the cause, then ingest again",
            )
        )
    return found


def keys(ring: KeyRing | None) -> Flow[list[Finding]]:
    """Whether users' keys can be opened, and are on the newest key of the ring."""
    uses = yield _rotation.status()
    if not uses:
        return []
    if ring is None:
        return [
            Finding(
                check="key_ring",
                severity="warning",
                problem="users' keys are stored, and there is no key ring here to open them",
                evidence=f"{sum(use.keys for use in uses):,} keys",
                remedy="export BYOK_ENCRYPTION_KEY=…",
            )
        ]
    found = list[Finding]()
    lost = sum(use.keys for use in uses if use.key_id is not None and use.key_id not in ring.ids)
    if lost:
        found.append(
            Finding(
                check="key_ring",
                severity="error",
                problem="users' keys are encrypted with a key that the ring lacks",
                evidence=f"{lost:,} keys",
                remedy="add the key to BYOK_ENCRYPTION_KEY, behind the newest; if it is lost, "
                "users have to enter theirs again",
            )
        )
    if older := sum(use.keys for use in uses if (use.format, use.key_id) != ring.current) - lost:
        found.append(
            Finding(
                check="key_rotation",
                severity="warning",
                problem="users' keys are encrypted with an older key",
                evidence=f"{older:,} keys",
                remedy="python -m a2rchi_pg.keys rotate",
            )
        )
    return found
