-- What was brought here from other stores: one row a run, and one for each row it read.

CREATE TABLE migration_runs (
    run_id       text PRIMARY KEY CHECK (run_id <> ''),
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
CREATE UNIQUE INDEX migration_runs_running ON migration_runs (source, location, target)
    WHERE status = 'running';

CREATE TABLE migration_rows (
    run_id  text NOT NULL REFERENCES migration_runs ON DELETE CASCADE,
    key     text COLLATE "C" NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('written', 'kept', 'conflict', 'skipped')),
    digest  bytea CHECK (length(digest) = 32),
    note    text,
    PRIMARY KEY (run_id, key),
    CHECK ((digest IS NULL) = (outcome = 'skipped'))
);
COMMENT ON TABLE migration_rows IS 'What became of each row of a source.';
COMMENT ON COLUMN migration_rows.outcome IS
    'written by the run; kept: was there already, the same; conflict: was there with other content, '
    'which stays; skipped: can''t be stored, for the reason in the note.';
COMMENT ON COLUMN migration_rows.digest IS 'SHA-256 of the row as the source had it.';

INSERT INTO schema_migrations (number, name) VALUES (13, '0013_migration.sql');
