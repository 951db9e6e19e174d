"""From a config.yaml to a vector store."""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from psycopg.conninfo import conninfo_to_dict

from a2rchi_pg import Collections, Database, PostgresVectorStore
from a2rchi_pg.connector import VectorstoreConnector
from a2rchi_pg.errors import CollectionMismatch, ConfigError
from tests.plugins.stores import WordModel

EXAMPLES = Path(__file__).parent.parent / "examples" / "config"
CHROMA = find_spec("chromadb") is not None and find_spec("langchain_chroma") is not None


def config(**services: Any) -> dict[str, Any]:
    words = {"class": "tests.plugins.stores.WordModel", "kwargs": {"dimensions": 8}}
    return {
        "name": "test",
        "services": services,
        "data_manager": {"embedding_name": "Words", "embedding_class_map": {"Words": words}},
    }


def test_a_store_by_the_configuration(database: Database):
    asked = config(vectorstore={"backend": "postgres", "distance_metric": "l2"})
    connector = VectorstoreConnector(asked, database=database)
    store = connector.get_vectorstore()
    assert store is connector.get_vectorstore()
    assert isinstance(store, PostgresVectorStore)
    collection = store.create_collection()
    assert collection.name == connector.collection_name == "default_collection_with_Words"
    assert (collection.metric, collection.dimensions) == ("l2", 8)
    assert collection.embedding_model == "Words"
    other = VectorstoreConnector(config(), database=database).get_vectorstore()
    with pytest.raises(CollectionMismatch):
        other.add_texts(["metric cosine"])


def test_the_old_section_loads_with_one_warning_that_says_what_to_write(model: WordModel):
    asked = config(chromadb={"chromadb_host": "chromadb"})
    asked["data_manager"]["distance_metric"] = "ip"
    with pytest.warns(DeprecationWarning, match="backend: postgres.*inner_product") as caught:
        connector = VectorstoreConnector(asked, embedding=model)
    assert isinstance(connector.get_vectorstore(), PostgresVectorStore), "and warns no more"
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert connector.backend == "postgres"


def test_where_the_database_is(model: WordModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "password").write_text("it's secret\n")
    monkeypatch.delenv("PG_PASSWORD", raising=False)
    monkeypatch.setenv("PG_PASSWORD_FILE", str(tmp_path / "password"))
    connector = VectorstoreConnector(EXAMPLES / "postgres.yaml", embedding=model)
    store = connector.get_vectorstore()
    assert isinstance(store, PostgresVectorStore)
    assert isinstance(store.database, Database)
    assert conninfo_to_dict(store.database._settings.dsn) == {  # what a server would be asked with
        "host": "localhost", "port": "5432", "user": "archi", "dbname": "archi-db",
        "password": "it's secret",
    }  # fmt: skip
    assert "secret" not in repr(store)
    monkeypatch.setenv("PG_PASSWORD_FILE", "/nowhere")
    with pytest.raises(ConfigError, match="PG_PASSWORD_FILE"):
        VectorstoreConnector(EXAMPLES / "postgres.yaml", embedding=model).get_vectorstore()


def test_chroma_falls_back_to_postgres_where_it_is_missing(
    model: WordModel, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("a2rchi_pg.connector.find_spec", lambda _name: None)
    with pytest.warns(UserWarning, match="chromadb .*using postgres") as caught:
        connector = VectorstoreConnector(EXAMPLES / "chroma.yaml", embedding=model)
    assert (len(caught), caught[0].filename) == (1, __file__)
    assert isinstance(connector.get_vectorstore(), PostgresVectorStore)


@pytest.mark.skipif(not CHROMA, reason="needs the extra chroma")
@pytest.mark.filterwarnings("default")
def test_chroma_works_where_it_is_installed(model: WordModel, tmp_path: Path):
    asked = yaml.safe_load((EXAMPLES / "chroma.yaml").read_text())
    asked["services"]["chromadb"] = {
        "use_HTTP_chromadb_client": False, "local_vstore_path": str(tmp_path)
    }  # fmt: skip
    connector = VectorstoreConnector(asked, embedding=model)
    with pytest.raises(ConfigError, match="must be postgres for this"):
        connector.get_retriever()
    store = connector.get_vectorstore()
    store.add_texts(["the whale", "a fox"])
    assert [each.page_content for each in store.similarity_search("a fox", k=1)] == ["a fox"]


async def test_the_example_needs_no_warning_and_the_twin_does_the_same(model: WordModel):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connector = VectorstoreConnector(EXAMPLES / "postgres.yaml", embedding=model)
    assert await connector.aget_vectorstore() is connector.get_vectorstore()
    assert connector.collection_name == "default_collection_with_HuggingFaceEmbeddings"


def test_what_the_data_manager_says_of_chunks_and_searches(database: Database, tmp_path: Path):
    asked = config()
    asked["global"] = {"DATA_PATH": str(tmp_path)}
    asked["data_manager"] |= {
        "collection_name": "notes", "chunk_size": 40, "chunk_overlap": 0, "parallel_workers": 2,
        "retrievers": {
            "semantic_retriever": {"num_documents_to_retrieve": 3},
            "bm25_retriever": {"num_documents_to_retrieve": 2},
            "hybrid_retriever": {
                "num_documents_to_retrieve": 5, "bm25_weight": 0.6, "semantic_weight": 0.4,
                "bm25_k1": 0.5, "bm25_b": 0.25,
            },
        },
    }  # fmt: skip
    connector = VectorstoreConnector(asked, database=database)
    (tmp_path / "whale.txt").write_text("The whale is a mammal of the sea. " * 20)
    manager = connector.get_manager()
    manager.add_folder(tmp_path)
    assert manager.update_vectorstore().chunks == 20
    collection = Collections(database).get("notes_with_Words")
    assert collection is not None
    assert (collection.k1, collection.b) == (0.5, 0.25)
    hybrid = connector.get_retriever()
    assert (hybrid.search_type, hybrid.k) == ("hybrid", 5)
    assert hybrid.search_kwargs == {"bm25_weight": 0.6, "semantic_weight": 0.4}
    assert len(hybrid.invoke("whale")) == 5
    assert len(connector.get_retriever("similarity").invoke("whale")) == 3
    assert len(connector.get_retriever("bm25").invoke("whale")) == 2


async def test_the_older_form_of_searches(database: Database, model: WordModel):
    asked = config()
    asked["data_manager"] |= {
        "num_documents_to_retrieve": 7, "use_hybrid_search": False, "bm25": {"k1": 0.5, "b": 0.75},
    }  # fmt: skip
    connector = VectorstoreConnector(asked, database=database, embedding=model)
    plain = await connector.aget_retriever()
    assert (plain.search_type, plain.k, plain.search_kwargs) == ("similarity", 7, {})
    assert (await connector.aget_retriever("hybrid")).k == 7
    manager = await connector.aget_manager()
    assert manager.update_vectorstore().added == 0


def test_settings_without_effect_are_named(model: WordModel):
    asked = config()
    about = asked["data_manager"]["embedding_class_map"]["Words"]
    about["query_embedding_instructions"] = "Represent this"
    asked["data_manager"] |= {
        "reset_collection": True, "stemming": {"enabled": True}, "chunk_seize": 5,
        "retrievers": {"hybrid_retriever": {"weight": 1}, "grading": {}}, "sources": {"git": {}},
    }  # fmt: skip
    with pytest.warns(UserWarning, match="without effect") as caught:
        VectorstoreConnector(asked, embedding=model)
    assert (len(caught), caught[0].filename) == (1, __file__)
    for named in (
        "reset_collection", "stemming", "Words.query_embedding_instructions", "chunk_seize",
        "hybrid_retriever.weight", "retrievers.grading",
    ):  # fmt: skip
        assert f"{named}: " in str(caught[0].message)
    assert "sources" not in str(caught[0].message)


def of_manager(**settings: Any) -> dict[str, Any]:
    asked = config()
    asked["data_manager"] |= settings
    return asked


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        (of_manager(chunk_size=10, chunk_overlap=10), "StaticConfig"),
        (of_manager(chunk_size="big"), "chunk_size"),
        (of_manager(parallel_workers=0), "data_manager.parallel_workers"),
        (of_manager(bm25={"k1": 0}), "data_manager"),
        (of_manager(bm25_weight=0.9), "DynamicConfig"),
        (of_manager(num_documents_to_retrieve="all"), "num_documents_to_retrieve"),
        (config(vectorstore={"backend": "faiss"}), "services.vectorstore.backend"),
        (config(vectorstore={"distance_metric": "hamming"}), "distance_metric"),
        (config(postgres={"password": "hunter2"}), "services.postgres.password"),
    ],
)
def test_what_a_configuration_can_not_say(asked: dict[str, Any], named: str):
    with pytest.raises(ConfigError) as caught:
        VectorstoreConnector(asked)
    assert named in " ".join(caught.value.fields)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("path", ["Words", "tests.nowhere.Model", ".Model", "..Model"])
def test_a_model_that_can_not_be_made(path: str):
    asked = config()
    asked["data_manager"]["embedding_class_map"]["Words"]["class"] = path
    with pytest.raises(ConfigError, match=r"embedding_class_map\.Words\.class"):
        VectorstoreConnector(asked).get_vectorstore()


class Keyed(WordModel):
    """A model that asks for a key."""

    def __init__(self, api_key: str) -> None:
        super().__init__()
        if not api_key.startswith("sk-"):
            raise ValueError(f"{api_key} is no key")
        self.key = api_key


def keyed(reference: str) -> VectorstoreConnector:
    asked = config()
    about = {"class": "tests.test_connector.Keyed", "kwargs": {"api_key": reference}}
    asked["data_manager"]["embedding_class_map"]["Words"] = about
    return VectorstoreConnector(asked)


def test_a_models_key_is_where_its_reference_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "key").write_text("sk-kept\n")
    monkeypatch.setenv("A_KEY", "sk-kept")
    for reference in ("${A_KEY}", "$A_KEY", "env:A_KEY", f"file:{tmp_path}/key"):
        store = keyed(reference).get_vectorstore()
        assert store.embeddings.key == "sk-kept"  # type: ignore[union-attr]  # it is a Keyed
    for missing in ("${NO_KEY}", f"file:{tmp_path}/none"):
        with pytest.raises(ConfigError, match=r"Words\.kwargs\.api_key: .*(no NO_KEY|read)"):
            keyed(missing).get_vectorstore()


def test_a_model_that_its_class_refuses_to_make(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("A_KEY", "0123456789")
    with pytest.raises(ConfigError, match=r"map\.Words: can't be made: ValueError") as caught:
        keyed("${A_KEY}").get_vectorstore()
    assert "0123" not in str(caught.value)
