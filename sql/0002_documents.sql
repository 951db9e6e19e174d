-- The catalog: what is known about each document, whether or not it has been indexed.

CREATE TABLE documents (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    resource_hash      text NOT NULL UNIQUE CHECK (resource_hash <> ''),
    display_name       text NOT NULL,
    source_type        text NOT NULL DEFAULT 'unknown'
        CHECK (source_type IN ('local_files', 'web', 'ticket', 'git', 'sso', 'unknown')),
    url                text,
    ticket_id          text,
    git_repo           text,
    git_commit         text,
    suffix             text,
    mime_type          text,
    size_bytes         bigint CHECK (size_bytes >= 0),
    file_path          text,
    original_path      text,
    base_path          text,
    relative_path      text,
    metadata           jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(metadata) = 'object'),
    content_hash       text,
    enabled            boolean NOT NULL DEFAULT true,
    source_created_at  timestamptz,
    source_modified_at timestamptz,
    ingested_at        timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    deleted_at         timestamptz
);
COMMENT ON TABLE documents IS 'The catalog: one row per source document.';
COMMENT ON COLUMN documents.resource_hash IS 'Identity of the source (not of its content).';
COMMENT ON COLUMN documents.content_hash IS 'Fingerprint of the content last seen.';
COMMENT ON COLUMN documents.enabled IS 'System tier of document selection.';
COMMENT ON COLUMN documents.deleted_at IS 'Soft deletion; NULL while the document is live.';

CREATE INDEX documents_source_type ON documents (source_type) WHERE deleted_at IS NULL;
CREATE INDEX documents_metadata ON documents USING gin (metadata jsonb_path_ops);
-- Search asks for the few that are deleted, never for the many that are not.
CREATE INDEX documents_deleted ON documents (id) WHERE deleted_at IS NOT NULL;

INSERT INTO schema_migrations (number, name) VALUES (2, '0002_documents.sql');
