-- DDL for those who may not run DDL: an application role creates, indexes and drops collections
-- through these functions, which run as their owner with a pinned search_path.

-- A table or index of ours by its name: another schema on the search_path may have the same ones.
CREATE FUNCTION own_relation(name text) RETURNS regclass
    LANGUAGE sql STABLE
AS $$
    SELECT oid::regclass FROM pg_class
    WHERE relname = name AND relnamespace =
        (SELECT relnamespace FROM pg_class WHERE oid = 'collections'::regclass)
$$;
COMMENT ON FUNCTION own_relation(text) IS 'The relation of that name beside collections, or NULL.';

CREATE FUNCTION chunk_partition(collection collections) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$ SELECT 'document_chunks_' || collection.id || coalesce('_' || collection.swaps, '') $$;
COMMENT ON FUNCTION chunk_partition(collections) IS 'Name of the table that holds the chunks.';

-- What the vector index of a collection is built on: an expression, because the column has no
-- length of its own, and the operator class that fits element and metric.
CREATE FUNCTION vector_index_key(collection collections) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE collection.element
        WHEN 'bit' THEN
            format('(binary_quantize(embedding)::bit(%s)) bit_hamming_ops', collection.dimensions)
        ELSE
            format('(embedding::%1$s(%2$s)) %1$s_%3$s_ops', collection.element,
                collection.dimensions,
                CASE collection.metric WHEN 'inner_product' THEN 'ip' ELSE collection.metric END)
    END
$$;
COMMENT ON FUNCTION vector_index_key(collections) IS
    'What the vector index of a collection is built on: expression and operator class.';

-- What the index of a declared metadata field is built on: the very expression that filters compare
-- it by (class Field of a2rchi_pg/_filters.py), or the planner won't know it. NULL where the GIN
-- index answers all there is to ask. Of strings the index holds the start: a whole page won't fit.
CREATE FUNCTION metadata_field_key(key text, type text) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE
        WHEN type IN ('int', 'float') THEN
            format('(CASE WHEN jsonb_typeof(%1$s) = ''number'' THEN %1$s::numeric END)', value)
        WHEN type = 'text' THEN
            format('(left(CASE WHEN jsonb_typeof(%1$s) = ''string'' THEN %1$s #>> ''{}'' END, 200) '
                'COLLATE "C")', value)
        WHEN type = 'date' THEN
            format('(metadata_timestamp(%s))', value)
    END
    FROM (
        SELECT CASE
            WHEN position('.' IN key) = 0 THEN format('(metadata -> %L)', key)
            ELSE format('coalesce(metadata -> %L, metadata -> %s)', key, (
                SELECT string_agg(quote_literal(step), ' -> ' ORDER BY n)
                FROM unnest(string_to_array(key, '.')) WITH ORDINALITY AS steps (step, n)))
        END AS value
    ) AS reached
$$;
COMMENT ON FUNCTION metadata_field_key(text, text) IS
    'What the index of a declared field is built on; NULL where it needs none.';

-- Whether somebody else is rebuilding an index of this table. Every other lock of that kind is on the
-- table alone; and whoever waited would be waited for by REINDEX CONCURRENTLY: a deadlock.
CREATE FUNCTION is_rebuilt(part regclass) RETURNS boolean
    LANGUAGE sql
AS $$
    SELECT EXISTS (
        SELECT FROM pg_locks JOIN pg_index ON indexrelid = relation
        WHERE indrelid = part AND mode = 'ShareUpdateExclusiveLock' AND granted
            AND pid <> pg_backend_pid()
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
$$;
COMMENT ON FUNCTION is_rebuilt(regclass) IS
    'Whether another session is rebuilding an index of a table right now.';

-- Parallel workers share memory in /dev/shm, which containers keep small: if it won't do, without.
CREATE FUNCTION build_index(definition text) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE definition;
EXCEPTION WHEN disk_full THEN
    RAISE WARNING 'building an index without parallel workers: %', SQLERRM;
    PERFORM set_config('max_parallel_maintenance_workers', '0', true);
    EXECUTE definition;
END
$$;
COMMENT ON FUNCTION build_index(text) IS
    'Builds an index, without parallel workers where /dev/shm is too small for them.';

-- What the index of words is on, and searches have to name: the stored words, or those of a chunk that
-- was written where a BM25 index did without them.
CREATE FUNCTION words_key(collection collections) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$ SELECT format('coalesce(words, to_tsvector(%L::regconfig, content))', collection.text_config) $$;
COMMENT ON FUNCTION words_key(collections) IS 'What the index of words is on: an expression.';

CREATE FUNCTION store_words() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.words := to_tsvector(TG_ARGV[0]::regconfig, NEW.content);
    NEW.word_count := coalesce(sum(cardinality(positions)), 0) FROM unnest(NEW.words);
    RETURN NEW;
END
$$;
COMMENT ON FUNCTION store_words() IS 'Splits a chunk into the words that words_ranked() weighs.';

-- Whether the chunks of a collection are stored with their words, from now on.
CREATE FUNCTION keep_words(part regclass, text_config regconfig, kept boolean) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF kept = EXISTS (SELECT FROM pg_trigger WHERE tgrelid = part AND tgname = 'store_words') THEN
        RETURN;
    ELSIF kept THEN
        -- With its schema, as whoever writes may have another search_path.
        EXECUTE format('CREATE TRIGGER store_words BEFORE INSERT OR UPDATE OF content ON %s '
            'FOR EACH ROW EXECUTE FUNCTION store_words(%L)', part,
            (SELECT format('%I.%I', nspname, cfgname) FROM pg_ts_config
                JOIN pg_namespace AS n ON n.oid = cfgnamespace WHERE pg_ts_config.oid = text_config));
    ELSE
        EXECUTE format('DROP TRIGGER store_words ON %s', part);
    END IF;
END
$$;
COMMENT ON FUNCTION keep_words(regclass, regconfig, boolean) IS
    'Has the chunks of a collection stored with or without their words from now on.';

-- pg_textsearch 0.6 holds a lightweight lock from a first insert to the end of its transaction. Who
-- waits for it can't be cancelled and isn't seen by the search for deadlocks: two that also wait for
-- one another's rows would hang for good, and every writer after them. So writers of such an index
-- queue up before they take a row, for a lock that is watched; they would come one by one anyway.
CREATE FUNCTION queue_up() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_extension
            WHERE extname = 'pg_textsearch' AND extversion LIKE '0.%')
        AND EXISTS (SELECT FROM pg_index JOIN pg_class AS c ON c.oid = indexrelid
            JOIN pg_am ON pg_am.oid = relam WHERE indrelid = TG_RELID AND amname = 'bm25') THEN
        PERFORM pg_advisory_xact_lock(hashtext('writers of document_chunks'), hashoid(TG_RELID));
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION queue_up() IS
    'Has writers of a BM25 index of pg_textsearch 0.6 wait for one another where it can be seen.';

CREATE FUNCTION have_writers_queue_up(part regclass) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = part AND tgname = 'queue_up') THEN
        EXECUTE format('CREATE TRIGGER queue_up BEFORE INSERT OR UPDATE OR DELETE ON %s '
            'FOR EACH STATEMENT EXECUTE FUNCTION queue_up()', part);
    END IF;
END
$$;
COMMENT ON FUNCTION have_writers_queue_up(regclass) IS
    'Has writers of a collection with a BM25 index wait for one another where it can be seen.';

-- Builds the indexes that declared fields lack.
CREATE FUNCTION build_field_indexes(target collections) RETURNS text[]
    LANGUAGE plpgsql
AS $$
DECLARE
    field record;
    built text[] := '{}';
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('document_chunks'), target.id);
    FOR field IN
        SELECT key, metadata_field_key(key, value) AS expression,
            chunk_partition(target) || '_field_' || left(md5(key), 12) AS index
        FROM jsonb_each_text(target.fields)
        ORDER BY key
    LOOP
        CONTINUE WHEN field.expression IS NULL OR own_relation(field.index) IS NOT NULL;
        PERFORM build_index(format('CREATE INDEX %I ON %I (%s)', field.index,
            chunk_partition(target), field.expression));
        EXECUTE format('COMMENT ON INDEX %I IS %L', field.index, field.key);
        built := built || field.index;
    END LOOP;
    RETURN built;
END
$$;
COMMENT ON FUNCTION build_field_indexes(collections) IS
    'Builds the indexes that declared fields lack and returns their names.';

CREATE FUNCTION lacks_index(target collections, kind text) RETURNS boolean
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    part text := chunk_partition(target);
    enough boolean;
BEGIN
    CASE kind
        WHEN 'words' THEN
            RETURN own_relation(part || CASE WHEN EXISTS (SELECT FROM pg_extension
                WHERE extname = 'pg_textsearch') THEN '_bm25' ELSE '_fts' END) IS NULL;
        WHEN 'fields' THEN
            RETURN EXISTS (SELECT FROM jsonb_each_text(target.fields)
                WHERE metadata_field_key(key, value) IS NOT NULL
                    AND own_relation(part || '_field_' || left(md5(key), 12)) IS NULL);
        WHEN 'vectors' THEN
            IF target.index_kind <> 'ivfflat' OR own_relation(part || '_embedding') IS NOT NULL THEN
                RETURN target.index_kind <> 'none' AND own_relation(part || '_embedding') IS NULL;
            END IF;
            EXECUTE format('SELECT count(*) = 1000 FROM (SELECT FROM %I LIMIT 1000) t', part)
                INTO enough;
            RETURN enough;
    END CASE;
END
$$;
COMMENT ON FUNCTION lacks_index(collections, text) IS
    'Whether a collection lacks an index of a kind that could be built now.';

-- Builds the indexes that a collection wants and lacks. A new collection has none until its first
-- rows are in: building over many rows takes a fifth of the time that adding them one by one does.
-- IVFFlat learns its lists from the rows, so it waits until there are enough of them. Without a
-- vector index search is exact. Called for one kind at a time, one that can't be built doesn't take
-- the others with it.
CREATE FUNCTION build_collection_indexes(
    collection_name text,
    kinds text[] DEFAULT ARRAY['vectors', 'words', 'fields']
) RETURNS text[]
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    target collections;
    part text;
    built text[] := '{}';
    has_bm25 boolean := EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_textsearch');
    rows_now bigint;
    with_options text;
BEGIN
    SELECT * INTO target FROM collections WHERE name = collection_name;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('collection %L does not exist', collection_name);
    END IF;
    -- Everyone who adds asks, some in a transaction that goes on: only a builder takes the lock.
    IF NOT (SELECT bool_or(lacks_index(target, kind)) FROM unnest(kinds) AS kind) THEN
        RETURN built;
    END IF;
    -- One builder at a time; the second finds everything built. It doesn't wait if it wrote before:
    -- the first may be waiting for the end of that.
    IF pg_current_xact_id_if_assigned() IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('document_chunks'), target.id);
    ELSIF NOT pg_try_advisory_xact_lock(hashtext('document_chunks'), target.id) THEN
        RETURN built;
    END IF;
    SELECT * INTO target FROM collections WHERE id = target.id;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('collection %L was dropped', collection_name);
    END IF;
    part := chunk_partition(target);
    kinds := ARRAY(SELECT kind FROM unnest(kinds) AS kind WHERE lacks_index(target, kind));

    IF 'vectors' = ANY (kinds) THEN
        with_options := format('m = %s, ef_construction = %s', target.m, target.ef_construction);
        IF target.index_kind = 'ivfflat' THEN
            EXECUTE format('SELECT count(*) FROM (SELECT FROM %I LIMIT 1000000) t', part)
                INTO rows_now;
            with_options := format('lists = %s', coalesce(target.lists, greatest(10, CASE
                WHEN rows_now < 1000000 THEN rows_now / 1000 ELSE sqrt(rows_now)::int END)));
        END IF;
        PERFORM build_index(format('CREATE INDEX %I ON %I USING %s (%s) WITH (%s)',
            part || '_embedding', part, target.index_kind, vector_index_key(target),
            with_options));
        built := built || (part || '_embedding');
    END IF;

    IF 'words' = ANY (kinds) AND has_bm25 THEN
        PERFORM have_writers_queue_up(own_relation(part));
        -- Not inside an exception block: a failing build under one takes pg_textsearch 0.6 down.
        EXECUTE format('CREATE INDEX %I ON %I USING bm25 (content) '
            'WITH (text_config = %L, k1 = %s, b = %s)',
            part || '_bm25', part, target.text_config, target.k1, target.b);
        IF own_relation(part || '_fts') IS NOT NULL THEN
            EXECUTE format('DROP INDEX %s', own_relation(part || '_fts'));
        END IF;
        PERFORM keep_words(own_relation(part), target.text_config::regconfig, false);
        built := built || (part || '_bm25');
    ELSIF 'words' = ANY (kinds) THEN
        PERFORM keep_words(own_relation(part), target.text_config::regconfig, true);
        PERFORM build_index(format('CREATE INDEX %I ON %I USING gin ((%s))',
            part || '_fts', part, words_key(target)));
        built := built || (part || '_fts');
    END IF;

    IF 'fields' = ANY (kinds) THEN
        built := built || build_field_indexes(target);
    END IF;
    RETURN built;
END
$$;
COMMENT ON FUNCTION build_collection_indexes(text, text[]) IS
    'Builds what indexes a collection lacks and returns their names.';

-- The best lexical matches, by the BM25 index even where the planner would rather read the table: that
-- finds only rows that match, and has their scores at hand. A statement that calls this may be planned
-- once for all. The index counts deleted rows too, until a vacuum, and begins again where it has too few
-- others: in pg_textsearch 0.6 that may leave out one of equals. So where rows were deleted, as far as the
-- server's statistics know, it is asked for more than are wanted: by a setting, and by a LIMIT that it
-- doesn't know.
CREATE FUNCTION bm25_ranked(part regclass, index_name text, words text, most integer)
    RETURNS TABLE (address tid, score double precision)
    -- ROWS: few enough for the planner to fetch them by their addresses.
    LANGUAGE plpgsql STABLE ROWS 10
    SET enable_seqscan = off
AS $$
DECLARE
    deleted boolean := pg_stat_get_dead_tuples(part) > 0;
BEGIN
    IF deleted THEN
        PERFORM set_config('pg_textsearch.default_limit',
            least(2 * most::bigint + 20, 100000)::text, true);
    END IF;
    RETURN QUERY EXECUTE format('SELECT ctid, -bm25_get_current_score() FROM %s '
        'ORDER BY content <@> to_bm25query(%L, %L) LIMIT %s', part, words, index_name,
        CASE WHEN deleted THEN format('(SELECT %s)', most) ELSE most::text END);
END
$$;
COMMENT ON FUNCTION bm25_ranked IS 'Addresses and BM25 scores of the best matches in one table.';

CREATE FUNCTION role_or_public(role oid) RETURNS text
    LANGUAGE sql STABLE
AS $$ SELECT CASE role WHEN 0 THEN 'PUBLIC' ELSE role::regrole::text END $$;
COMMENT ON FUNCTION role_or_public(oid) IS 'The name of a role as GRANT takes it.';

CREATE FUNCTION rights_on(relation regclass)
    RETURNS TABLE (columns text, privilege text, grantee text, grantable boolean)
    LANGUAGE sql STABLE
AS $$
    SELECT columns, privilege_type, role_or_public(given.grantee), is_grantable
    FROM (
        SELECT '' AS columns, relowner, acl.* FROM pg_class, aclexplode(relacl) AS acl
        WHERE oid = relation
        UNION ALL
        SELECT format(' (%I)', attname), relowner, acl.*
        FROM pg_attribute JOIN pg_class AS c ON c.oid = attrelid, aclexplode(attacl) AS acl
        WHERE attrelid = relation
    ) AS given
    WHERE given.grantee <> relowner
$$;
COMMENT ON FUNCTION rights_on(regclass) IS
    'The privileges of others than its owner on a relation and its columns.';

-- Search names partitions, and PostgreSQL then asks for rights on these alone: so each is given those
-- of its parent, and only those, with the row security that the parent has.
CREATE FUNCTION copy_chunk_rights(part regclass) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    parent CONSTANT regclass := 'document_chunks';
    command text;
BEGIN
    FOR command IN
        SELECT format('REVOKE ALL ON %s FROM %s CASCADE', part, grantee) FROM rights_on(part)
        UNION
        SELECT format('DROP POLICY %I ON %s', polname, part) FROM pg_policy WHERE polrelid = part
    LOOP
        EXECUTE command;
    END LOOP;
    FOR command IN
        SELECT format('GRANT %s%s ON %s TO %s%s', privilege, columns, part, grantee,
            CASE WHEN grantable THEN ' WITH GRANT OPTION' END)
        FROM rights_on(parent)
        UNION ALL
        SELECT format('CREATE POLICY %I ON %s AS %s FOR %s TO %s', polname, part,
                CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
                CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
                    WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
                (SELECT string_agg(role_or_public(role), ', ') FROM unnest(polroles) AS role))
            || coalesce(' USING (' || pg_get_expr(polqual, polrelid) || ')', '')
            || coalesce(' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) || ')', '')
        FROM pg_policy WHERE polrelid = parent
        UNION ALL
        SELECT format('ALTER TABLE %s %s ROW LEVEL SECURITY, %s ROW LEVEL SECURITY', part,
            CASE WHEN p.relrowsecurity THEN 'ENABLE' ELSE 'DISABLE' END,
            CASE WHEN p.relforcerowsecurity THEN 'FORCE' ELSE 'NO FORCE' END)
        FROM pg_class AS p JOIN pg_class AS c ON c.oid = part
        WHERE p.oid = parent AND (p.relrowsecurity, p.relforcerowsecurity)
            <> (c.relrowsecurity, c.relforcerowsecurity)
    LOOP
        EXECUTE command;
    END LOOP;
END
$$;
COMMENT ON FUNCTION copy_chunk_rights(regclass) IS
    'Makes the privileges and the row security of a table those of document_chunks.';

-- For whoever granted or revoked something on document_chunks, or changed its row security.
CREATE FUNCTION apply_chunk_rights() RETURNS integer
    LANGUAGE sql
AS $$
    SELECT count(copy_chunk_rights(inhrelid))::integer
    FROM pg_inherits WHERE inhparent = 'document_chunks'::regclass
$$;
COMMENT ON FUNCTION apply_chunk_rights() IS
    'Makes the privileges and the row security of every collection those of document_chunks.';

CREATE FUNCTION create_collection(
    name text,
    dimensions integer,
    embedding_model text DEFAULT NULL,
    metric text DEFAULT 'cosine',
    element text DEFAULT 'vector',
    index_kind text DEFAULT 'hnsw',
    m integer DEFAULT 16,
    ef_construction integer DEFAULT 64,
    lists integer DEFAULT NULL,
    text_config text DEFAULT 'english',
    k1 real DEFAULT 1.2,
    b real DEFAULT 0.75,
    fields jsonb DEFAULT '{}'
) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    -- The name of a text search configuration is stored, and compared, as it is without quotes.
    SET quote_all_identifiers = off
AS $$
DECLARE
    made collections;
    part text;
BEGIN
    -- A second creator of the same name waits here for the first, and then finds it done.
    INSERT INTO collections (name, dimensions, embedding_model, metric, element, index_kind, m,
        ef_construction, lists, text_config, k1, b, fields)
    VALUES (create_collection.name, create_collection.dimensions,
        create_collection.embedding_model, create_collection.metric, create_collection.element,
        create_collection.index_kind, create_collection.m, create_collection.ef_construction,
        create_collection.lists, create_collection.text_config::regconfig::text,
        create_collection.k1, create_collection.b, create_collection.fields)
    ON CONFLICT ON CONSTRAINT collections_name_key DO NOTHING
    RETURNING * INTO made;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    part := chunk_partition(made);

    -- Made beside its parent and then attached: CREATE … PARTITION OF would lock out every reader.
    -- Rows stay inline up to a page, so that exact scans don't read vectors from TOAST.
    EXECUTE format('CREATE TABLE %I (LIKE document_chunks INCLUDING DEFAULTS INCLUDING STORAGE, '
        'CONSTRAINT %I CHECK (vector_dims(embedding) = %s)) WITH (toast_tuple_target = 8160)',
        part, part || '_dimensions', made.dimensions);
    EXECUTE format('ALTER TABLE %I ALTER COLUMN embedding SET STORAGE MAIN, '
        'ALTER COLUMN metadata SET STATISTICS 1000', part);
    EXECUTE format('ALTER TABLE document_chunks ATTACH PARTITION %I FOR VALUES IN (%s)',
        part, made.id);
    PERFORM copy_chunk_rights(own_relation(part));
    PERFORM keep_words(own_relation(part), made.text_config::regconfig,
        NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'pg_textsearch'));
    RETURN true;
END
$$;
COMMENT ON FUNCTION create_collection IS
    'Creates a collection with its partition, still without indexes; false if the name is taken.';

CREATE FUNCTION add_collection_field(collection_name text, key text, type text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    target collections;
BEGIN
    SELECT * INTO target FROM collections WHERE name = collection_name FOR UPDATE;
    IF NOT FOUND THEN
        RAISE no_data_found USING MESSAGE = format('collection %L does not exist', collection_name);
    ELSIF target.fields ->> key = type THEN
        RETURN false;
    ELSIF target.fields ? key THEN
        RAISE invalid_parameter_value
            USING MESSAGE = format('field %L is declared as %s', key, target.fields ->> key);
    END IF;
    UPDATE collections SET fields = fields || jsonb_build_object(key, type)
        WHERE id = target.id RETURNING * INTO target;
    PERFORM build_field_indexes(target);
    RETURN true;
END
$$;
COMMENT ON FUNCTION add_collection_field(text, text, text) IS
    'Declares a metadata field and builds its index; false where it is declared already.';

CREATE FUNCTION drop_collection_indexes(collection_name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    target collections;
    index regclass;
    dropped regclass[];
BEGIN
    SELECT * INTO target FROM collections WHERE name = collection_name;
    IF NOT FOUND OR is_rebuilt(own_relation(chunk_partition(target))) THEN
        RETURN false;
    END IF;
    dropped := ARRAY(SELECT own_relation(chunk_partition(target) || suffix)
        FROM unnest(ARRAY['_embedding', '_bm25', '_fts']) AS suffix
        WHERE own_relation(chunk_partition(target) || suffix) IS NOT NULL);
    IF dropped <> '{}' THEN
        -- Whoever reads the table for long, as a dump does, is not to hold up everybody else.
        BEGIN
            PERFORM lock_chunks(ARRAY[chunk_partition(target)], '5 s');
        EXCEPTION WHEN lock_not_available THEN
            RETURN false;
        END;
    END IF;
    FOREACH index IN ARRAY dropped LOOP
        EXECUTE format('DROP INDEX %s', index);
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION drop_collection_indexes(text) IS
    'Drops the vector and the lexical index before a large load; search is exact until rebuilt. '
    'False where there is no such collection, or somebody is rebuilding or reading them for long. '
    'Never to be rolled back: pg_textsearch 0.6 would crash the server.';

CREATE FUNCTION drop_collection(collection_name text) RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
AS $$
DECLARE
    gone collections;
BEGIN
    -- In the order of a swap, and so that nobody who reads the table waits for this row.
    SELECT * INTO gone FROM collections WHERE name = collection_name FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- The other collections' writers need the parent, and would stand behind us in the queue.
    PERFORM lock_chunks(ARRAY[chunk_partition(gone), 'document_chunks']);
    DELETE FROM collections WHERE id = gone.id;
    EXECUTE format('DROP TABLE %I', chunk_partition(gone));
    RETURN true;
END
$$;
COMMENT ON FUNCTION drop_collection(text) IS
    'Drops a collection with all its chunks; false where there is none of that name. Never to be '
    'rolled back: pg_textsearch 0.6 would crash the server.';

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
            AND proname IN ('build_collection_indexes', 'create_collection', 'drop_collection',
                'drop_collection_indexes', 'add_collection_field')
    LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = %s', definer, pinned);
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', definer);
    END LOOP;
END
$$;

INSERT INTO schema_migrations (number, name) VALUES (4, '0004_collection_functions.sql');
