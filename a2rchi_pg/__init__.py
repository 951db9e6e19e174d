"""One PostgreSQL 17 as the whole data layer of a RAG application.

>>> from a2rchi_pg import Database, PostgresVectorStore
>>> with Database.embedded("./data") as database:
...     store = PostgresVectorStore(model, database=database)
...     store.add_texts(["Paris is in France."])
...     store.hybrid_search("capital of France")
"""

import lazy_loader

# numpy, psycopg and LangChain take half a second: whoever wants one name waits for its needs alone.
_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415 - reads a file; most never ask

        return version("a2rchi_pg")
    return _load(name)
