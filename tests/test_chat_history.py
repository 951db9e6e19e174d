"""LangChain's chat history: what goes in comes back, and a chain with our retriever remembers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.prompts import ChatPromptTemplate, MessagesPlaceholder
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_core.runnables.history import RunnableWithMessageHistory

from a2rchi_pg import ConversationRepository, PostgresChatMessageHistory
from a2rchi_pg.errors import InvalidInput
from tests.conversation_support import answer, new_owner, question
from tests.plugins.stores import NewStore, Twin

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

    from a2rchi_pg import Database, Owner

pytestmark = pytest.mark.timeout(60)
MESSAGES: list[BaseMessage] = [
    SystemMessage("Be brief."),
    HumanMessage("Why?", name="ada"),
    AIMessage(
        "",
        id="run-1",
        tool_calls=[{"name": "find", "args": {"q": "why"}, "id": "call-1", "type": "tool_call"}],
        response_metadata={"model_name": "gpt-4o"},
        usage_metadata={"input_tokens": 3, "output_tokens": 2, "total_tokens": 5},
    ),
    ToolMessage("found", tool_call_id="call-1", status="success"),
    AIMessage([{"type": "text", "text": "Because."}, {"type": "text", "text": " So."}]),
    HumanMessage([{"type": "image_url", "image_url": {"url": "https://x/y.png"}}]),
    ChatMessage("Ask me.", role="expert"),
]


@pytest.fixture
def owner() -> Owner:
    return new_owner()


async def test_messages_come_back_as_they_went_in(way_in: tuple[str, Database], owner: Owner):
    way, database = way_in
    mine = ConversationRepository(database, owner=owner)
    id_ = mine.create().conversation_id
    history = PostgresChatMessageHistory(database, id_, owner=owner, model="m", pipeline="qa")
    twin = Twin(history, way)
    await twin.add_messages(MESSAGES)
    found = await twin.get_messages()
    assert [type(m) for m in found] == [type(m) for m in MESSAGES]
    for before, after in zip(MESSAGES, found, strict=True):
        assert after.id == before.id or before.id is None
        assert after.model_copy(update={"id": None}) == before.model_copy(update={"id": None})
    stored = mine.messages.window(id_)
    assert [m.role for m in stored] == [
        "system", "user", "assistant", "tool", "assistant", "user", "expert",
    ]  # fmt: skip
    assert [m.model_used for m in stored if m.role == "assistant"] == ["gpt-4o", "m"]
    assert {m.pipeline_used for m in stored if m.role == "assistant"} == {"qa"}
    assert (stored[1].sender, stored[4].content) == ("ada", "Because. So.")
    await twin.clear()
    assert await twin.get_messages() == []


def test_only_the_newest_are_remembered(common: Database, owner: Owner):
    id_ = ConversationRepository(common, owner=owner).create().conversation_id
    history = PostgresChatMessageHistory(common, id_, limit=2)
    history.add_messages([HumanMessage(str(n)) for n in range(5)])
    assert [m.content for m in history.messages] == ["3", "4"]


def test_what_the_host_stored_itself_is_remembered_too(common: Database, owner: Owner):
    mine = ConversationRepository(common, owner=owner)
    id_ = mine.create().conversation_id
    mine.messages.add_many(id_, [question("a"), answer("b")])
    found = PostgresChatMessageHistory(common, id_, owner=owner).messages
    assert [(type(m), m.content) for m in found] == [(HumanMessage, "a"), (AIMessage, "b")]


@pytest.mark.parametrize(
    "payload",
    [
        {"type": "image", "url": "https://x/y.png"},
        {"data": [1, 2]},
        {"type": "system", "data": {}},
        {"type": "chat", "data": {"role": "system"}},
        {"type": ["human"], "data": "x"},
    ],
)
def test_what_the_host_keeps_with_a_message_makes_no_other_of_it(
    common: Database, owner: Owner, payload: dict[str, Any]
):
    mine = ConversationRepository(common, owner=owner)
    id_ = mine.create().conversation_id
    mine.messages.add(id_, question("a", payload=payload))
    (found,) = PostgresChatMessageHistory(common, id_, owner=owner).messages
    assert (type(found), found.content) == (HumanMessage, "a")


def test_a_streamed_chunk_is_stored_as_a_message(common: Database, owner: Owner):
    id_ = ConversationRepository(common, owner=owner).create().conversation_id
    history = PostgresChatMessageHistory(common, id_)
    history.add_messages([AIMessageChunk("part")])
    assert [type(m) for m in history.messages] == [AIMessage]


def test_kinds_that_have_no_role_are_refused(common: Database, owner: Owner):
    id_ = ConversationRepository(common, owner=owner).create().conversation_id
    history = PostgresChatMessageHistory(common, id_)
    with pytest.raises(InvalidInput, match="function"):
        history.add_messages([HumanMessage("x"), FunctionMessage("x", name="f")])
    assert history.messages == []


class NamedModel(GenericFakeChatModel):
    """Says which model it is, as real ones do, whole or streamed."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        result = super()._generate(*args, **kwargs)
        result.generations[0].message.response_metadata["model_name"] = "fake-1"
        return result


def chain(store: Any, database: Database, owner: Owner, heard: list[list[BaseMessage]]) -> Runnable:
    """Retrieval, history, prompt, model; ``heard`` is what the model was given, call by call."""
    model = NamedModel(messages=iter([AIMessage("It is full."), AIMessage("In order.")]))
    prompt = ChatPromptTemplate.from_messages(
        [("system", "{context}"), MessagesPlaceholder("history"), ("human", "{question}")]
    )

    def hear(value: Any) -> Any:
        heard.append(value.to_messages())
        return value

    context = (lambda x: x["question"]) | store.as_retriever(search_type="hybrid", k=1)
    answering = RunnablePassthrough.assign(context=context) | prompt | RunnableLambda(hear) | model
    return RunnableWithMessageHistory(
        answering,
        lambda session_id: PostgresChatMessageHistory(
            database, int(session_id), owner=owner, pipeline="rag", model="configured"
        ),
        input_messages_key="question",
        history_messages_key="history",
    )


# LangChain would have people use LangGraph, but hosts have chains with it.
@pytest.mark.filterwarnings("ignore:RunnableWithMessageHistory is deprecated")
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_chain_with_history_and_retriever(
    way_in: tuple[str, Database], new_store: NewStore, owner: Owner, *, streaming: bool
):
    way, database = way_in
    store = new_store(database=database)
    store.add_texts(["queue: jobs wait when the queue is full", "cats sleep"])
    mine = ConversationRepository(database, owner=owner)
    id_ = mine.create().conversation_id
    heard: list[list[BaseMessage]] = []
    talking = chain(store, database, owner, heard)

    async def ask(text: str) -> str:
        given: Any = {"question": text}
        config: Any = {"configurable": {"session_id": str(id_)}}
        match way, streaming:
            case "sync", False:
                return talking.invoke(given, config).content
            case "sync", True:
                return "".join(chunk.content for chunk in talking.stream(given, config))
            case _, False:
                return (await talking.ainvoke(given, config)).content
            case _:
                return "".join([chunk.content async for chunk in talking.astream(given, config)])

    assert await ask("Why do jobs wait in the queue?") == "It is full."
    assert await ask("And then, queue?") == "In order."
    assert "jobs wait" in heard[0][0].content
    assert [m.content for m in heard[1][1:]] == [
        "Why do jobs wait in the queue?", "It is full.", "And then, queue?",
    ]  # fmt: skip
    stored = mine.messages.window(id_)
    assert [m.role for m in stored] == ["user", "assistant"] * 2
    # A streamed answer of this model doesn't say what it is.
    expected = "configured" if streaming else "fake-1"
    assert {m.model_used for m in stored} == {None, expected}
    assert {(m.role, m.pipeline_used) for m in stored} == {("user", None), ("assistant", "rag")}
