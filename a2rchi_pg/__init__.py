"""One PostgreSQL 17 as the whole data layer of a RAG application."""
