"""Nobody, whoever it belongs to, somebody else and an admin, at every endpoint about one's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from a2rchi_pg import (
    Candidate,
    CatalogRepository,
    ConversationRepository,
    DocumentSpec,
    NewMessage,
    Owner,
)
from tests.api_support import Api, ada, api, boss, eve  # noqa: F401, TC001 - fixtures

if TYPE_CHECKING:
    from httpx import AsyncClient

    from a2rchi_pg import Database

pytestmark = pytest.mark.servers("embedded")


@pytest.fixture
def own(api: Api, common: Database) -> dict[str, int]:
    """Ids of what is Ada's, by the names that paths have for them."""
    mine = ConversationRepository(common, owner=Owner(user_id="ada"))
    id_ = mine.create("Queues").conversation_id
    said = [("user", "Why?"), ("assistant", "So."), ("assistant", "Or so.")]
    question, a, b = mine.messages.add_many(
        id_, [NewMessage(role=role, content=content) for role, content in said]
    )
    mine.feedback.react(a, "like")
    compared = mine.comparisons.create(question, Candidate(message_id=a), Candidate(message_id=b))
    document = CatalogRepository(common).upsert(
        DocumentSpec(resource_hash="jobs", display_name="Jobs", source_type="web")
    )
    return {
        "conversation_id": id_,
        "message_id": a,
        "comparison_id": compared.comparison_id,
        "question": question,
        "b": b,
        "document": document.id,
    }


def requests(own: dict[str, int]) -> list[tuple[str, str, object]]:
    """Every request about something that belongs to somebody; what deletes comes last."""
    talk, said, both = (
        f"/conversations/{own['conversation_id']}",
        f"/messages/{own['message_id']}",
        f"/comparisons/{own['comparison_id']}",
    )
    hide = {"choices": [{"document": own["document"], "enabled": False}]}
    rivals = {"a": {"message_id": own["message_id"]}, "b": {"message_id": own["b"]}}
    return [
        ("GET", talk, None),
        ("PATCH", talk, {"title": "Jobs"}),
        ("GET", f"{talk}/messages", None),
        ("POST", f"{talk}/messages", {"content": "And why so late?"}),
        ("GET", f"{talk}/comparisons", None),
        ("GET", f"/selection?conversation_id={own['conversation_id']}", None),
        ("GET", f"/documents?conversation_id={own['conversation_id']}", None),
        ("PUT", f"/selection{talk}", hide),
        ("DELETE", f"/selection{talk}", None),
        ("POST", "/search", {"query": "why", "conversation_id": own["conversation_id"]}),
        ("GET", said, None),
        ("GET", f"{said}/feedback", None),
        ("POST", f"{said}/feedback", {"feedback": "comment", "text": "Well said."}),
        ("DELETE", f"{said}/feedback", None),
        ("POST", "/comparisons", {"user_prompt_message_id": own["question"], **rivals}),
        ("GET", both, None),
        ("POST", f"{both}/vote", {"preference": "tie"}),
        ("DELETE", talk, None),
    ]


async def test_what_is_ones_own_is_nobody_elses_not_even_an_admins(
    api: Api, ada: AsyncClient, eve: AsyncClient, boss: AsyncClient, own: dict[str, int]
):
    nobody, nameless = await api.as_user(None), await api.as_user("")
    for method, path, body in requests(own):
        for client, status in ((nobody, 401), (nameless, 401), (eve, 404), (boss, 404)):
            refused = await client.request(method, path, json=body)
            assert refused.status_code == status, (method, path)
            assert refused.json()["status"] == status
        allowed = await ada.request(method, path, json=body)
        assert allowed.is_success, (method, path, allowed.text)


def test_no_endpoint_about_ones_own_is_left_out(api: Api, own: dict[str, int]):
    tried = {(method.lower(), path.split("?")[0]) for method, path, _ in requests(own)}
    for path, methods in api.app.openapi()["paths"].items():
        filled = path.removeprefix("/api/v2")
        for name, id_ in own.items():
            filled = filled.replace(f"{{{name}}}", str(id_))
        if filled != path.removeprefix("/api/v2") and "{" not in filled:
            assert {(method, filled) for method in methods} <= tried
