-- Looking after collections that are in use: nobody is to wait for it longer than for a moment.

-- Takes tables for this transaction alone. Whoever asks for them meanwhile stands behind us in the
-- queue, searches too, so we ask for a moment, step out and ask again. A vacuum, which would outlast
-- that, gives way to a waiter of a second, and what it is made to wait for blocks no one.
CREATE FUNCTION lock_chunks(tables text[], patience interval DEFAULT '60 s') RETURNS void
    LANGUAGE plpgsql
    SET lock_timeout = 0  -- what is set below is over with the function
AS $$
DECLARE
    names text := (SELECT string_agg(format('ONLY %I', name), ', ' ORDER BY place)
        FROM unnest(tables) WITH ORDINALITY AS t (name, place));
    deadline timestamptz := clock_timestamp() + patience;
BEGIN
    PERFORM set_config('lock_timeout', extract(epoch FROM patience) || 's', true);
    EXECUTE format('LOCK TABLE %s IN SHARE UPDATE EXCLUSIVE MODE', names);
    LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '100ms', true);
            EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', names);
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > deadline THEN
                RAISE lock_not_available USING MESSAGE = format(
                    '%s was in use for %s s without a break', array_to_string(tables, ' or '),
                    round(extract(epoch FROM patience)));
            END IF;
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION lock_chunks(text[], interval) IS
    'Takes tables for this transaction alone, holding others up for moments only.';

-- Exchanges the names of two collections, and gives their tables and indexes new ones. A store that
-- knows a collection by its table, in a statement it prepared long ago too, then finds none and looks
-- the collection up again: it costs searches nothing to notice.
CREATE FUNCTION swap_collections(collection_name text, other_name text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    pair collections[];
    target collections;
    part text;
    index text;
BEGIN
    SELECT array_agg(c ORDER BY c.id) INTO pair FROM (
        SELECT * FROM collections WHERE name IN (collection_name, other_name)
        ORDER BY id FOR NO KEY UPDATE) AS c;
    IF coalesce(cardinality(pair), 0) < 2 THEN
        RAISE no_data_found USING MESSAGE = format('there are not both collections %L and %L',
            collection_name, other_name);
    END IF;
    PERFORM lock_chunks(ARRAY[chunk_partition(pair[1]), chunk_partition(pair[2])]);

    -- Names are unique at every moment, so it takes a third.
    UPDATE collections SET name = gen_random_uuid()::text WHERE id = (pair[1]).id;
    UPDATE collections SET name = (pair[1]).name WHERE id = (pair[2]).id;
    UPDATE collections SET name = (pair[2]).name WHERE id = (pair[1]).id;

    FOREACH target IN ARRAY pair LOOP
        UPDATE collections c SET swaps = coalesce(swaps, 0) + 1 WHERE id = target.id
            RETURNING chunk_partition(c) INTO part;
        EXECUTE format('ALTER TABLE %I RENAME TO %I', chunk_partition(target), part);
        FOR index IN
            SELECT relname FROM pg_index JOIN pg_class ON oid = indexrelid
            WHERE indrelid = own_relation(part) AND starts_with(relname, chunk_partition(target) || '_')
        LOOP
            EXECUTE format('ALTER INDEX %I RENAME TO %I', index,
                part || substr(index, length(chunk_partition(target)) + 1));
        END LOOP;
    END LOOP;
END
$$;
COMMENT ON FUNCTION swap_collections(text, text) IS
    'Exchanges the names of two collections at once; running searches and writes are waited for.';

CREATE FUNCTION refuse_while_rebuilt(target collections) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('document_chunks'), target.id)
            OR is_rebuilt(own_relation(chunk_partition(target))) THEN
        RAISE lock_not_available USING MESSAGE =
            format('the indexes of collection %L are being built by somebody else', target.name);
    END IF;
END
$$;
COMMENT ON FUNCTION refuse_while_rebuilt(collections) IS
    'Raises where another session is rebuilding an index of the collection.';

-- What REINDEX CONCURRENTLY leaves behind when it is interrupted. The name tells, not the flag: such
-- an index becomes valid when somebody rebuilds all there are, and two BM25 indexes on one table are
-- one too many for the planner.
CREATE FUNCTION drop_leftover_indexes(collection_name text) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    target collections;
    leftovers text[];
    index text;
BEGIN
    SELECT * INTO target FROM collections WHERE name = collection_name;
    IF NOT FOUND THEN
        RETURN '{}';
    END IF;
    PERFORM refuse_while_rebuilt(target);
    leftovers := ARRAY(
        SELECT relname::text FROM pg_index JOIN pg_class ON oid = indexrelid
        WHERE indrelid = own_relation(chunk_partition(target))
            AND relname ~ '_cc(new|old)[0-9]*$'
        ORDER BY relname);
    IF leftovers <> '{}' THEN
        PERFORM lock_chunks(ARRAY[chunk_partition(target)]);
        FOREACH index IN ARRAY leftovers LOOP
            EXECUTE format('DROP INDEX IF EXISTS %I', index);
        END LOOP;
    END IF;
    RETURN leftovers;
END
$$;
COMMENT ON FUNCTION drop_leftover_indexes(text) IS
    'Drops what an interrupted REINDEX CONCURRENTLY left behind and returns the names. Never to be '
    'rolled back: pg_textsearch 0.6 would crash the server.';

-- For roles that may not REINDEX, and for a BM25 index that is broken: the old index is read by no
-- one here. Searches go on by the old indexes until the new ones take their names.
CREATE FUNCTION rebuild_collection_indexes(
    collection_name text,
    kinds text[] DEFAULT ARRAY['vectors', 'words']
) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    target collections;
    suffix text;
    retired text[] := '{}';
    built text[];
BEGIN
    SELECT * INTO target FROM collections WHERE name = collection_name;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('collection %L does not exist', collection_name);
    END IF;
    PERFORM refuse_while_rebuilt(target);
    -- First of all, as there may be no writer between an index retired and its successor.
    EXECUTE format('LOCK TABLE %I IN SHARE MODE', chunk_partition(target));
    FOREACH suffix IN ARRAY ARRAY['_embedding', '_bm25', '_fts'] LOOP
        CONTINUE WHEN CASE suffix WHEN '_embedding' THEN 'vectors' ELSE 'words' END <> ALL (kinds)
            OR own_relation(chunk_partition(target) || suffix) IS NULL;
        retired := retired || (chunk_partition(target) || suffix || '_retired');
        EXECUTE format('ALTER INDEX %I RENAME TO %I', chunk_partition(target) || suffix,
            chunk_partition(target) || suffix || '_retired');
    END LOOP;
    built := build_collection_indexes(collection_name, kinds);
    IF retired <> '{}' THEN
        PERFORM lock_chunks(ARRAY[chunk_partition(target)]);
        FOREACH suffix IN ARRAY retired LOOP
            EXECUTE format('DROP INDEX %I', suffix);
        END LOOP;
    END IF;
    RETURN built;
END
$$;
COMMENT ON FUNCTION rebuild_collection_indexes(text, text[]) IS
    'Builds the indexes of a collection anew; writers wait for it, readers don''t. Never to be '
    'rolled back: pg_textsearch 0.6 would crash the server.';

CREATE FUNCTION set_collection_effort(collection_name text, effort integer) RETURNS boolean
    LANGUAGE sql SECURITY DEFINER
AS $$
    WITH changed AS (
        UPDATE collections SET ef_search = effort WHERE name = collection_name RETURNING id
    )
    SELECT EXISTS (SELECT FROM changed)
$$;
COMMENT ON FUNCTION set_collection_effort(text, integer) IS
    'How hard searches of a collection look that don''t say; NULL puts the default back.';

DO $$
DECLARE
    -- pg_temp last: a temporary table must never stand in for one of ours.
    pinned text := (SELECT string_agg(quote_ident(s), ', ' ORDER BY o)
        FROM unnest(current_schemas(false)) WITH ORDINALITY AS t (s, o)) || ', pg_temp';
    definer regprocedure;
BEGIN
    FOR definer IN
        SELECT oid FROM pg_proc
        WHERE pronamespace = quote_ident(current_schema)::regnamespace AND prosecdef
            AND proname IN ('swap_collections', 'drop_leftover_indexes',
                'rebuild_collection_indexes', 'set_collection_effort')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s', definer, pinned);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', definer);
    END LOOP;
END
$$;

INSERT INTO schema_migrations (number, name) VALUES (6, '0006_maintenance.sql');
