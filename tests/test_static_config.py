"""What is deployed: read from the host's file, without secrets, never changed unnoticed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

from a2rchi_pg import SYSTEM, ConfigRepository, DynamicConfig, StaticConfig
from a2rchi_pg.errors import ConfigError, InvalidInput
from tests.database_support import rows

if TYPE_CHECKING:
    from pathlib import Path

    from a2rchi_pg import Database
    from tests.plugins.stores import NewStore

pytestmark = pytest.mark.timeout(60)
Config = ConfigRepository[DynamicConfig]

FLAT = {"deployment_name": "here", "embedding_model": "m"}
FILE = """
name: here
global: {DATA_PATH: /data/, verbosity: 4, ACCEPTED_FILES: [.txt, .md]}
services:
  postgres: {host: db, port: 5432, user: archi, password: "${PG_PASSWORD}"}
  chat_app:
    agent_class: CMSCompOpsAgent
    default_provider: anthropic
    default_model: claude
    providers:
      anthropic: {models: [claude, claude-small]}
      openai: {models: [gpt-4o]}
    auth: {enabled: false}
  vectorstore: {backend: postgres, distance_metric: inner_product}
data_manager:
  collection_name: docs
  embedding_name: HuggingFaceEmbeddings
  embedding_class_map:
    HuggingFaceEmbeddings: {class: HuggingFaceEmbeddings, kwargs: {model_name: all-MiniLM-L6-v2}}
  chunk_size: 500
  chunk_overlap: 50
  retrievers:
    hybrid_retriever: {num_documents_to_retrieve: 6, bm25_weight: 0.6, semantic_weight: 0.4}
  sources:
    jira: {url: "https://jira.example", token: "env:JIRA_TOKEN"}
    git: {token_file: /run/secrets/git}
archi:
  pipelines: [CMSCompOpsAgent, QAPipeline]
"""


def test_c6_c7_c8_a_deployments_file_is_read_whole(config: Config, fresh: Database, tmp_path: Path):
    (tmp_path / "config.yaml").write_text(FILE)
    loaded = config.load_static_config(tmp_path / "config.yaml")
    assert loaded == config.get_static_config()
    assert (loaded.deployment_name, loaded.data_path) == ("here", "/data/")
    assert loaded.collection == "docs_with_HuggingFaceEmbeddings"
    assert (loaded.distance_metric, loaded.chunk_size, loaded.auth_enabled) == (
        "inner_product",
        500,
        False,
    )
    assert loaded.available_models == [
        "anthropic/claude",
        "anthropic/claude-small",
        "openai/gpt-4o",
    ]
    sections = yaml.safe_load(FILE)
    assert loaded.services_config == sections["services"]
    assert loaded.data_manager_config == sections["data_manager"]
    assert loaded.sources_config == sections["data_manager"]["sources"]
    holds = config.effective()
    assert (holds.active_model, holds.active_pipeline) == ("anthropic/claude", "CMSCompOpsAgent")
    assert (holds.num_documents_to_retrieve, holds.bm25_weight, holds.verbosity) == (6, 0.6, 4)
    config.update_dynamic_config({"active_model": "openai/gpt-4o"}, updated_by=SYSTEM)
    assert config.get_static_config() == loaded
    with pytest.raises(ConfigError) as caught:
        config.update_dynamic_config(
            {"active_model": "x/y", "active_pipeline": "Nothing"}, updated_by=SYSTEM
        )
    assert set(caught.value.fields) == {"active_model", "active_pipeline"}
    assert "anthropic/claude-small" in str(caught.value)


def test_a_preference_is_one_of_the_models_there_are(config: Config, users):
    config.load_static_config(FLAT | {"available_models": ["a/b"]})
    users.get_or_create("ann")
    with pytest.raises(ConfigError, match="a/b"):
        users.update_preferences("ann", {"active_model": "c/d"})
    users.update_preferences("ann", {"active_model": "a/b"})


def test_nobody_keeps_a_model_that_is_no_longer_offered(config: Config, users):
    config.load_static_config(FLAT | {"available_models": ["a/b", "c/d"]})
    config.update_dynamic_config({"active_model": "c/d"}, updated_by=SYSTEM)
    users.get_or_create("ann")
    users.update_preferences("ann", {"active_model": "a/b", "theme": "dark"})
    assert config.effective("ann").active_model == "a/b"
    config.load_static_config(FLAT | {"available_models": ["c/d"]}, redeploy=True)
    assert config.effective("ann").active_model == "c/d"
    assert config.explain("active_model", "ann").layers.keys() == {"dynamic", "default"}
    assert config.effective("ann").theme == "dark"


@pytest.mark.parametrize(
    "change",
    [
        {"services": {"postgres": {"password": "hunter2hunter2"}}},
        {"services": {"x": [{"API-Key": "hunter2hunter2"}]}},
        {"data_manager": {"api_token": "hunter2hunter2"}},
        {"global": {"url": "postgres://me:hunter2hunter2@db/x"}},
        {"archi": {"key": "sk-hunter2hunter2hunter2"}},
        {"archi": {"tokens": ["${FINE}", "hunter2hunter2"]}},
        {"archi": {"key": "sk-proj-hunter2-hunter2_hunter2"}},
        {"archi": {"openaiApiKey": "hunter2", "accessToken": "hunter2", "PGPASSWORD": "hunter2"}},
        {"archi": {"dsn": "host=db password=hunter2"}},
        {"archi": {"Authorization": "Bearer hunter2hunter2hunter2"}},
        {"services": {"postgres": {"password": 20010911}}},
        {"services": {"postgres": {"password": b"hunter2"}}},
        {"archi": {"api_keys": {"hunter2", "hunter2hunter2"}}},
    ],
)
def test_u9_a_secret_is_refused_and_never_repeated(config: Config, change: dict[str, Any]):
    with pytest.raises(ConfigError, match="holds a secret") as caught:
        config.load_static_config({"name": "x", **change})
    assert "hunter2" not in str(caught.value)
    assert "20010911" not in str(caught.value)
    assert config.get_static_config() is None


@pytest.mark.parametrize("value", [b"hunter2", {"hunter2"}])
def test_what_is_no_json_is_refused_and_never_repeated(config: Config, value: Any):
    with pytest.raises(ConfigError, match=r"archi_config\.blob .*: a (bytes|set)") as caught:
        config.load_static_config(FLAT | {"archi_config": {"blob": value}})
    assert "hunter2" not in str(caught.value)


def test_what_only_sounds_like_a_secret_is_kept(config: Config):
    words = {"max_tokens": 50, "pad_token": "<pad>", "tokenizer": "gpt2", "passwordless": "yes"}
    config.load_static_config(FLAT | {"archi_config": words | {"path": "sk-learn/model-selection"}})


def test_references_to_secrets_stay_references(config: Config, fresh: Database):
    config.load_static_config(yaml.safe_load(FILE))
    ((stored,),) = fresh.run(rows("SELECT settings::text FROM static_config"))
    assert "${PG_PASSWORD}" in stored
    assert "env:JIRA_TOKEN" in stored


# A thousand bytes that are 9 to the power of 9 values.
BOMB = "a0: &a0 [x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("a: [", "is not YAML that can be read: see line 1"),
        ("deployment_name: x\nservices: !ENV ${HOST}", "see line 2"),
        ("services: !!python/object/apply:os.getcwd []", "see line 1"),
        ("born: 2024-13-45", "is not YAML"),
        ("size: " + "9" * 5000, "is not YAML"),
        ("a: " + "[" * 5000, "is not YAML"),
        ("archi_config: &a [*a]", "holds more than 100,000 values, or 100 in each other"),
        (BOMB, "holds more than 100,000 values"),
        ("name: x\nservices: 5", "services: must be a mapping"),
        ("services: {chat_app: {providers: {a: {models: abc}}}}", "models: must be a list"),
        ("[1, 2]", "must hold a mapping"),
        ("deployment_name: x\nembedding_model: 7", "embedding_model"),
        ("deployment_name: x\nembedding_model: m\nchunk_size: '5'", "chunk_size"),
        (
            "deployment_name: x\nembedding_model: m\nchunk_size: 5\nchunk_overlap: 5",
            "chunk_overlap",
        ),
        ("deployment_name: x\nembedding_model: m\ndistance_metric: far", "distance_metric"),
        ("deployment_name: x\nembedding_model: m\nanything: 1", "anything"),
        ("deployment_name: x\nembedding_model: m\ndefaults: {temperature: 9, x: 1}", "temperature"),
        ("name: x\nservices: {}", "embedding_model"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(config: Config, tmp_path: Path, text: str, field: str):
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(InvalidInput, match="a path or a mapping"):
        config.load_static_config(7)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=field):
        config.load_static_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        config.load_static_config(tmp_path / "nowhere.yaml")
    assert config.get_static_config() is None


def test_c16_another_deployment_is_an_explicit_one(config: Config, fresh: Database):
    config.load_static_config(FLAT)
    assert config.load_static_config(FLAT) == StaticConfig(**FLAT)
    changed = FLAT | {"chunk_size": 500, "auth_enabled": False}
    with pytest.raises(ConfigError, match="redeploy=True") as caught:
        config.load_static_config(changed)
    assert set(caught.value.fields) == {"chunk_size", "auth_enabled"}
    config.load_static_config(changed, redeploy=True, note="smaller chunks")
    found = config.get_static_config()
    assert found
    assert found.chunk_size == 500
    kept = fresh.run(rows("SELECT revision, note FROM static_config ORDER BY revision"))
    assert kept == [(1, None), (2, "smaller chunks")]


@pytest.mark.parametrize(
    ("change", "field", "was", "now"),
    [
        ({"embedding_model": "other"}, "embedding_model", "m", "other"),
        ({"embedding_dimensions": 384}, "embedding_dimensions", "64", "384"),
        ({"distance_metric": "ip"}, "distance_metric", "cosine", "inner_product"),
        ({"collection": "empty", "embedding_model": "o"}, "embedding_model", "m", "o"),
    ],
)
def test_c16_what_contradicts_the_stored_vectors_is_refused_even_so(
    config: Config, new_store: NewStore, change, field: str, was: str, now: str
):
    store = new_store(embedding_model="m")
    deployed = FLAT | {"collection": store.collection_name}
    config.load_static_config(deployed)
    config.load_static_config(deployed | {"embedding_dimensions": 3}, redeploy=True)
    config.load_static_config(deployed, redeploy=True)
    store.add_texts(["a text"])
    with pytest.raises(ConfigError) as caught:
        config.load_static_config(deployed | change, redeploy=True)
    assert set(caught.value.fields) == {field}
    for told in (repr(was) if field != "embedding_dimensions" else was, now, "reembed("):
        assert told in str(caught.value)
    assert config.load_static_config(
        deployed | {"chunk_size": 7, "chunk_overlap": 0}, redeploy=True
    )


def test_a_collection_filled_anew_is_taken_over(config: Config, new_store: NewStore):
    old, new = new_store(embedding_model="m"), new_store(embedding_model="n")
    for store in (old, new):
        store.add_texts(["a text"])
    config.load_static_config(FLAT | {"collection": old.collection_name})
    after = FLAT | {"collection": new.collection_name, "embedding_model": "n"}
    assert config.load_static_config(after, redeploy=True).embedding_model == "n"


def test_the_first_deployment_is_compared_with_the_vectors_too(config: Config, new_store: NewStore):
    store = new_store(embedding_model="all-MiniLM-L6-v2")
    store.add_texts(["a text"])
    file = yaml.safe_load(FILE)
    file["services"]["vectorstore"]["distance_metric"] = "cosine"
    file["data_manager"]["collection_name"] = "x"
    flat = FLAT | {"collection": store.collection_name}
    with pytest.raises(ConfigError, match="all-MiniLM-L6-v2"):
        config.load_static_config(flat)
    named = {"embedding_class_map": {"m": {"kwargs": {"model_name": "all-MiniLM-L6-v2"}}}}
    config.load_static_config(flat | {"data_manager_config": named})


def test_a_deployment_fits_what_was_set_at_run_time(config: Config):
    config.update_dynamic_config({"active_model": "a/b"}, updated_by=SYSTEM)
    with pytest.raises(ConfigError, match="active_model"):
        config.load_static_config(FLAT | {"available_models": ["c/d"]})
    with pytest.raises(ConfigError, match="sum to 1"):
        config.load_static_config(FLAT | {"defaults": {"bm25_weight": 0.9}})
    config.load_static_config(FLAT | {"available_models": ["c/d", "a/b"]})
