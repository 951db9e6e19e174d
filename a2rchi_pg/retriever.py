"""A LangChain retriever over the store, with BM25 and hybrid search among its search types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.vectorstores import VectorStoreRetriever

if TYPE_CHECKING:
    from collections.abc import Collection

    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document


class PostgresRetriever(VectorStoreRetriever):
    """Documents for a question, best first.

    Args:
        vectorstore: A ``PostgresVectorStore``.
        search_type: ``"similarity"``, ``"mmr"``, ``"similarity_score_threshold"``, ``"bm25"`` or
            ``"hybrid"``.
        search_kwargs: Passed to the search, such as ``{"filter": {…}, "bm25_weight": 0.3}``.
        k: How many documents; overrides ``search_kwargs["k"]``, and is overridden by the ``k`` of a
            call: ``retriever.invoke(question, k=3)``.
    """

    allowed_search_types: ClassVar[Collection[str]] = (
        *VectorStoreRetriever.allowed_search_types,
        "bm25",
        "hybrid",
    )
    k: int | None = None

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options = self._options(kwargs)
        if self.search_type in {"bm25", "hybrid"}:
            return self.vectorstore.search(query, self.search_type, **options)
        return super()._get_relevant_documents(query, run_manager=run_manager, **options)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options = self._options(kwargs)
        if self.search_type in {"bm25", "hybrid"}:
            return await self.vectorstore.asearch(query, self.search_type, **options)
        return await super()._aget_relevant_documents(query, run_manager=run_manager, **options)

    def _options(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        ours = {} if self.k is None else {"k": self.k}
        return {**self.search_kwargs, **ours, **kwargs}
