-- Which documents a search may see: a document's own setting (documents.enabled) for everybody, a
-- user's for that user, a conversation's for that conversation. The narrowest that is set decides.
-- A row stands only where somebody chose, so these tables hold what differs and no more.

CREATE TABLE user_document_selection (
    user_id     text NOT NULL REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE,
    document_id bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
    enabled     boolean NOT NULL,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, document_id) INCLUDE (enabled)
);
COMMENT ON TABLE user_document_selection IS 'User tier of document selection.';
CREATE INDEX user_document_selection_document ON user_document_selection (document_id);

CREATE TABLE conversation_document_selection (
    conversation_id bigint NOT NULL REFERENCES conversation_metadata ON DELETE CASCADE,
    document_id     bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
    enabled         boolean NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (conversation_id, document_id) INCLUDE (enabled)
);
COMMENT ON TABLE conversation_document_selection IS 'Conversation tier of document selection.';
CREATE INDEX conversation_document_selection_document
    ON conversation_document_selection (document_id);

INSERT INTO schema_migrations (number, name) VALUES (9, '0009_selection.sql');
