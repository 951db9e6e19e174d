"""Selection: which documents searches see, for everybody, for a user and in a conversation.

Three tiers, of which the narrowest that is set decides: what was chosen for the conversation, what
the user chose as a default, the document's own setting. Only choices are stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg import _choices
from a2rchi_pg._choices import columns, named, of_conversation, of_user
from a2rchi_pg._document_filter import which_documents
from a2rchi_pg._listing import listing
from a2rchi_pg._pages import DocumentPage, ListedDocument, list_documents

if TYPE_CHECKING:
    from a2rchi_pg._choices import Choices, Documents
    from a2rchi_pg._documents import DocumentKey
    from a2rchi_pg._op import Op, Runner


class SelectionRepository:
    """Who sees which documents.

    A document is named by its ``resource_hash``, a string, or by its id, a number. A choice for
    several documents is stored for all of them or for none.

    Args:
        runner: A ``Database``, or a ``Transaction`` of one.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def set_system(self, choices: Choices) -> int:
        """Enable or disable documents for everybody who didn't choose otherwise.

        Args:
            choices: By document, whether searches see it.

        Returns:
            How many documents were named.

        Raises:
            NotFound: If one is unknown or deleted; names up to ten. Nothing was stored.
        """
        return self._runner.run(_choices.set_system(columns(choices)))

    async def aset_system(self, choices: Choices) -> int:
        """The asynchronous twin of :meth:`set_system`."""
        return await self._runner.arun(_choices.set_system(columns(choices)))

    def set_user(self, user_id: str, choices: Choices) -> int:
        """Enable or disable documents for a user.

        Args:
            user_id: The user.
            choices: By document, whether the user's searches see it.

        Returns:
            How many documents were named.

        Raises:
            NotFound: If one is unknown or deleted; names up to ten. Nothing was stored.
        """
        return self._runner.run(_choices.set_user(of_user(user_id) | columns(choices)))

    async def aset_user(self, user_id: str, choices: Choices) -> int:
        """The asynchronous twin of :meth:`set_user`."""
        return await self._runner.arun(_choices.set_user(of_user(user_id) | columns(choices)))

    def set_conversation(
        self,
        conversation_id: int,
        choices: Choices,
        *,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """Enable or disable documents in a conversation.

        Args:
            conversation_id: The conversation.
            choices: By document, whether searches in that conversation see it.
            user_id: Whose conversation it is.
            client_id: The browser it was begun in, which owns it as long as no user does. With
                neither, the caller has seen to whose it is.

        Returns:
            How many documents were named.

        Raises:
            NotFound: If one is unknown or deleted (names up to ten), or there is no such
                conversation, or it is another's. Nothing was stored.
        """
        chosen = of_conversation(conversation_id, user_id, client_id) | columns(choices)
        return self._runner.run(_choices.set_conversation(chosen))

    async def aset_conversation(
        self,
        conversation_id: int,
        choices: Choices,
        *,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """The asynchronous twin of :meth:`set_conversation`."""
        chosen = of_conversation(conversation_id, user_id, client_id) | columns(choices)
        return await self._runner.arun(_choices.set_conversation(chosen))

    def clear_user(self, user_id: str, documents: Documents = None) -> int:
        """Forget what a user chose for these documents, or at all; how many choices that were."""
        return self._runner.run(_choices.clear_user(of_user(user_id) | named(documents)))

    async def aclear_user(self, user_id: str, documents: Documents = None) -> int:
        """The asynchronous twin of :meth:`clear_user`."""
        return await self._runner.arun(_choices.clear_user(of_user(user_id) | named(documents)))

    def clear_conversation(
        self,
        conversation_id: int,
        documents: Documents = None,
        *,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """Forget what was chosen in a conversation for these documents, or at all.

        Returns:
            How many choices that were.

        Raises:
            NotFound: If there is no such conversation, or it is another's.
        """
        chosen = of_conversation(conversation_id, user_id, client_id) | named(documents)
        return self._runner.run(_choices.clear_conversation(chosen))

    async def aclear_conversation(
        self,
        conversation_id: int,
        documents: Documents = None,
        *,
        user_id: str | None = None,
        client_id: str | None = None,
    ) -> int:
        """The asynchronous twin of :meth:`clear_conversation`."""
        chosen = of_conversation(conversation_id, user_id, client_id) | named(documents)
        return await self._runner.arun(_choices.clear_conversation(chosen))

    def effective(
        self,
        user_id: str | None = None,
        conversation_id: int | None = None,
        *,
        client_id: str | None = None,
        enabled: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> DocumentPage:
        """Live documents by name, each with all three tiers, and which of them decides.

        Args:
            user_id: Whose choices count; None means nobody's.
            conversation_id: Which conversation's choices count. Where a user or a client is named,
                one that is another's counts as none.
            client_id: The browser that conversation was begun in, if it is no user's.
            enabled: Only what is seen, or only what isn't.
            limit: How many at most.
            after: The page before's ``next``.
        """
        return self._runner.run(
            _effective(user_id, conversation_id, client_id, enabled, limit, after)
        )

    async def aeffective(
        self,
        user_id: str | None = None,
        conversation_id: int | None = None,
        *,
        client_id: str | None = None,
        enabled: bool | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> DocumentPage:
        """The asynchronous twin of :meth:`effective`."""
        op = _effective(user_id, conversation_id, client_id, enabled, limit, after)
        return await self._runner.arun(op)

    def explain(
        self,
        document: DocumentKey,
        user_id: str | None = None,
        conversation_id: int | None = None,
        *,
        client_id: str | None = None,
    ) -> ListedDocument | None:
        """Whether a document is seen and what decides that; None where there is none, ever.

        ``effective`` says whether, ``decided_by`` what, and the three tiers stand in ``enabled``,
        ``user_default`` and ``conversation_override``.
        """
        return _only(self._runner.run(_explain(document, user_id, conversation_id, client_id)))

    async def aexplain(
        self,
        document: DocumentKey,
        user_id: str | None = None,
        conversation_id: int | None = None,
        *,
        client_id: str | None = None,
    ) -> ListedDocument | None:
        """The asynchronous twin of :meth:`explain`."""
        return _only(
            await self._runner.arun(_explain(document, user_id, conversation_id, client_id))
        )


def _effective(
    user_id: str | None,
    conversation_id: int | None,
    client_id: str | None,
    enabled: bool | None,
    limit: int,
    after: str | None,
) -> Op[DocumentPage]:
    asked = listing(
        user_id=user_id,
        conversation_id=conversation_id,
        client_id=client_id,
        enabled=enabled,
        limit=limit,
        after=after,
    )
    return list_documents(asked)


def _explain(
    document: DocumentKey, user_id: str | None, conversation_id: int | None, client_id: str | None
) -> Op[DocumentPage]:
    asked = listing(
        user_id=user_id,
        conversation_id=conversation_id,
        client_id=client_id,
        named=which_documents(document, None),
        deleted=None,
        limit=1,
        with_total=False,
    )
    return list_documents(asked)


def _only(page: DocumentPage) -> ListedDocument | None:
    return page.documents[0] if page.documents else None
