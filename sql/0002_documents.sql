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
    deleted_at         timestamptz,
    -- A site without user names and passwords, a repository, a ticket project.
    origin             text NOT NULL GENERATED ALWAYS AS (left(coalesce(
        CASE source_type
            WHEN 'git' THEN coalesce(git_repo, substring(url FROM '^[^:/?#]+://[^/?#]+/[^/?#]+/[^/?#]+'))
            WHEN 'ticket' THEN coalesce(metadata ->> 'project', substring(ticket_id FROM '^(.+)-[^-]*$'),
                metadata ->> 'ticket_provider')
            WHEN 'local_files' THEN 'Local files'
            ELSE lower(substring(url FROM '^[^:/?#]+://')
                || substring(url FROM '^[^:/?#]+://(?:[^/?#]*@)?([^/?#]+)'))
        END, 'unknown'), 200)) STORED,
    search_text        text NOT NULL GENERATED ALWAYS AS (left(
        display_name || ' ' || source_type || coalesce(' ' || url, '') || coalesce(' ' || ticket_id, '')
        || coalesce(' ' || git_repo, '') || coalesce(' ' || relative_path, '')
        || coalesce(' ' || original_path, '') || coalesce(' ' || file_path, '') || ' '
        || jsonb_path_query_array(metadata,
            'strict $.** ? (@.type() == "string" || @.type() == "number")')::text, 8000)) STORED
);
COMMENT ON TABLE documents IS 'The catalog: one row per source document.';
COMMENT ON COLUMN documents.resource_hash IS 'Identity of the source (not of its content).';
COMMENT ON COLUMN documents.content_hash IS 'Fingerprint of the content last seen.';
COMMENT ON COLUMN documents.enabled IS 'System tier of document selection.';
COMMENT ON COLUMN documents.deleted_at IS 'Soft deletion; NULL while the document is live.';
COMMENT ON COLUMN documents.ingested_at IS 'When the content was last collected.';
COMMENT ON COLUMN documents.created_at IS 'When the catalog first heard of it.';
COMMENT ON COLUMN documents.updated_at IS 'When this row last changed.';
COMMENT ON COLUMN documents.origin IS 'Where it comes from, for grouping: a site, a repository …';
COMMENT ON COLUMN documents.search_text IS 'What free text is looked for in: search_documents().';

CREATE INDEX documents_metadata ON documents USING gin (metadata jsonb_path_ops);
-- Search asks for the few that are hidden, never for the many that are not.
CREATE INDEX documents_hidden ON documents (id) INCLUDE (enabled, deleted_at)
    WHERE NOT enabled OR deleted_at IS NOT NULL;

-- One for each order that listings come in, and one for all there is to count.
CREATE INDEX documents_name ON documents (lower(left(display_name, 200)), id)
    WHERE deleted_at IS NULL;
CREATE INDEX documents_added ON documents (created_at, id) WHERE deleted_at IS NULL;
CREATE INDEX documents_modified
    ON documents (coalesce(source_modified_at, source_created_at, ingested_at, created_at), id)
    WHERE deleted_at IS NULL;
CREATE INDEX documents_size ON documents (coalesce(size_bytes, 0), id) WHERE deleted_at IS NULL;
CREATE INDEX documents_live ON documents (source_type, origin, id)
    INCLUDE (size_bytes, enabled, ingested_at, suffix, mime_type) WHERE deleted_at IS NULL;
CREATE INDEX documents_ticket ON documents (ticket_id) WHERE ticket_id IS NOT NULL;
CREATE INDEX documents_repository ON documents (git_repo) WHERE git_repo IS NOT NULL;
-- No B-tree takes a URL of three thousand characters, and there are such.
CREATE INDEX documents_url ON documents USING hash (url);

-- Words without punctuation: the parser would keep URLs, paths and hyphenated words whole.
CREATE FUNCTION document_words(search_text text) RETURNS tsvector
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$ SELECT to_tsvector('simple', regexp_replace(search_text, '[^[:alnum:]]+', ' ', 'g')) $$;
COMMENT ON FUNCTION document_words(text) IS
    'The words of a text, without punctuation, as they are indexed.';

CREATE FUNCTION build_catalog_indexes() RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_trgm') THEN
        CREATE INDEX IF NOT EXISTS documents_trigrams
            ON documents USING gin (search_text gin_trgm_ops);
    ELSE
        CREATE INDEX IF NOT EXISTS documents_words
            ON documents USING gin (document_words(search_text));
    END IF;
END
$$;
COMMENT ON FUNCTION build_catalog_indexes() IS
    'Indexes the catalog for free text; run again after installing pg_trgm.';

SELECT build_catalog_indexes();

-- The documents in which every word of the query is found: anywhere inside words where pg_trgm is,
-- and if there are none then those that nearly hold them; else at the start of words. The score is
-- how much of the name the words make up: the whole text of every hit would take seconds to rank.
CREATE FUNCTION search_documents(query text) RETURNS TABLE (document_id bigint, score real)
    LANGUAGE plpgsql STABLE ROWS 100
    SET enable_seqscan = off  -- it would take every document's text apart
AS $$
DECLARE
    words text[] := array_remove(regexp_split_to_array(lower(query), '\s+'), '');
    wanted tsquery;
    threshold text;
    ranked text := 'SELECT id, (SELECT coalesce(sum(length(word)), 0)::real FROM unnest($1) AS word
            WHERE strpos(lower(display_name), word) > 0) / greatest(length(display_name), 1)::real
        FROM documents WHERE ';
BEGIN
    IF words = '{}' THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM pg_index JOIN pg_class ON oid = indexrelid
            WHERE indrelid = 'documents'::regclass AND relname = 'documents_trigrams') THEN
        RETURN QUERY EXECUTE ranked || (
            SELECT string_agg(format('search_text ILIKE %L',
                '%' || regexp_replace(word, '([\\%_])', '\\\1', 'g') || '%'), ' AND ')
            FROM unnest(words) AS word) USING words;
        IF NOT FOUND THEN
            -- Only a superuser could SET this with the function where pg_trgm is missing.
            threshold := current_setting('pg_trgm.word_similarity_threshold');
            PERFORM set_config('pg_trgm.word_similarity_threshold', '0.5', true);
            RETURN QUERY EXECUTE 'SELECT id, word_similarity($1, search_text) FROM documents WHERE '
                || (SELECT string_agg(format('%L <%% search_text', word), ' AND ')
                    FROM unnest(words) AS word) USING query;
            PERFORM set_config('pg_trgm.word_similarity_threshold', threshold, true);
        END IF;
        RETURN;
    END IF;
    wanted := to_tsquery('simple', (SELECT string_agg(word || ':*', ' & ')
        FROM regexp_split_to_table(query, '[^[:alnum:]]+') AS word WHERE word <> ''));
    RETURN QUERY EXECUTE ranked || 'document_words(search_text) @@ $2' USING words, wanted;
END
$$;
COMMENT ON FUNCTION search_documents(text) IS
    'Documents that free text is about, deleted ones too, with how well they fit.';

INSERT INTO schema_migrations (number, name) VALUES (2, '0002_documents.sql');
