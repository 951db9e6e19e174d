"""The door to A/B comparisons; what its methods do stands in ``_comparisons``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from a2rchi_pg import _comparisons

if TYPE_CHECKING:
    from datetime import datetime

    from a2rchi_pg._comparisons import Candidate, Comparison, ComparisonStats, Preference
    from a2rchi_pg._op import Runner
    from a2rchi_pg._owner import Owner


class Comparisons:
    """A/B comparisons, as :attr:`ConversationRepository.comparisons`."""

    def __init__(self, runner: Runner, owner: Owner | None) -> None:
        self._runner = runner
        self._owner = owner

    def create(
        self,
        user_prompt_message_id: int,
        a: Candidate,
        b: Candidate,
        *,
        is_config_a_first: bool = True,
        max_pending: int | None = None,
    ) -> Comparison:
        """Put two answers to one question side by side.

        Args:
            user_prompt_message_id: The question.
            a: One answer, of the same conversation.
            b: The other.
            is_config_a_first: Whether a is shown first.
            max_pending: How many comparisons of a conversation may wait for a vote; None is any.

        Raises:
            NotFound: If a message isn't there, isn't yours or isn't of that conversation.
            Conflict: If too many wait for a vote already; at the same time, one is made at most.
        """
        op = _comparisons.compare(
            user_prompt_message_id, a, b, first=is_config_a_first, most=max_pending,
            owner=self._owner,
        )  # fmt: skip
        return self._runner.run(op)

    async def acreate(
        self,
        user_prompt_message_id: int,
        a: Candidate,
        b: Candidate,
        *,
        is_config_a_first: bool = True,
        max_pending: int | None = None,
    ) -> Comparison:
        """The asynchronous twin of :meth:`create`."""
        op = _comparisons.compare(
            user_prompt_message_id, a, b, first=is_config_a_first, most=max_pending,
            owner=self._owner,
        )  # fmt: skip
        return await self._runner.arun(op)

    def vote(self, comparison_id: int, preference: Preference) -> Comparison:
        """Say which answer is preferred: ``"a"``, ``"b"``, ``"tie"`` or ``"skip"``. Once.

        Raises:
            NotFound: If there is no such comparison, or it is another's.
            Conflict: If there was a vote already; of several at a time, one counts.
            InvalidInput: If it is another preference.
        """
        return self._runner.run(_comparisons.vote(comparison_id, preference, self._owner))

    async def avote(self, comparison_id: int, preference: Preference) -> Comparison:
        """The asynchronous twin of :meth:`vote`."""
        return await self._runner.arun(_comparisons.vote(comparison_id, preference, self._owner))

    def get(self, comparison_id: int) -> Comparison | None:
        """A comparison, or None."""
        return self._runner.run(_comparisons.get_comparison(comparison_id, self._owner))

    async def aget(self, comparison_id: int) -> Comparison | None:
        """The asynchronous twin of :meth:`get`."""
        return await self._runner.arun(_comparisons.get_comparison(comparison_id, self._owner))

    def of_conversation(
        self, conversation_id: int, *, pending_only: bool = False
    ) -> list[Comparison]:
        """A conversation's comparisons, oldest first; empty where it isn't yours."""
        op = _comparisons.comparisons_of(conversation_id, pending_only, self._owner)
        return self._runner.run(op)

    async def aof_conversation(
        self, conversation_id: int, *, pending_only: bool = False
    ) -> list[Comparison]:
        """The asynchronous twin of :meth:`of_conversation`."""
        op = _comparisons.comparisons_of(conversation_id, pending_only, self._owner)
        return await self._runner.arun(op)

    def delete(self, comparison_id: int) -> bool:
        """Delete a comparison, its messages stay; False where there is none of yours."""
        return self._runner.run(_comparisons.delete_comparison(comparison_id, self._owner))

    async def adelete(self, comparison_id: int) -> bool:
        """The asynchronous twin of :meth:`delete`."""
        return await self._runner.arun(_comparisons.delete_comparison(comparison_id, self._owner))

    def stats(
        self,
        *,
        model_a: str | None = None,
        model_b: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ComparisonStats]:
        """Votes and win rates by pair of models, the most compared first.

        Args:
            model_a: Only comparisons whose a is this model's.
            model_b: Only comparisons whose b is this model's.
            since: Only those made from then on.
            until: Only those made before.
        """
        op = _comparisons.comparison_stats(model_a, model_b, since, until, self._owner)
        return self._runner.run(op)

    async def astats(
        self,
        *,
        model_a: str | None = None,
        model_b: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[ComparisonStats]:
        """The asynchronous twin of :meth:`stats`."""
        op = _comparisons.comparison_stats(model_a, model_b, since, until, self._owner)
        return await self._runner.arun(op)
