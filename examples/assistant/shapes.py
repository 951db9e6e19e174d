"""What the page sends and gets beyond what the router has."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from a2rchi_pg import DynamicConfig, Message

Search = Literal["hybrid", "semantic", "bm25"]


class AssistantConfig(DynamicConfig):
    """What is set at run time: the package's settings, with what fits this application."""

    active_model: Annotated[str, Field(min_length=1, max_length=200)] = "extractive"
    num_documents_to_retrieve: Annotated[int, Field(ge=1, le=100)] = 5


class Sent(BaseModel):
    """A body, without fields that nobody knows."""

    model_config = ConfigDict(extra="forbid")


class Question(Sent):
    """What is asked; how it is answered is for the settings to say."""

    content: Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"\S")]


class Setting(Sent):
    """One way of answering."""

    search: Search = "hybrid"
    k: Annotated[int, Field(ge=1, le=100)] = 5
    model: Annotated[str, Field(min_length=1, max_length=200)] = "extractive"
    semantic_weight: Annotated[float, Field(ge=0, le=1)] = 0.7

    @classmethod
    def of(cls, config: DynamicConfig) -> Self:
        """What the settings of whoever asks say."""
        return cls(
            search="hybrid" if config.use_hybrid_search else "semantic",
            k=config.num_documents_to_retrieve,
            model=config.active_model,
            semantic_weight=config.semantic_weight,
        )


class Trial(Question):
    """A question for two settings."""

    a: Setting
    b: Setting


class Citation(BaseModel):
    """A passage that an answer is from."""

    number: int
    resource_hash: str
    display_name: str
    excerpt: str


class Answer(BaseModel):
    """An answer with its sources, and what really gave it."""

    message_id: int
    content: str
    model_used: str | None
    pipeline_used: str | None
    seconds: float
    citations: list[Citation]

    @classmethod
    def stored(cls, message: Message) -> Self:
        """An answer given before."""
        return cls(
            message_id=message.message_id,
            content=message.content,
            model_used=message.model_used,
            pipeline_used=message.pipeline_used,
            **(message.payload or {"seconds": 0, "citations": []}),
        )


class Answered(BaseModel):
    """What became of a question."""

    question_id: int
    answer: Answer


class Compared(BaseModel):
    """Two answers; which setting gave which is for the page to hide until there is a vote."""

    question_id: int
    comparison_id: int
    is_config_a_first: bool
    a: Answer
    b: Answer
