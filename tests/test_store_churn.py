"""What was deleted or replaced stands in the way of the BM25 index until VACUUM: not in ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.plugins.stores import ids

if TYPE_CHECKING:
    from tests.plugins.stores import NewStore

pytestmark = [pytest.mark.servers("embedded", "full"), pytest.mark.timeout(120)]


def test_deleted_rows_neither_repeat_nor_crowd_out_others(new_store: NewStore):
    store = new_store()
    store.add_texts([f"hay number {n}" for n in range(2000)])
    store.add_texts(["needle"] * 300, ids=[f"old {n}" for n in range(300)])
    store.delete([f"old {n}" for n in range(300)])
    store.add_texts(["a needle", "a needle and hay"], ids=["1", "2"])
    for k in (1, 2, 5, 10):
        assert ids(store.bm25_search("needle", k=k)) == ["1", "2"][:k]
    details = store.hybrid_search_with_details("needle", k=4)
    assert {hit.document.id: hit.bm25_rank for hit in details if hit.bm25_rank} == {"1": 1, "2": 2}
