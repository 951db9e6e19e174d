"""From a host's ``config.yaml`` to the vector store that it asks for."""

from __future__ import annotations

import asyncio
import os
import re
import threading
import warnings
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg.conninfo import make_conninfo

from a2rchi_pg._config_file import read_static_config
from a2rchi_pg._data_manager import (
    at,
    collection_of,
    retrieval_of,
    without_effect,
    workers_of,
)
from a2rchi_pg._splitting import default_splitter
from a2rchi_pg.database import Database
from a2rchi_pg.errors import ConfigError
from a2rchi_pg.ingest import VectorStoreManager
from a2rchi_pg.vectorstore import PostgresVectorStore

if TYPE_CHECKING:
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore

    from a2rchi_pg._data_manager import SearchType
    from a2rchi_pg.retriever import PostgresRetriever

_POSTGRES = {"host": "host", "port": "port", "user": "user", "database": "dbname"}
_SPACES = {"cosine": "cosine", "l2": "l2", "inner_product": "ip"}
_BACKENDS = ("postgres", "chroma")
_VARIABLE = re.compile(r"\$\{(\w+)\}|(?:\$|env:)(\w+)")


class VectorstoreConnector:
    """The vector store that a ``config.yaml`` asks for, made once and on first use.

    It reads ``services.vectorstore`` (``backend``: ``postgres`` or ``chroma``, and
    ``distance_metric``), ``services.postgres`` (``host``, ``port``, ``user``, ``database``; the
    password is in ``PG_PASSWORD`` or in the file named by ``PG_PASSWORD_FILE``) and
    ``data_manager``: ``collection_name``, ``embedding_name``, ``embedding_class_map``; for
    ingestion ``chunk_size``, ``chunk_overlap``, ``parallel_workers``; for searches ``retrievers``
    and the older ``num_documents_to_retrieve``, ``use_hybrid_search``, weights and ``bm25``. A key
    among the model's ``kwargs`` is a reference: ``${NAME}``, or ``file:/run/secrets/name``. What
    has no effect here is named in one ``UserWarning``. ``services.chromadb`` alone is the older
    form, and means PostgreSQL by now.

    Args:
        config: The file, or what was read from it.
        embedding: The embedding model; None makes the one that the configuration names.
        database: The database; None opens the one that the configuration names.

    Raises:
        ConfigError: If something in it can't be used; names every field.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any],
        *,
        embedding: Embeddings | None = None,
        database: Database | None = None,
    ) -> None:
        self._config = read_static_config(config)
        services = self._config.services_config
        self._chroma = at(services, "chromadb")
        self._postgres = at(services, "postgres")
        self._spec = collection_of(self._config)
        self._workers = workers_of(self._config)
        retrieval_of(self._config)
        asked = at(services, "vectorstore")
        self._embedding = embedding
        self._database = database
        self._store: VectorStore | None = None
        self._lock = threading.Lock()
        if "chromadb" in services and "backend" not in asked:
            warnings.warn(
                "services.chromadb is deprecated, and vectors are kept in PostgreSQL now: write "
                "services.vectorstore with backend: postgres and distance_metric: "
                f"{self._config.distance_metric} in its place (backend: chroma keeps ChromaDB)",
                DeprecationWarning,
                stacklevel=2,
            )
        if ignored := list(without_effect(self._config)):
            warnings.warn(
                f"settings without effect: {'; '.join(ignored)}", UserWarning, stacklevel=2
            )
        self.backend = _backend(asked.get("backend", "postgres"))

    @property
    def collection_name(self) -> str:
        """The name of the collection."""
        return self._config.collection

    def get_vectorstore(self) -> VectorStore:
        """The store; the same one each time.

        Raises:
            ConfigError: If the embedding model it names can't be made.
        """
        with self._lock:
            if self._store is None:
                model = self._embedding or self._model()
                made = self._in_chroma if self.backend == "chroma" else self._in_postgres
                self._store = made(model)
            return self._store

    async def aget_vectorstore(self) -> VectorStore:
        """The asynchronous twin of :meth:`get_vectorstore`; loads the model in a thread."""
        return await asyncio.to_thread(self.get_vectorstore)

    def get_retriever(self, search_type: SearchType | None = None) -> PostgresRetriever:
        """A retriever with the configuration's number of documents and weights.

        Args:
            search_type: ``"hybrid"``, ``"similarity"`` or ``"bm25"``; None goes by
                ``use_hybrid_search``, and is hybrid where that isn't set.

        Raises:
            ConfigError: If the backend is another, or the embedding model can't be made.
        """
        return self._own_store().as_retriever(**retrieval_of(self._config, search_type))

    async def aget_retriever(self, search_type: SearchType | None = None) -> PostgresRetriever:
        """The asynchronous twin of :meth:`get_retriever`; loads the model in a thread."""
        return await asyncio.to_thread(self.get_retriever, search_type)

    def get_manager(self) -> VectorStoreManager:
        """A manager that splits as the configuration says; paths begin at ``global.DATA_PATH``.

        Raises:
            ConfigError: If the backend is another, or the embedding model can't be made.
        """
        return VectorStoreManager(
            self._own_store(),
            splitter=default_splitter(self._config.chunk_size, self._config.chunk_overlap),
            data_path=self._config.data_path,
            workers=self._workers,
        )

    async def aget_manager(self) -> VectorStoreManager:
        """The asynchronous twin of :meth:`get_manager`; loads the model in a thread."""
        return await asyncio.to_thread(self.get_manager)

    def _own_store(self) -> PostgresVectorStore:
        store = self.get_vectorstore() if self.backend == "postgres" else None
        if not isinstance(store, PostgresVectorStore):
            raise ConfigError({"services.vectorstore.backend": "must be postgres for this"})
        return store

    def _in_postgres(self, model: Embeddings) -> VectorStore:
        database = self._database or Database(self._dsn())
        return PostgresVectorStore(model, database=database, collection=self._spec)

    def _in_chroma(self, model: Embeddings) -> VectorStore:
        import chromadb  # noqa: PLC0415 - an extra
        from chromadb.config import Settings  # noqa: PLC0415 - an extra
        from langchain_chroma import Chroma  # noqa: PLC0415 - an extra

        asked, quiet = self._chroma, Settings(anonymized_telemetry=False)
        if asked.get("use_HTTP_chromadb_client", True):
            host = asked.get("host", asked.get("chromadb_host", "localhost"))
            port = asked.get("port", asked.get("chromadb_port", 8000))
            client = chromadb.HttpClient(host=str(host), port=int(port), settings=quiet)
        else:
            path = asked.get("local_vstore_path", "/root/data/vstore/")
            client = chromadb.PersistentClient(path=str(path), settings=quiet)
        store: VectorStore = Chroma(
            client=client,
            collection_name=self._config.collection,
            embedding_function=model,
            collection_metadata={"hnsw:space": _SPACES[self._config.distance_metric]},
        )
        return store

    def _dsn(self) -> str | None:
        """The database of ``services.postgres``; None leaves it to the environment."""
        given = {
            libpq: self._postgres[key] for key, libpq in _POSTGRES.items() if key in self._postgres
        }
        if not given:
            return None
        password = _password()
        return make_conninfo(**given, **({"password": password} if password else {}))

    def _model(self) -> Embeddings:
        name = self._config.embedding_model
        about = at(self._config.data_manager_config, "embedding_class_map", name)
        where = f"data_manager.embedding_class_map.{name}"
        path = about.get("class")
        if not isinstance(path, str) or "." not in path:
            raise ConfigError(
                {f"{where}.class": "must be module.Class; or give the connector embedding=…"}
            )
        module, _, attribute = path.rpartition(".")
        kwargs = _resolved(at(about, "kwargs"), f"{where}.kwargs")
        try:
            made_by = getattr(import_module(module), attribute)
        except (ImportError, AttributeError, TypeError, ValueError) as error:
            raise ConfigError({f"{where}.class": f"can't be imported: {error}"}) from error
        try:
            return made_by(**kwargs)  # type: ignore[no-any-return]  # the store checks it
        except Exception as error:  # it is the host's, and may quote a key
            raise ConfigError({where: f"can't be made: {type(error).__name__}"}) from error


def _backend(asked: object) -> str:
    """The backend asked for, or PostgreSQL where that isn't installed."""
    if asked not in _BACKENDS:
        accepted = " or ".join(_BACKENDS)
        raise ConfigError({"services.vectorstore.backend": f"must be {accepted}, got {asked!r}"})
    missing = [name for name in ("chromadb", "langchain_chroma") if find_spec(name) is None]
    if asked == "chroma" and missing:
        warnings.warn(
            f"services.vectorstore.backend is chroma, but {' and '.join(missing)} can't be "
            "imported: using postgres. Either pip install 'a2rchi_pg[chroma]' or write backend: "
            "postgres",
            UserWarning,
            stacklevel=3,
        )
        return "postgres"
    return str(asked)


def _resolved(value: Any, where: str) -> Any:
    """A value with what its references mean: ``${NAME}``, ``$NAME``, ``env:NAME``, ``file:/…``."""
    if isinstance(value, Mapping):
        return {key: _resolved(each, f"{where}.{key}") for key, each in value.items()}
    if not isinstance(value, str):
        return value
    if value.startswith("file:/"):
        return _read_secret(value.removeprefix("file:"), where)
    if (match := _VARIABLE.fullmatch(value)) is None:
        return value
    name = match[1] or match[2]
    if (found := os.environ.get(name)) is None:
        raise ConfigError({where: f"the environment has no {name}"})
    return found


def _password() -> str | None:
    if (password := os.environ.get("PG_PASSWORD")) is not None:
        return password
    path = os.environ.get("PG_PASSWORD_FILE")
    return None if path is None else _read_secret(path, "PG_PASSWORD_FILE")


def _read_secret(path: str, where: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError as error:
        raise ConfigError({where: f"can't be read: {error.strerror}"}) from error
