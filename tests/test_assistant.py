"""The example host application, by its requests: what a page of it can do, and what it can't."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from langchain_core.documents import Document
from langchain_core.language_models.fake_chat_models import FakeListChatModel

from a2rchi_pg import ConversationRepository, Database
from examples.assistant.__main__ import kept_secret
from examples.assistant.answering import NEAREST, NOTHING, Extractive
from examples.assistant.chat_models import ChatModel, with_keys
from examples.assistant.sign_in import COOKIE, DAYS, Signer
from tests.assistant_support import QUESTION, assistant, folder, ingest  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from fastapi import FastAPI
    from httpx import AsyncClient

    from a2rchi_pg import KeyRing

    SignIn = Callable[[str | None], Awaitable[AsyncClient]]

pytestmark = pytest.mark.servers("embedded")


@pytest.fixture
async def people(dsn: str, folder: Path, ring: KeyRing) -> AsyncIterator[SignIn]:
    """Signs people in, each in a browser of their own."""
    said = FakeListChatModel(responses=["Three times [1]."])
    app = assistant(dsn, folder, ring, [ChatModel("fake:chat", lambda _: said)])
    async with entrance(app) as enter:
        yield enter


@asynccontextmanager
async def entrance(app: FastAPI) -> AsyncIterator[SignIn]:
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(app.router.lifespan_context(app))

        async def enter(name: str | None) -> AsyncClient:
            transport = httpx.ASGITransport(app=app)
            client = httpx.AsyncClient(transport=transport, base_url="http://localhost")
            await stack.enter_async_context(client)
            if name:
                await ok(client.post("/assistant/session", json={"name": name}))
            return client

        yield enter


async def ok(sent: Awaitable[httpx.Response]) -> Any:
    response = await sent
    assert response.is_success, response.text
    return response.json() if response.content else None


async def conversation(client: AsyncClient) -> str:
    made = await ok(client.post("/api/v2/conversations", json={"title": "Jobs"}))
    return str(made["conversation_id"])


async def ask(client: AsyncClient, id_: str, question: str = QUESTION) -> Any:
    path = f"/assistant/conversations/{id_}/answers"
    return (await ok(client.post(path, json={"content": question})))["answer"]


def cited(answer: Any) -> set[str]:
    return {each["display_name"] for each in answer["citations"]}


async def set_config(client: AsyncClient, revision: int, **settings: Any) -> httpx.Response:
    tag = {"If-Match": f'"{revision}"'}
    return await client.put("/api/v2/config/dynamic", json={"settings": settings}, headers=tag)


async def test_an_answer_is_made_of_the_documents_and_kept_with_what_made_it(
    people: SignIn, dsn: str
):
    ada = await people("ada")
    await ok(set_config(ada, 0, active_model="extractive"))
    id_ = await conversation(ada)
    answer = await ask(ada, id_)
    assert "A failed job is retried three times before it is given up. [" in answer["content"]
    assert {"jobs.md", "old-jobs.md"} <= cited(answer)
    assert (await ask(ada, await conversation(ada), "Xylophone?"))["content"].startswith(NEAREST)
    assert await ok(ada.get(f"/assistant/conversations/{id_}/answers")) == [answer]
    with Database(dsn) as database:
        everything = ConversationRepository(database)
        question, kept = everything.messages.window(int(id_))
        timing = everything.timings.get(kept.message_id)
    assert (question.role, question.model_used) == ("user", None)
    assert (kept.model_used, kept.pipeline_used) == ("extractive", "hybrid-5")
    assert set(kept.link.split()) == {each["resource_hash"] for each in answer["citations"]}
    assert timing is not None
    assert timing.server_received_msg_ts <= timing.similarity_search_ts <= timing.chain_finished_ts


async def test_sentences_are_without_code_and_markup():
    text = (
        "**A job** is [retried](jobs.md) three times.\n\n"
        "```python\njob = retried(times=3)  # a job retried\n```\n\nJobs wait.\n\n"
        "```sh\nretry --job a-job-that-is-retried"
    )
    said = await Extractive().answer("How is a job retried?", [Document(page_content=text)], "ada")
    assert said == "A job is retried three times. [1]"


async def test_a_chat_model_is_what_answers_where_one_is_given(people: SignIn):
    ada = await people("ada")
    answer = await ask(ada, await conversation(ada))
    assert (answer["content"], answer["model_used"]) == ("Three times [1].", "fake:chat")
    refused = await set_config(ada, 0, active_model="no:such")
    assert (refused.status_code, list(refused.json()["fields"])) == (422, ["active_model"])


class OfAProvider(FakeListChatModel):
    """A model that would look for its key in the environment."""

    wrong: bool = False

    @property
    def lc_secrets(self) -> dict[str, str]:
        return {"api_key": "ACME_API_KEY"}

    def _call(self, *args: Any, **kwargs: Any) -> str:
        if self.wrong:
            raise RuntimeError("sk-wrong is not a key")
        return super()._call(*args, **kwargs)


class Keys:
    """Makes models, and remembers what keys they were given."""

    def __init__(self) -> None:
        self.used: list[str | None] = []

    def __call__(self, key: str | None) -> OfAProvider:
        self.used.append(key)
        return OfAProvider(responses=["Three times [1]."], wrong=key == "sk-wrong-0123456789")


@pytest.fixture
def acme(dsn: str, folder: Path, ring: KeyRing) -> Iterator[Callable[[Keys], FastAPI]]:
    """The application with a model of the provider "acme"."""
    with Database(dsn) as database:
        yield lambda keys: assistant(
            dsn, folder, ring, [with_keys("acme:chat", keys, database, ring)]
        )


async def test_a_model_is_asked_with_the_key_of_who_asks(
    acme: Callable[[Keys], FastAPI], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ACME_API_KEY", "sk-deployment")
    keys = Keys()
    async with entrance(acme(keys)) as people:
        ada, eve = await people("ada"), await people("eve")
        await ok(ada.post("/api/v2/user/api-keys/acme", json={"api_key": "sk-0123456789-ada"}))
        for each in (ada, eve):
            await ask(each, await conversation(each))
        assert keys.used[1:] == ["sk-0123456789-ada", "sk-deployment"]  # the first finds out
        (key,) = await ok(ada.get("/api/v2/user/api-keys"))
        assert key["last_used_at"] is not None


async def test_without_a_key_one_is_asked_for(
    acme: Callable[[Keys], FastAPI], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("ACME_API_KEY", raising=False)
    async with entrance(acme(Keys())) as people:
        ada = await people("ada")
        path = f"/assistant/conversations/{await conversation(ada)}/answers"
        refused = await ada.post(path, json={"content": QUESTION})
        assert (refused.status_code, "no key for acme" in refused.text) == (422, True)
        await ok(ada.post("/api/v2/user/api-keys/acme", json={"api_key": "sk-wrong-0123456789"}))
        failed = await ada.post(path, json={"content": QUESTION})
        assert (failed.status_code, "sk-wrong" in failed.text) == (502, False)
        assert failed.json()["detail"] == "acme:chat did not answer: RuntimeError."


async def test_a_document_is_left_out_for_me_and_let_in_here(people: SignIn):
    ada, eve = await people("ada"), await people("eve")
    here, elsewhere, hers = [await conversation(each) for each in (ada, ada, eve)]
    listed = await ok(ada.get("/api/v2/documents", params={"search": "old"}))
    (old,) = [each["resource_hash"] for each in listed["documents"]]
    assert "old-jobs.md" in cited(await ask(ada, here))

    def choices(on: bool) -> dict[str, Any]:
        return {"choices": [{"document": old, "enabled": on}]}

    await ok(ada.put("/api/v2/selection/user", json=choices(False)))
    assert "old-jobs.md" not in cited(await ask(ada, here))
    await ok(ada.put(f"/api/v2/selection/conversations/{here}", json=choices(True)))
    assert "old-jobs.md" in cited(await ask(ada, here))
    assert "old-jobs.md" not in cited(await ask(ada, elsewhere))
    assert "old-jobs.md" in cited(await ask(eve, hers))
    assert (await eve.put("/api/v2/selection/system", json=choices(False))).status_code == 403
    await ok(ada.put("/api/v2/selection/system", json=choices(False)))
    assert "old-jobs.md" not in cited(await ask(eve, hers))


async def test_who_saves_second_is_told_and_what_was_there_comes_back(people: SignIn):
    ada = await people("ada")
    id_ = await conversation(ada)
    assert (await set_config(ada, 0, num_documents_to_retrieve=1)).status_code == 200
    assert len(cited(await ask(ada, id_))) == 1
    assert (await set_config(ada, 0, num_documents_to_retrieve=2)).status_code == 412
    back = ada.post(
        "/api/v2/config/dynamic/rollback", json={"to_revision": 0}, headers={"If-Match": '"1"'}
    )
    assert (await ok(back))["revision"] == 2
    assert len(cited(await ask(ada, id_))) > 1
    schema = await ok(ada.get("/assistant/settings-schema"))
    settings = (await ok(ada.get("/api/v2/config/dynamic")))["settings"]
    assert set(schema["properties"]) == set(settings)
    eve = await people("eve")
    assert (await set_config(eve, 2, num_documents_to_retrieve=3)).status_code == 403


async def test_two_settings_are_compared_and_voted_on_once(people: SignIn):
    ada = await people("ada")
    id_ = await conversation(ada)
    trial = {
        "content": QUESTION,
        "a": {"search": "semantic", "k": 1},
        "b": {"search": "bm25", "k": 2},
    }
    made = await ok(ada.post(f"/assistant/conversations/{id_}/trials", json=trial))
    assert [made[each]["pipeline_used"] for each in "ab"] == ["semantic-1", "bm25-2"]
    path = f"/api/v2/comparisons/{made['comparison_id']}/vote"
    assert (await ok(ada.post(path, json={"preference": "b"})))["pipeline_b"] == "bm25-2"
    assert (await ada.post(path, json={"preference": "a"})).status_code == 409
    (counted,) = await ok(ada.get("/api/v2/analytics/comparisons"))
    assert counted["wins_b"] == 1


async def test_a_key_shows_its_last_four_characters_and_goes(people: SignIn):
    ada = await people("ada")
    path = "/api/v2/user/api-keys"
    await ok(ada.post(f"{path}/openai", json={"api_key": "sk-of-mine-0123456789-7f3a"}))
    (key,) = await ok(ada.get(path))
    assert (key["provider"], key["last_four"]) == ("openai", "7f3a")
    assert "of-mine" not in str(key)
    await ok(ada.delete(f"{path}/openai"))
    assert await ok(ada.get(path)) == []


async def test_only_the_cookie_says_who_asks(people: SignIn):
    """Not a header, not a body, not a cookie of one's own making; and no other site's page."""
    ada, nobody = await people("ada"), await people(None)
    id_ = await conversation(ada)
    paths = ["/api/v2/user/profile", f"/assistant/conversations/{id_}/answers"]
    forged = [
        None,
        Signer("another secret").sign("ada"),
        Signer("s" * 40).sign("ada", now=-86_400 * (DAYS + 1)),
        "YWRh.99999999999.",
    ]
    for cookie in forged:
        headers = {"x-user": "ada", "authorization": "ada"}
        headers |= {"cookie": f"{COOKIE}={cookie}"} if cookie else {}
        for path in paths:
            assert (await nobody.get(path, headers=headers)).status_code == 401, cookie
    eve = await people("eve")
    assert (await eve.get(paths[1])).status_code == 404
    sent = {"content": QUESTION}
    assert (await eve.post(paths[1], json=sent)).status_code == 404
    assert (await ada.post(paths[1], json={**sent, "user_id": "eve"})).status_code == 422
    broken = {"content": b'{"content": "\\ud800"}', "headers": {"content-type": "application/json"}}
    assert (await ada.post(paths[1], **broken)).status_code == 422
    other = await ada.post(paths[1], json=sent, headers={"origin": "http://elsewhere.example"})
    assert other.status_code == 403
    assert (await ada.get("/", headers={"host": "elsewhere.example"})).status_code == 400


async def test_who_comes_first_is_the_admin(people: SignIn):
    ada, eve = await people("ada"), await people("eve")
    assert (await ok(ada.get("/assistant/session")))["is_admin"] is True
    assert (await ok(eve.get("/assistant/session")))["is_admin"] is False
    await ok(eve.delete("/assistant/session"))
    assert (await ok(eve.get("/assistant/session")))["user_id"] is None
    assert (await eve.post("/assistant/session", json={"name": "<b>"})).status_code == 422


async def test_what_is_not_in_the_documents_is_not_answered(people: SignIn):
    ada = await people("ada")
    for hidden in (await ok(ada.get("/api/v2/documents")))["documents"]:
        choice = {"document": hidden["resource_hash"], "enabled": False}
        await ok(ada.put("/api/v2/selection/user", json={"choices": [choice]}))
    answer = await ask(ada, await conversation(ada))
    assert (answer["content"], answer["citations"]) == (NOTHING, [])


def test_a_secret_is_never_empty_and_stays(tmp_path: Path):
    path = tmp_path / "cookies.key"
    path.touch()  # as where the disk was full when it was to be written
    secret = kept_secret(path)
    assert len(secret) > 40
    assert path.stat().st_mode & 0o077 == 0
    assert kept_secret(path) == secret


def test_a_folder_is_ingested_once_and_then_only_what_changed(dsn: str, folder: Path):
    assert ingest(dsn, folder).added == 4
    again = ingest(dsn, folder)
    assert (again.unchanged, again.chunks) == (4, 0)
    (folder / "quota.txt").write_text("Error E1042 is no longer an error.")
    (folder / "pears.html").unlink()
    changed = ingest(dsn, folder)
    assert (changed.updated, changed.removed, changed.unchanged) == (1, 1, 2)
    (folder / "many.md").write_text("\n\n".join(f"Note {n}: {'apple ' * 150}" for n in range(20)))
    assert ingest(dsn, folder).added == 4  # so much that the model is made anew
