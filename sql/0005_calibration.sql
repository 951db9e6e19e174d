-- What similarity means in a collection: the mean of its vectors, from a sample. The mean similarity
-- of a query to the collection follows from it by one product, and is where hybrid search puts the
-- zero of its semantic scores, whatever range an embedding model squeezes its cosines into.

CREATE TABLE collection_calibration (
    collection_id integer PRIMARY KEY REFERENCES collections ON DELETE CASCADE,
    centre        vector NOT NULL,
    mean_square   double precision NOT NULL CHECK (mean_square >= 0),
    sampled       integer NOT NULL CHECK (sampled > 0),
    row_estimate  bigint NOT NULL CHECK (row_estimate > 0),
    calibrated_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE collection_calibration IS 'Where the chunks of each collection lie on average.';
COMMENT ON COLUMN collection_calibration.centre IS
    'Mean of the vectors, each scaled to length one where the metric is cosine.';
COMMENT ON COLUMN collection_calibration.mean_square IS 'Mean of the squared lengths.';
COMMENT ON COLUMN collection_calibration.row_estimate IS
    'Rows there were; at twice as many it is time for another sample.';

-- Takes a thousand rows or so, whole pages of them; all there are in a small collection.
CREATE FUNCTION calibrate_collection(collection_name text) RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
    target collections;
    part text;
    estimate bigint;
BEGIN
    SELECT * INTO target FROM collections WHERE name = collection_name;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    part := chunk_partition(target);
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %I LIMIT 1001) t', part) INTO estimate;
    IF estimate = 0 THEN
        DELETE FROM collection_calibration WHERE collection_id = target.id;
        RETURN 0;
    END IF;
    IF estimate > 1000 THEN
        SELECT greatest(estimate, reltuples,
                pg_relation_size(oid) / 8192 * greatest(1, 8192 / (4 * target.dimensions + 800)))
            INTO estimate FROM pg_class WHERE oid = part::regclass;
    END IF;
    -- Another's sample will do as well, and its transaction may go on for long.
    IF NOT pg_try_advisory_xact_lock(hashtext('collection_calibration'), target.id) THEN
        RETURN estimate;
    END IF;
    EXECUTE format('
        INSERT INTO collection_calibration AS c
            (collection_id, centre, mean_square, sampled, row_estimate)
        SELECT %s, avg(v), avg(vector_norm(v) ^ 2), count(*), %s
        FROM (SELECT %s AS v FROM %I TABLESAMPLE SYSTEM (%s)) AS sample
        HAVING count(*) > 0
        ON CONFLICT (collection_id) DO UPDATE
        SET centre = excluded.centre, mean_square = excluded.mean_square,
            sampled = excluded.sampled, row_estimate = excluded.row_estimate, calibrated_at = now()',
        target.id, estimate,
        CASE target.metric WHEN 'cosine' THEN 'l2_normalize(embedding)' ELSE 'embedding' END,
        part, least(100, 100000.0 / estimate));
    RETURN estimate;
EXCEPTION WHEN undefined_table OR foreign_key_violation THEN
    RETURN 0;  -- it was dropped meanwhile
END
$$;
COMMENT ON FUNCTION calibrate_collection(text) IS
    'Samples a collection anew for hybrid search and returns its estimated rows.';

INSERT INTO schema_migrations (number, name) VALUES (5, '0005_calibration.sql');
