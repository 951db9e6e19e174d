-- What langchain_core.indexing has put into a store, and when: the record manager's table.

CREATE TABLE index_records (
    namespace  text NOT NULL CHECK (namespace <> ''),
    key        text NOT NULL,
    group_id   text,
    -- Seconds since 1970 as LangChain compares them: a timestamptz would round them.
    updated_at double precision NOT NULL,
    PRIMARY KEY (namespace, key)
);
COMMENT ON TABLE index_records IS 'Which chunks langchain_core.indexing keeps, and when it saw them.';
COMMENT ON COLUMN index_records.key IS 'The chunk''s id.';
COMMENT ON COLUMN index_records.group_id IS 'The source that the chunk is from.';
CREATE INDEX index_records_updated ON index_records (namespace, updated_at);
-- A source may be a URL of three thousand characters, which no B-tree takes.
CREATE INDEX index_records_group ON index_records USING hash (group_id);

INSERT INTO schema_migrations (number, name) VALUES (12, '0012_records.sql');
