"""The one thing that the ready-made router leaves to its host: answering a question."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from a2rchi_pg import Candidate, ConversationRepository, NewMessage, Owner, Timestamps
from examples.assistant.shapes import Answer, Answered, Citation, Compared, Setting

if TYPE_CHECKING:
    from collections.abc import Mapping

    from langchain_core.documents import Document

    from a2rchi_pg import ConfigRepository, Database, PostgresVectorStore
    from examples.assistant.answering import Answerer
    from examples.assistant.shapes import AssistantConfig, Trial

EXCERPT = 700  # characters of a passage that a citation shows


@dataclass(frozen=True)
class Assistant:
    """Searches what the person who asks may see, and answers from it.

    Attributes:
        answerers: By the name that the settings know them by; the first stands in for one that is
            no longer there.
    """

    database: Database
    store: PostgresVectorStore
    config: ConfigRepository[AssistantConfig]
    answerers: Mapping[str, Answerer]

    async def ask(self, user_id: str, conversation_id: int, question: str) -> Answered:
        """Answer as the settings of this person say."""
        received = datetime.now(UTC)
        setting = Setting.of(await self.config.aeffective(user_id))
        asked = await self._said(user_id, conversation_id, question)
        answer = await self._answer(user_id, conversation_id, question, setting, received)
        return Answered(question_id=asked, answer=answer)

    async def compare(self, user_id: str, conversation_id: int, trial: Trial) -> Compared:
        """Answer in two ways at once, for a vote."""
        received = datetime.now(UTC)
        asked = await self._said(user_id, conversation_id, trial.content)
        a, b = await asyncio.gather(
            self._answer(user_id, conversation_id, trial.content, trial.a, received),
            self._answer(user_id, conversation_id, trial.content, trial.b, received),
        )
        made = await self._of(user_id).comparisons.acreate(
            asked,
            Candidate(message_id=a.message_id),
            Candidate(message_id=b.message_id),
            is_config_a_first=secrets.choice([True, False]),
        )
        return Compared(
            question_id=asked,
            comparison_id=made.comparison_id,
            is_config_a_first=made.is_config_a_first,
            a=a,
            b=b,
        )

    async def answers(self, user_id: str, conversation_id: int) -> list[Answer]:
        """The newest answers of a conversation with their sources, oldest first."""
        said = await self._of(user_id).messages.awindow(conversation_id, limit=200)
        return [Answer.stored(each) for each in said if each.role == "assistant"]

    async def _said(self, user_id: str, conversation_id: int, question: str) -> int:
        new = NewMessage(role="user", content=question)
        return await self._of(user_id).messages.aadd(conversation_id, new)

    async def _answer(
        self,
        user_id: str,
        conversation_id: int,
        question: str,
        setting: Setting,
        received: datetime,
    ) -> Answer:
        """Search, think, store: no connection is held in between."""
        passages = await self._search(user_id, conversation_id, question, setting)
        searched = datetime.now(UTC)
        answerer = self.answerers.get(setting.model) or next(iter(self.answerers.values()))
        content = await answerer.answer(question, passages, user_id)
        finished = datetime.now(UTC)
        answer = Answer(
            message_id=0,
            content=content,
            model_used=answerer.name,
            pipeline_used=f"{setting.search}-{setting.k}",
            seconds=(finished - received).total_seconds(),
            citations=[_citation(*each) for each in enumerate(passages, 1)],
        )
        times = Timestamps(
            server_received_msg_ts=received,
            similarity_search_ts=searched,
            chain_finished_ts=finished,
            server_response_msg_ts=finished,
        )
        return await self._stored(user_id, conversation_id, answer, times)

    async def _search(
        self, user_id: str, conversation_id: int, question: str, setting: Setting
    ) -> list[Document]:
        who = {"user_id": user_id, "conversation_id": conversation_id}
        match setting.search:
            case "semantic":
                return await self.store.asimilarity_search(question, setting.k, **who)
            case "bm25":
                found = await self.store.abm25_search(question, setting.k, **who)
            case "hybrid":
                weights = {
                    "semantic_weight": setting.semantic_weight,
                    "bm25_weight": 1 - setting.semantic_weight,
                }
                found = await self.store.ahybrid_search(question, setting.k, **weights, **who)
        return [document for document, _ in found]

    async def _stored(
        self, user_id: str, conversation_id: int, answer: Answer, times: Timestamps
    ) -> Answer:
        """The answer, kept together with its timing or not at all."""
        shown = answer.model_dump(mode="json", include={"seconds", "citations"})
        new = NewMessage(
            role="assistant",
            content=answer.content,
            model_used=answer.model_used,
            pipeline_used=answer.pipeline_used,
            link=" ".join(dict.fromkeys(each.resource_hash for each in answer.citations)),
            context="\n\n".join(each.excerpt for each in answer.citations),
            payload=shown,
        )
        async with self.database.transaction() as together:
            mine = ConversationRepository(together, owner=Owner(user_id=user_id))
            id_ = await mine.messages.aadd(conversation_id, new)
            await mine.timings.arecord(id_, times)
        return answer.model_copy(update={"message_id": id_})

    def _of(self, user_id: str) -> ConversationRepository:
        return ConversationRepository(self.database, owner=Owner(user_id=user_id))


def _citation(number: int, document: Document) -> Citation:
    return Citation(
        number=number,
        resource_hash=document.metadata["resource_hash"],
        display_name=document.metadata["display_name"],
        excerpt=document.page_content[:EXCERPT],
    )
