-- What was brought here from other stores: one row a run, and one for each row it read.

CREATE TABLE migration_runs (
    run_id       text PRIMARY KEY CHECK (octet_length(run_id) BETWEEN 1 AND 200),
    source       text NOT NULL,
    location     text NOT NULL,
    target       text NOT NULL,
    status       text NOT NULL DEFAULT 'running'
        CHECK (status IN ('running', 'completed', 'rolled_back')),
    made_target  boolean NOT NULL DEFAULT false,
    checkpoint   text COLLATE "C",
    started_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    completed_at timestamptz
);
COMMENT ON TABLE migration_runs IS 'Migrations of data from other stores.';
COMMENT ON COLUMN migration_runs.location IS 'Where the source is, without secrets.';
COMMENT ON COLUMN migration_runs.made_target IS
    'Whether the run made what it writes to; a rollback then drops it if nothing else is in it.';
COMMENT ON COLUMN migration_runs.checkpoint IS
    'The last key that was read: written in the transaction of the rows up to it.';
-- Two processes can't both begin the same migration.
CREATE UNIQUE INDEX migration_runs_running
    ON migration_runs (source, target, left(location, 500), hashtextextended(location, 0))
    WHERE status = 'running';

CREATE TABLE migration_rows (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    run_id  text NOT NULL REFERENCES migration_runs ON DELETE CASCADE,
    key     text COLLATE "C" NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('written', 'kept', 'conflict', 'skipped')),
    digest  bytea CHECK (length(digest) = 32),
    note    text,
    CHECK ((digest IS NULL) = (outcome = 'skipped'))
);
COMMENT ON TABLE migration_rows IS 'What became of each row of a source.';
COMMENT ON COLUMN migration_rows.outcome IS
    'written by the run; kept: was there already, the same; conflict: was there with other content, '
    'which stays; skipped: can''t be stored, for the reason in the note.';
COMMENT ON COLUMN migration_rows.digest IS 'SHA-256 of the row as the source had it.';
-- A source's keys may be longer than an index takes. Keys are in the order of their first characters.
CREATE UNIQUE INDEX migration_rows_key
    ON migration_rows (run_id, left(key, 500), hashtextextended(key, 0));

INSERT INTO schema_migrations (number, name) VALUES (13, '0013_migration.sql');
