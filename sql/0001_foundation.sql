-- The ledger of migrations, and the extensions.
--
-- Files are applied in order, each once, by `python -m a2rchi_pg.migrate schema` or by
-- `psql -1 -v ON_ERROR_STOP=1 -f`. Names are unqualified: `search_path` chooses the schema.

CREATE TABLE schema_migrations (
    number     integer PRIMARY KEY CHECK (number > 0),
    name       text NOT NULL UNIQUE,
    checksum   text CHECK (checksum ~ '^[0-9a-f]{64}$'),
    applied_at timestamptz NOT NULL DEFAULT now(),
    applied_by text NOT NULL DEFAULT current_user
);
COMMENT ON TABLE schema_migrations IS 'Ledger: one row per file of sql/ that was applied.';
COMMENT ON COLUMN schema_migrations.checksum IS
    'SHA-256 of the file as applied; NULL where it was applied by hand with psql.';

-- Extensions belong to the database, and so into the schema that every search_path of ours ends
-- with, not into the one being filled.
DO $$
BEGIN
    EXECUTE format('CREATE EXTENSION IF NOT EXISTS vector SCHEMA %I',
        coalesce((SELECT nspname FROM pg_namespace WHERE nspname = 'public'), current_schema));
END
$$;

-- The other three are used where they can be had, and each can be out of reach in its own way: not
-- on the disk, not preloaded (pg_textsearch raises a plain exception), or not ours to create.
CREATE FUNCTION adopt_extensions() RETURNS text[]
    LANGUAGE plpgsql
AS $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['pg_textsearch', 'pg_trgm', 'pgcrypto'] LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_available_extensions WHERE name = wanted);
        -- pg_search owns an access method named bm25 as well: the two can't share a database.
        CONTINUE WHEN wanted = 'pg_textsearch'
            AND EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_search');
        BEGIN
            EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I SCHEMA %I', wanted,
                coalesce((SELECT nspname FROM pg_namespace WHERE nspname = 'public'), current_schema));
        EXCEPTION
            WHEN insufficient_privilege OR raise_exception OR undefined_file OR undefined_object
                OR object_not_in_prerequisite_state THEN
                RAISE NOTICE 'optional extension % is not used: %', wanted, SQLERRM;
        END;
    END LOOP;
    RETURN ARRAY(SELECT extname::text FROM pg_extension ORDER BY extname);
END
$$;
COMMENT ON FUNCTION adopt_extensions() IS
    'Creates what optional extensions the server offers; run again after installing one.';

SELECT adopt_extensions();

INSERT INTO schema_migrations (number, name) VALUES (1, '0001_foundation.sql');
