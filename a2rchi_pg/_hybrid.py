"""The part of the vector store that searches by words, alone and together with meaning.

Every method is a sync and async pair of one line each; what they do stands in ``_store``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from a2rchi_pg._arguments import whole
from a2rchi_pg._browsing import BrowsableStore, as_document
from a2rchi_pg._fusion import CANDIDATES, FusionName
from a2rchi_pg._fusion import fusion as chosen_fusion
from a2rchi_pg._options import search_options

if TYPE_CHECKING:
    from collections.abc import Iterable

    from langchain_core.documents import Document

    from a2rchi_pg._explain import Explanation
    from a2rchi_pg._options import Filter
    from a2rchi_pg._search import HybridRow


@dataclass(frozen=True, slots=True, kw_only=True)
class HybridHit:
    """One result of a hybrid search, and what each of its two searches made of it.

    Attributes:
        document: The document.
        score: Fused score in [0, 1], higher is better.
        semantic_rank: Place in the dense ranking, from 1; None if not among its candidates.
        distance: Distance from the query, lower is better; None if nobody had to compute it.
        bm25_rank: Place in the lexical ranking, from 1; None if not among its candidates.
        bm25_score: BM25 score, higher is better; None likewise.
    """

    document: Document
    score: float
    semantic_rank: int | None
    distance: float | None
    bm25_rank: int | None
    bm25_score: float | None


class HybridStore(BrowsableStore):
    """A collection that is searched by words as well as by meaning."""

    def bm25_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
    ) -> list[tuple[Document, float]]:
        """The ``k`` documents that best match the words of ``query``, best first.

        A document has to hold one of the words at least. Without pg_textsearch the scores
        are computed in SQL, which takes longer and is noted once in the log.

        Args:
            query: Words, of which the first 500 count; nothing in it is an operator.
            k: How many at most, up to a million.
            filter: What the metadata must hold; see :class:`PostgresVectorStore`.
            user_id: As for :meth:`similarity_search_with_score`.
            conversation_id: As for :meth:`similarity_search_with_score`.
            client_id: As for :meth:`similarity_search_with_score`.
            include_deleted: As for :meth:`similarity_search_with_score`.

        Returns:
            Documents with their BM25 scores, higher is better; scores of different queries can't
            be compared.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If ``k`` is out of range or ``query`` isn't a string.
        """
        return scored(
            self._do(
                self._store.bm25(
                    query,
                    k,
                    search_options(
                        filter, None, user_id, conversation_id, client_id, include_deleted
                    ),
                )
            )
        )

    async def abm25_search(
        self,
        query: str,
        k: int = 4,
        *,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`bm25_search`."""
        return scored(
            await self._ado(
                self._store.bm25(
                    query,
                    k,
                    search_options(
                        filter, None, user_id, conversation_id, client_id, include_deleted
                    ),
                )
            )
        )

    def hybrid_search(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
    ) -> list[tuple[Document, float]]:
        """The ``k`` best documents by meaning and words together, best first: one statement.

        What only one of the two searches finds is ranked too.

        Args:
            query: What to look for.
            k: How many; exactly as many are returned if that many are eligible.
            semantic_weight: Weight of the dense search, at least 0; None takes what measured best
                for the fusion (0.6, 0.8, 0.5), or 1 less ``bm25_weight``.
            bm25_weight: Weight of the lexical search, at least 0; None takes 1 less
                ``semantic_weight``. Only their ratio matters.
            fusion: ``"calibrated"``, ``"tm2c2"`` (cosine only) or ``"rrf"``, see below.
            fetch_k: Candidates taken from each of the two; at least ``k`` are.
            filter: What the metadata must hold, applied to both searches; see
                :class:`PostgresVectorStore`.
            ef_search: As for :meth:`similarity_search_with_score`.
            user_id: As for :meth:`similarity_search_with_score`.
            conversation_id: As for :meth:`similarity_search_with_score`.
            client_id: As for :meth:`similarity_search_with_score`.
            include_deleted: As for :meth:`similarity_search_with_score`.

        Returns:
            Documents with their fused scores in [0, 1], higher is better. ``"rrf"`` is reciprocal
            rank fusion, ``Σ weight / (60 + rank)`` (Cormack, Clarke & Büttcher, SIGIR 2009), over
            the most it can be. ``"tm2c2"`` adds both scores, scaled from their theoretical least to
            the query's maximum (Bruch, Gai & Ingber, TOIS 2023). ``"calibrated"`` does so with
            similarities scaled from the query's mean similarity to the collection.

        Raises:
            FilterError: If the filter can't be understood.
            InvalidInput: If a weight is negative or both are 0, or another option is out of range.
        """
        options = search_options(
            filter, ef_search, user_id, conversation_id, client_id, include_deleted
        )
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, whole(fetch_k, "fetch_k"))
        return scored(self._do(self._store.hybrid(query, k, options, chosen)))

    async def ahybrid_search(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
    ) -> list[tuple[Document, float]]:
        """The asynchronous twin of :meth:`hybrid_search`."""
        options = search_options(
            filter, ef_search, user_id, conversation_id, client_id, include_deleted
        )
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, whole(fetch_k, "fetch_k"))
        return scored(await self._ado(self._store.hybrid(query, k, options, chosen)))

    def hybrid_search_with_details(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
    ) -> list[HybridHit]:
        """:meth:`hybrid_search`, saying of each document how either search ranked it."""
        options = search_options(
            filter, ef_search, user_id, conversation_id, client_id, include_deleted
        )
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, whole(fetch_k, "fetch_k"))
        return _detailed(self._do(self._store.hybrid(query, k, options, chosen)))

    async def ahybrid_search_with_details(
        self,
        query: str,
        k: int = 4,
        *,
        semantic_weight: float | None = None,
        bm25_weight: float | None = None,
        fusion: FusionName = "calibrated",
        fetch_k: int = CANDIDATES,
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
    ) -> list[HybridHit]:
        """The asynchronous twin of :meth:`hybrid_search_with_details`."""
        options = search_options(
            filter, ef_search, user_id, conversation_id, client_id, include_deleted
        )
        chosen = chosen_fusion(fusion, semantic_weight, bm25_weight, whole(fetch_k, "fetch_k"))
        return _detailed(await self._ado(self._store.hybrid(query, k, options, chosen)))

    def explain(
        self,
        query: str,
        k: int = 4,
        *,
        search_type: str = "hybrid",
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
        fusion: FusionName = "calibrated",
    ) -> Explanation:
        """Run a search and say how it was answered, how well, and what would help.

        Args:
            query: What to look for.
            k: How many, at least 1.
            search_type: ``"similarity"``, ``"bm25"`` or ``"hybrid"``.
            filter: As for the search.
            ef_search: As for the search.
            user_id: As for the search.
            conversation_id: As for the search.
            client_id: As for the search.
            include_deleted: As for the search.
            fusion: As for :meth:`hybrid_search`.

        Returns:
            The indexes used, rows examined, time, recall measured against exact search, and advice.

        Raises:
            NotFound: If the collection doesn't exist.
            InvalidInput: If an option is out of range.
        """
        options = search_options(
            filter, ef_search, user_id, conversation_id, client_id, include_deleted
        )
        chosen = chosen_fusion(fusion)
        return self._do(self._store.explain(query, search_type, k, options, chosen))

    async def aexplain(
        self,
        query: str,
        k: int = 4,
        *,
        search_type: str = "hybrid",
        filter: Filter = None,  # noqa: A002 - LangChain's name
        ef_search: int | None = None,
        user_id: str | None = None,
        conversation_id: int | None = None,
        client_id: str | None = None,
        include_deleted: bool = False,
        fusion: FusionName = "calibrated",
    ) -> Explanation:
        """The asynchronous twin of :meth:`explain`."""
        options = search_options(
            filter, ef_search, user_id, conversation_id, client_id, include_deleted
        )
        chosen = chosen_fusion(fusion)
        return await self._ado(self._store.explain(query, search_type, k, options, chosen))


def scored(hits: Iterable[tuple[Any, ...]]) -> list[tuple[Document, float]]:
    return [(as_document(*hit[:3]), hit[3]) for hit in hits]


def _detailed(rows: list[HybridRow]) -> list[HybridHit]:
    return [
        HybridHit(
            document=as_document(*row[:3]),
            score=row[3],
            semantic_rank=row[4],
            distance=row[5],
            bm25_rank=row[6],
            bm25_score=row[7],
        )
        for row in rows
    ]
