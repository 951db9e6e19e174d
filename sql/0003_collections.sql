-- Collections of chunks: one partition each, so that every collection has a dimension check, a
-- vector index of its own kind and BM25 statistics of its own, and is dropped by dropping a table.

CREATE TABLE collections (
    id              integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name            text NOT NULL UNIQUE CHECK (btrim(name) <> '' AND length(name) <= 200),
    embedding_model text,
    dimensions      integer NOT NULL CHECK (dimensions BETWEEN 1 AND 16000),
    metric          text NOT NULL CHECK (metric IN ('cosine', 'l2', 'inner_product')),
    element         text NOT NULL CHECK (element IN ('vector', 'halfvec', 'bit')),
    index_kind      text NOT NULL CHECK (index_kind IN ('hnsw', 'ivfflat', 'none')),
    m               integer NOT NULL CHECK (m BETWEEN 2 AND 100),
    ef_construction integer NOT NULL CHECK (ef_construction BETWEEN 4 AND 1000),
    lists           integer CHECK (lists BETWEEN 1 AND 32768),
    text_config     text NOT NULL,
    k1              real NOT NULL CHECK (k1 BETWEEN 0.1 AND 10),
    b               real NOT NULL CHECK (b BETWEEN 0 AND 1),
    fields          jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(fields) = 'object'
        AND NOT fields @? '$.* ? (@.type() != "string" || !(@ == "int" || @ == "float"
            || @ == "text" || @ == "date" || @ == "bool"))'),
    created_at      timestamptz NOT NULL DEFAULT now(),
    ef_search       integer CHECK (ef_search BETWEEN 1 AND 1000),
    swaps           integer,
    CHECK (ef_construction >= 2 * m)
);
COMMENT ON TABLE collections IS 'A set of chunks embedded by one model and searched together.';
COMMENT ON COLUMN collections.element IS
    'What the vector index stores; chunks keep full float32 vectors whatever it is.';
COMMENT ON COLUMN collections.lists IS 'IVFFlat lists; NULL lets the number of rows decide.';
COMMENT ON COLUMN collections.ef_search IS
    'How hard searches look that don''t say (IVFFlat: probes), as measured; NULL is the default.';
COMMENT ON COLUMN collections.swaps IS
    'How often it changed names with another, and so its table''s name; NULL is never.';
COMMENT ON COLUMN collections.fields IS
    'Declared metadata fields and their types; each has an index of its own for ranges.';

CREATE TABLE document_chunks (
    collection_id integer NOT NULL,
    document_id   bigint REFERENCES documents ON DELETE CASCADE,
    chunk_index   integer,
    start_char    integer,
    end_char      integer,
    id            text NOT NULL,
    content       text NOT NULL,
    -- No length here: each partition checks its own.
    embedding     vector NOT NULL,
    metadata      jsonb NOT NULL DEFAULT '{}',
    words         tsvector,
    word_count    integer,
    PRIMARY KEY (collection_id, id)
) PARTITION BY LIST (collection_id);
COMMENT ON TABLE document_chunks IS
    'Chunks of text with their vectors; partition document_chunks_N… holds collection N. A new one '
    'has the rights and the row security of this table; after changing these here, run '
    'SELECT apply_chunk_rights(), as searches read the partitions by name.';
COMMENT ON COLUMN document_chunks.document_id IS 'The document it was cut from; NULL if of none.';
COMMENT ON COLUMN document_chunks.chunk_index IS 'Its place in the document, from 0.';
COMMENT ON COLUMN document_chunks.start_char IS 'Where in the document''s text it begins.';
COMMENT ON COLUMN document_chunks.words IS
    'Its words and their places, which words_ranked() weighs. NULL where a BM25 index does, and where '
    'one did when the chunk was written: they are then made out of the content each time.';
COMMENT ON COLUMN document_chunks.word_count IS 'How many words those are.';
CREATE INDEX document_chunks_document ON document_chunks (document_id, chunk_index);
CREATE INDEX document_chunks_metadata ON document_chunks USING gin (metadata jsonb_path_ops);

-- What a metadata value says about time: NULL unless it is a string in ISO 8601. Whatever else
-- PostgreSQL reads as a time ('now', names of zones) depends on the session, and the function
-- wouldn't be immutable. Times without a zone are UTC.
CREATE FUNCTION metadata_timestamp(value jsonb) RETURNS timestamptz
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET timezone = 'UTC'
AS $$
BEGIN
    IF jsonb_typeof(value) = 'string' AND value #>> '{}' ~ ('^[0-9]{4}-[0-9]{2}-[0-9]{2}'
            '([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,9})?)?'
            '(Z|[+-][0-9]{2}(:?[0-9]{2}(:?[0-9]{2})?)?)?)?$')
            AND pg_input_is_valid(value #>> '{}', 'timestamptz') THEN
        RETURN (value #>> '{}')::timestamptz;
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION metadata_timestamp(jsonb) IS
    'The time a metadata value holds, or NULL where it holds none.';

CREATE TABLE indexed_documents (
    collection_id         integer NOT NULL REFERENCES collections ON DELETE CASCADE,
    document_id           bigint NOT NULL REFERENCES documents ON DELETE CASCADE,
    status                text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'embedding', 'embedded', 'failed')),
    error                 text,
    attempts              integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    content_fingerprint   text,
    embedding_fingerprint text,
    chunk_count           integer CHECK (chunk_count >= 0),
    indexed_at            timestamptz,
    leased_by             text,
    leased_until          timestamptz,
    PRIMARY KEY (collection_id, document_id)
);
COMMENT ON TABLE indexed_documents IS
    'How far each document has come into each collection, and from what content and model.';
COMMENT ON COLUMN indexed_documents.attempts IS 'How often it was taken up since it was embedded.';
COMMENT ON COLUMN indexed_documents.content_fingerprint IS 'Of the content its chunks are made from.';
COMMENT ON COLUMN indexed_documents.embedding_fingerprint IS
    'Of the splitter and the model that made them.';
COMMENT ON COLUMN indexed_documents.leased_by IS 'Who is embedding it.';
COMMENT ON COLUMN indexed_documents.leased_until IS
    'When others may take it over; of a failed one, when it may be tried again.';
CREATE INDEX indexed_documents_document ON indexed_documents (document_id)
    INCLUDE (collection_id, status, chunk_count, indexed_at);
CREATE INDEX indexed_documents_status ON indexed_documents (collection_id, status)
    WHERE status <> 'embedded';

INSERT INTO schema_migrations (number, name) VALUES (3, '0003_collections.sql');
