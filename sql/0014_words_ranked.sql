-- BM25 where pg_textsearch is missing, out of what PostgreSQL has: an index that finds the chunks
-- with a word, their words with their places, and ts_rank().

-- How often a word occurs, ts_rank() tells: n times make 1 + 1/4 + … + 1/n², by a constant. These
-- are the middles between one number and the next; a tsvector keeps 255 places of a word at most.
CREATE FUNCTION occurrence_bounds() RETURNS double precision[]
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT array_agg((total - 0.5 / n ^ 2) / 1.64493406685 ORDER BY n)
    FROM (SELECT n, sum(1 / n ^ 2) OVER (ORDER BY n) AS total
        FROM generate_series(1, 255) AS series (n)) AS sums
$$;
COMMENT ON FUNCTION occurrence_bounds() IS
    'From which ts_rank() on a word of weight A occurs once, twice, and so on.';

CREATE FUNCTION word_count_key(target collections) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT format('coalesce(word_count, '
        '(SELECT sum(cardinality(positions)) FROM unnest(%s)))::float8', words_key(target))
$$;
COMMENT ON FUNCTION word_count_key(collections) IS 'How many words a chunk has: an expression.';

-- Exact where there are no more than 256 pages; else the number is estimated as the planner does, and
-- the mean is that of so many pages. The same ones each time: scores don't change by themselves.
CREATE FUNCTION word_statistics(
    target collections, OUT chunks double precision, OUT mean_words double precision
)
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    part CONSTANT regclass := own_relation(chunk_partition(target));
    pages CONSTANT bigint := pg_relation_size(part) / current_setting('block_size')::integer;
    percent CONSTANT double precision := least(100, 25600.0 / greatest(pages, 1));
BEGIN
    EXECUTE format('SELECT count(*), avg(%s) FROM %s TABLESAMPLE SYSTEM ($1) REPEATABLE (0)',
        word_count_key(target), part) INTO chunks, mean_words USING percent;
    IF percent < 100 THEN
        chunks := coalesce((SELECT reltuples / relpages * pages FROM pg_class
            WHERE oid = part AND reltuples > 0 AND relpages > 0), chunks * 100 / percent);
    END IF;
    chunks := greatest(chunks, 1);
    mean_words := greatest(mean_words, 1);
END
$$;
COMMENT ON FUNCTION word_statistics(collections) IS
    'About how many chunks a collection has, and words in one on average.';

-- In how many chunks a word is, ANALYZE knows of the common ones; rare ones are counted.
CREATE FUNCTION word_weights(target collections, query text, chunks double precision)
    RETURNS TABLE (word tsquery, chunks_with double precision, weight double precision)
    LANGUAGE plpgsql STABLE
    SET enable_seqscan = off
AS $$
DECLARE
    part CONSTANT regclass := own_relation(chunk_partition(target));
BEGIN
    RETURN QUERY EXECUTE format('
        WITH common AS MATERIALIZED (
            SELECT unnest(most_common_elems::text::text[]) AS lexeme,
                unnest(most_common_elem_freqs) AS share
            FROM pg_stats
            WHERE (schemaname, tablename, attname) = ($3, $4, ''words'')
        ),
        counted AS (
            SELECT asked.word, times, least($2, coalesce(share * $2,
                (SELECT count(*) FROM %s WHERE %s @@ asked.word))) AS found
            FROM (
                SELECT lexeme, cardinality(positions) AS times,
                    array_to_tsvector(ARRAY[lexeme])::text::tsquery AS word
                FROM unnest(to_tsvector(%L, $1))
                OFFSET 0
            ) AS asked
            LEFT JOIN common USING (lexeme)
        )
        SELECT word, found, times * ln(1 + ($2 - found + 0.5) / (found + 0.5))
        FROM counted
        WHERE found > 0',
        part, words_key(target), target.text_config) USING query, chunks,
        (SELECT nspname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
            WHERE pg_class.oid = part),
        (SELECT relname FROM pg_class WHERE oid = part);
END
$$;
COMMENT ON FUNCTION word_weights(collections, text, double precision) IS
    'The words of a query that a collection has, in how many chunks each is, and its BM25 weight.';

CREATE FUNCTION any_of(words tsquery[]) RETURNS tsquery
    LANGUAGE sql IMMUTABLE
AS $$ SELECT string_agg(word::text, ' | ')::tsquery FROM unnest(words) AS word $$;
COMMENT ON FUNCTION any_of(tsquery[]) IS 'What a text with one of the words at least meets.';

-- Of those chunks that meet $1, at the addresses $2 if there are such, the $4 best. What ts_rank()
-- says is looked up in $3. Words are taken out of TOAST, and given one weight, once for all terms.
CREATE FUNCTION weighing_query(
    target collections, words tsquery[], weights double precision[], mean_words double precision,
    among boolean
) RETURNS text
    LANGUAGE sql STABLE
AS $$
    SELECT format('
        SELECT array_agg(address), array_agg(score)
        FROM (
            SELECT address, %s AS score
            FROM (
                SELECT ctid AS address, id, setweight(%s, ''A'') AS words,
                    %s + %s * %s AS norm
                FROM %s
                WHERE %s @@ $1 AND %s
                OFFSET 0
            ) AS chunk
            ORDER BY score DESC, id
            LIMIT $4
        ) AS best',
        (SELECT string_agg(format(
                '%s * (1 - norm / (norm + width_bucket(ts_rank(words, %L), $3)))',
                weight * (1 + target.k1), word), ' + ')
            FROM unnest(words, weights) AS t (word, weight)),
        words_key(target), target.k1 * (1 - target.b), target.k1 * target.b / mean_words,
        word_count_key(target), own_relation(chunk_partition(target)), words_key(target),
        CASE WHEN among THEN 'ctid = ANY ($2)' ELSE '$2 IS NULL' END)
$$;
COMMENT ON FUNCTION
    weighing_query(collections, tsquery[], double precision[], double precision, boolean)
    IS 'The text of the query that computes BM25 scores.';

-- Words that many chunks have say little. Once the others have found as many chunks as are wanted,
-- those that hold none of them need not be looked at, unless they could reach the least of the scores.
CREATE FUNCTION words_ranked(collection integer, query text, most integer, among tid[] DEFAULT NULL)
    RETURNS TABLE (address tid, score double precision)
    -- ROWS: few enough for the planner to fetch them by their addresses.
    LANGUAGE plpgsql STABLE ROWS 10
    SET enable_seqscan = off
AS $$
DECLARE
    target collections;
    size record;
    asked record;
    used integer := 0;
    needed integer;
    addresses tid[];
    scores double precision[];
BEGIN
    SELECT * INTO target FROM collections WHERE id = collection;
    IF own_relation(chunk_partition(target) || '_fts') IS NULL THEN
        RAISE undefined_object
            USING MESSAGE = format('collection %s has no index of words', collection);
    END IF;
    size := word_statistics(target);
    SELECT array_agg(w.word ORDER BY w.weight DESC) AS words,
        array_agg(w.weight ORDER BY w.weight DESC) AS weights,
        array_agg(w.chunks_with ORDER BY w.weight DESC) AS chunks_with
        INTO asked FROM word_weights(target, query, size.chunks) AS w;
    SELECT coalesce(min(n), cardinality(asked.words)) INTO needed FROM (
        SELECT n, sum(each) OVER (ORDER BY n) AS met
        FROM unnest(asked.chunks_with) WITH ORDINALITY AS t (each, n)) AS t
        WHERE met * coalesce(cardinality(among) / size.chunks, 1) >= most;

    WHILE needed > used LOOP
        EXECUTE weighing_query(
                target, asked.words, asked.weights, size.mean_words, among IS NOT NULL)
            INTO addresses, scores
            USING any_of(asked.words[:needed]), among, occurrence_bounds(), most;
        used := needed;
        SELECT coalesce(min(n), cardinality(asked.words)) INTO needed FROM (
            SELECT n, sum(each) OVER (ORDER BY n DESC) - each AS others
            FROM unnest(asked.weights) WITH ORDINALITY AS t (each, n)) AS t
            WHERE n >= used AND others * (1 + target.k1) < scores[most];
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(addresses, scores);
END
$$;
COMMENT ON FUNCTION words_ranked IS
    'Addresses and BM25 scores of the best matches in one collection.';

INSERT INTO schema_migrations (number, name) VALUES (14, '0014_words_ranked.sql');
