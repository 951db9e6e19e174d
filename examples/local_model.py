"""An embedding model that needs no download and no key: what the examples use."""

from __future__ import annotations

import hashlib
from typing import Any

from langchain_core.embeddings import Embeddings
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize


class LatentSemantics(Embeddings):
    """TF-IDF folded into 256 dimensions, fitted on the texts; any model of LangChain's would do."""

    def __init__(self, texts: list[str], state: str) -> None:
        self.words = TfidfVectorizer(sublinear_tf=True, stop_words="english")
        weights = self.words.fit_transform(texts)
        svd = TruncatedSVD(min(256, *weights.shape), random_state=0).fit(weights)
        self.axes = svd.components_.T.copy()  # in the order that the product reads it
        self.fitted_on, self.state = len(texts), state

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """A vector of length 1 for each text."""
        folded = self.words.transform(texts) @ self.axes
        return normalize(folded + 1e-9).tolist()  # where no word is known, some direction

    def embed_query(self, text: str) -> list[float]:
        """The vector of a question."""
        return self.embed_documents([text])[0]


def digest(*parts: Any) -> str:
    """A short name for something long."""
    return hashlib.sha256(repr(parts).encode(errors="replace")).hexdigest()[:24]
