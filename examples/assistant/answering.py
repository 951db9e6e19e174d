"""Answers from passages: their best sentences."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol

from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from langchain_core.documents import Document

NOTHING = "I found nothing about that in the documents you have switched on."
NEAREST = "No sentence has these words in it; this is the nearest passage:"
CODE = re.compile(r"^```\w.*?(^```\s*$|\Z)", re.MULTILINE | re.DOTALL)
MARKUP = re.compile(r"\*\*|\[([^\]]+)\]\([^)]*\)")  # bold type, links
NO_SENTENCE = re.compile(r"^(#|>>>|\.\.\. |```).*$", re.MULTILINE)  # headings, code
SENTENCE = re.compile(r"(?<=[.!?])\s+(?=[\"'(\w])|\n\s*\n|\n(?=\s*[-*#>])")
WORTH_SAYING = 0.4  # of the best sentence's score
SHORTEST, LONGEST = 20, 400  # characters of a sentence that says something


class Answerer(Protocol):
    """Whatever answers a question from passages, and cites them as [1], [2] …."""

    name: str

    async def answer(self, question: str, passages: Sequence[Document], user_id: str) -> str:
        """The answer, with the numbers of the passages it is from."""
        ...


@dataclass(frozen=True)
class Extractive:
    """The sentences that share the most with the question, the rarer a word the more."""

    name: str = "extractive"
    sentences: int = 4

    async def answer(
        self,
        question: str,
        passages: Sequence[Document],
        user_id: str,  # noqa: ARG002 - sentences are the same for everybody
    ) -> str:
        """The best sentences, in the order of their passages."""
        found = list(dict.fromkeys(chain.from_iterable(map(_sentences, numbered(passages)))))
        if not found:
            return NOTHING
        words = [frozenset(_stems(text)) for _, text in found]
        frequency = Counter(chain.from_iterable(words))
        asked = frozenset(_stems(question))
        scores = [
            sum(math.log1p(len(found) / frequency[word]) for word in own & asked)
            / math.sqrt(8 + len(own))
            / (1 + 0.15 * (number - 1))  # what was found first is more likely to be it
            for own, (number, _) in zip(words, found, strict=True)
        ]
        ranked = sorted(range(len(found)), key=lambda each: -scores[each])
        if not scores[ranked[0]]:
            number, text = found[0]
            return f"{NEAREST}\n\n{text} [{number}]"
        enough = scores[ranked[0]] * WORTH_SAYING
        best = sorted(each for each in ranked[: self.sentences] if scores[each] >= enough)
        return "\n\n".join(f"{found[each][1]} [{found[each][0]}]" for each in best)


def numbered(passages: Sequence[Document]) -> Iterator[tuple[int, Document]]:
    """Passages by the numbers that answers cite them by."""
    return enumerate(passages, 1)


def _sentences(passage: tuple[int, Document]) -> Iterator[tuple[int, str]]:
    number, document = passage
    prose = NO_SENTENCE.sub("\n\n", CODE.sub("\n\n", document.page_content))
    for sentence in SENTENCE.split(MARKUP.sub(r"\1", prose)):
        text = re.sub(r"\s+", " ", sentence).strip(" #*->")
        if len(text) >= SHORTEST:
            yield number, text if len(text) <= LONGEST else f"{text[:LONGEST].rsplit(' ', 1)[0]} …"


def _stems(text: str) -> Iterator[str]:
    """Words without their commonest endings: enough to let "queued" meet "queues"."""
    for word in re.findall(r"\w{2,}", text.lower()):
        if word not in ENGLISH_STOP_WORDS:
            yield re.sub(r"(?<=\w{3})(ings?|e?[sd]|er|e)$", "", word)
