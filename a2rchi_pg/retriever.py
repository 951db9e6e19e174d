"""A LangChain retriever over the store, with BM25 and hybrid search among its search types."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from langchain_core.documents import BaseDocumentCompressor
from langchain_core.vectorstores import VectorStore, VectorStoreRetriever

from a2rchi_pg._arguments import mapping, number, one_of, only, shown, whole
from a2rchi_pg._options import SEARCHES
from a2rchi_pg.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Collection

    from langchain_core.callbacks import (
        AsyncCallbackManagerForRetrieverRun,
        CallbackManagerForRetrieverRun,
    )
    from langchain_core.documents import Document

DEFAULT_K = 4


class PostgresRetriever(VectorStoreRetriever):
    """Documents for a question, best first.

    Args:
        vectorstore: A ``PostgresVectorStore``.
        search_type: ``"similarity"``, ``"mmr"``, ``"similarity_score_threshold"``, ``"bm25"`` or
            ``"hybrid"``.
        search_kwargs: Passed to the search, such as ``{"filter": {…}, "bm25_weight": 0.3}``; what
            it doesn't take is refused at once.
        k: How many documents; overrides ``search_kwargs["k"]``, and is overridden by the ``k`` of a
            call: ``retriever.invoke(question, k=3)``.
        reranker: Any LangChain document compressor, such as a cross-encoder: it is given
            ``rerank_top_n`` documents, and the first ``k`` of those it returns are the answer.
        rerank_top_n: How many documents are searched for it, at least ``k``.
    """

    allowed_search_types: ClassVar[Collection[str]] = tuple(SEARCHES)
    k: int | None = None
    reranker: BaseDocumentCompressor | None = None
    rerank_top_n: int = 30

    def __init__(self, **kwargs: Any) -> None:
        only(kwargs, list(type(self).model_fields), type(self).__name__)
        super().__init__(**kwargs | _checked(kwargs))

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options, k = self._options(kwargs)
        if self.search_type in {"bm25", "hybrid"}:
            found = self.vectorstore.search(query, self.search_type, **options)
        else:
            found = super()._get_relevant_documents(query, run_manager=run_manager, **options)
        if self.reranker is None:
            return found
        callbacks = run_manager.get_child()
        return list(self.reranker.compress_documents(found, query, callbacks=callbacks))[:k]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **kwargs: Any
    ) -> list[Document]:
        options, k = self._options(kwargs)
        if self.search_type in {"bm25", "hybrid"}:
            found = await self.vectorstore.asearch(query, self.search_type, **options)
        else:
            found = await super()._aget_relevant_documents(
                query, run_manager=run_manager, **options
            )
        if self.reranker is None:
            return found
        callbacks = run_manager.get_child()
        ranked = await self.reranker.acompress_documents(found, query, callbacks=callbacks)
        return list(ranked)[:k]

    def _options(self, kwargs: dict[str, Any]) -> tuple[dict[str, Any], int]:
        """What to search with, and how many documents to return in the end."""
        ours = {} if self.k is None else {"k": self.k}
        options = {**self.search_kwargs, **ours, **kwargs}
        _only_searched(options, self.search_type)
        k = whole(options.get("k", DEFAULT_K), "k")
        if self.reranker is not None:
            options["k"] = max(k, self.rerank_top_n)
        return options, k


def _checked(given: dict[str, Any]) -> dict[str, Any]:
    """A retriever's own arguments as pydantic takes them, which knows no numbers of numpy's."""
    if not isinstance(given.get("vectorstore"), VectorStore):
        raise InvalidInput(
            "vectorstore must be a PostgresVectorStore, got "
            f"{type(given.get('vectorstore')).__name__}"
        )
    search_type = one_of(given.get("search_type", "similarity"), "search_type", SEARCHES)
    options = mapping(given.get("search_kwargs", {}), "search_kwargs")
    _only_searched(options, search_type)
    if search_type == "similarity_score_threshold":
        options["score_threshold"] = number(options.get("score_threshold"), "score_threshold", 0, 1)
    checked: dict[str, Any] = {"search_kwargs": options}
    if given.get("k") is not None:
        checked["k"] = whole(given["k"], "k")
    if "rerank_top_n" in given:
        checked["rerank_top_n"] = whole(given["rerank_top_n"], "rerank_top_n", 1)
    if not isinstance(given.get("reranker"), BaseDocumentCompressor | None):
        raise InvalidInput(
            f"reranker must be a document compressor, got {shown(given['reranker'])}"
        )
    return checked


def _only_searched(options: dict[str, Any], search_type: str) -> None:
    only(options, SEARCHES[search_type], f"a retriever's {search_type!r} search")
