-- Who uses the application: profile, role and preferences, and the keys they bring for providers.
--
-- Nothing here is a secret in the clear. Keys are encrypted by the application before they come,
-- and authentication is the host's: there are no passwords, hashed or not.

CREATE TABLE users (
    id            text PRIMARY KEY CHECK (id <> '' AND octet_length(id) <= 2000),
    display_name  text,
    email         text,
    auth_provider text NOT NULL DEFAULT 'anonymous'
        CHECK (auth_provider IN ('anonymous', 'basic', 'sso')),
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('user', 'admin')),
    preferences   jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(preferences) = 'object'),
    login_count   integer NOT NULL DEFAULT 0 CHECK (login_count >= 0),
    last_login_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE users IS 'One row per person, known to the host or anonymous.';
COMMENT ON COLUMN users.id IS 'The host''s own id of a person, or one made for an anonymous one.';
COMMENT ON COLUMN users.preferences IS
    'What this person set for themselves; a key that is absent follows the configuration.';

-- Listing: newest first, a page after the last one seen.
CREATE INDEX users_created ON users (created_at DESC, id DESC);
CREATE INDEX users_admins ON users (created_at DESC, id DESC) WHERE role = 'admin';
CREATE INDEX users_email ON users (lower(email)) WHERE email IS NOT NULL;

CREATE TABLE user_api_keys (
    user_id      text NOT NULL REFERENCES users ON DELETE CASCADE ON UPDATE CASCADE,
    provider     text NOT NULL CHECK (provider ~ '^[a-z0-9][a-z0-9_.-]{0,63}$'),
    ciphertext   bytea NOT NULL,
    format       text NOT NULL DEFAULT 'aesgcm' CHECK (format IN ('aesgcm', 'pgcrypto')),
    key_id       text,
    last_four    text CHECK (length(last_four) <= 4),
    created_at   timestamptz NOT NULL DEFAULT now(),
    rotated_at   timestamptz,
    last_used_at timestamptz,
    expires_at   timestamptz,
    PRIMARY KEY (user_id, provider),
    CHECK (format = 'pgcrypto' OR key_id IS NOT NULL)
);
COMMENT ON TABLE user_api_keys IS
    'A person''s own key for a provider, encrypted for this person and provider alone.';
COMMENT ON COLUMN user_api_keys.key_id IS
    'Which key of the key ring it is encrypted with; NULL where the system before this one did it.';
COMMENT ON COLUMN user_api_keys.last_four IS
    'The key''s last characters, for people to tell it by; NULL until it was first decrypted here.';

-- Without a foreign key: who had which rights has to outlive the person's own data.
CREATE TABLE user_role_changes (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id    text NOT NULL,
    old_role   text,
    new_role   text NOT NULL,
    changed_by text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    note       text
);
COMMENT ON TABLE user_role_changes IS 'Audit: every change of a person''s role.';
COMMENT ON COLUMN user_role_changes.changed_by IS 'A user''s id; NULL is the deployment itself.';
CREATE INDEX user_role_changes_user ON user_role_changes (user_id, changed_at DESC);

CREATE VIEW v_users AS
SELECT auth_provider, role, login_count, last_login_at, created_at FROM users;
COMMENT ON VIEW v_users IS 'For dashboards: how many and how active, never who.';

-- Hands everything of one user to another, and that user is gone. The catalog knows which tables
-- those are: each that has a foreign key to users, whatever file made it. Where a unique key lets
-- only one row stay, the new user's own does.
CREATE FUNCTION move_user(old_id text, new_id text) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    reference record;
    rival text;
BEGIN
    -- Whoever is writing for either is waited for, and whoever comes later finds the old one gone.
    -- In one order, so that two moves never wait for one another.
    PERFORM FROM users WHERE id IN (old_id, new_id) ORDER BY id FOR UPDATE;
    FOR reference IN
        SELECT c.conrelid, c.conrelid::regclass AS tab, a.attnum, quote_ident(a.attname) AS col
        FROM pg_constraint c
        JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = c.conkey[1]
        WHERE c.confrelid = own_relation('users') AND c.contype = 'f' AND cardinality(c.conkey) = 1
            AND c.conparentid = 0
        ORDER BY c.conrelid::regclass::text, a.attname
    LOOP
        FOR rival IN
            SELECT coalesce(string_agg(
                format('mine.%1$I = rivals.%1$I', k.attname), ' AND ')
                FILTER (WHERE k.attnum <> reference.attnum), 'true')
            FROM pg_index i
            -- Counted from 0; behind what has to be unique stands what is only included.
            JOIN pg_attribute k ON k.attrelid = i.indrelid
                AND k.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
            WHERE i.indrelid = reference.conrelid AND i.indisunique
                AND i.indpred IS NULL AND i.indexprs IS NULL
                AND reference.attnum = ANY (i.indkey[0:i.indnkeyatts - 1])
            GROUP BY i.indexrelid
        LOOP
            EXECUTE format('DELETE FROM %s AS mine USING %1$s AS rivals
                WHERE mine.%2$s = $1 AND rivals.%2$s = $2 AND %3$s',
                reference.tab, reference.col, rival) USING old_id, new_id;
        END LOOP;
        EXECUTE format('UPDATE %s SET %2$s = $2 WHERE %2$s = $1', reference.tab, reference.col)
            USING old_id, new_id;
    END LOOP;
    -- Conversations of a browser that nobody had logged in from.
    IF EXISTS (SELECT FROM pg_attribute
            WHERE attrelid = own_relation('conversation_metadata') AND attname = 'client_id') THEN
        UPDATE conversation_metadata SET user_id = new_id
        WHERE client_id = old_id AND user_id IS NULL;
    END IF;
    UPDATE users AS kept
    SET preferences = gone.preferences || kept.preferences,
        display_name = coalesce(kept.display_name, gone.display_name),
        email = coalesce(kept.email, gone.email),
        created_at = least(kept.created_at, gone.created_at),
        updated_at = now()
    FROM users AS gone WHERE kept.id = new_id AND gone.id = old_id;
    DELETE FROM users WHERE id = old_id;
END
$$;
COMMENT ON FUNCTION move_user(text, text) IS
    'Hands everything of one user to another; what both have, the other keeps their own of.';

-- What there is about a person: their row, whatever refers to it, and whatever goes when that does.
CREATE FUNCTION export_user(wanted text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    part record;
    found jsonb;
    result jsonb := '{}';
BEGIN
    FOR part IN
        WITH RECURSIVE owned AS (
            SELECT own_relation('users')::oid AS rel, 'id = $1' COLLATE "C" AS condition,
                   ARRAY[own_relation('users')::oid] AS path
            UNION ALL
            SELECT c.conrelid, format('%I IN (SELECT %I FROM %s WHERE %s)', child.attname,
                       parent.attname, owned.rel::regclass, owned.condition),
                   path || c.conrelid
            FROM owned
            JOIN pg_constraint c ON c.confrelid = owned.rel AND c.contype = 'f'
                AND cardinality(c.conkey) = 1 AND c.conparentid = 0 AND c.conrelid <> ALL (path)
                AND (c.confdeltype = 'c' OR c.confrelid = own_relation('users'))
            JOIN pg_attribute child ON child.attrelid = c.conrelid AND child.attnum = c.conkey[1]
            JOIN pg_attribute parent ON parent.attrelid = owned.rel AND parent.attnum = c.confkey[1]
        )
        SELECT rel, relname AS name, string_agg(condition, ' OR ') AS condition
        FROM owned JOIN pg_class ON pg_class.oid = rel GROUP BY rel, relname
    LOOP
        EXECUTE format('SELECT jsonb_agg(to_jsonb(t) - ''ciphertext'') FROM %s AS t WHERE %s',
            part.rel::regclass, part.condition) INTO found USING wanted;
        result := result || jsonb_build_object(part.name, coalesce(found, '[]'));
    END LOOP;
    SELECT jsonb_agg(to_jsonb(r)) INTO found FROM user_role_changes r WHERE r.user_id = wanted;
    RETURN result || jsonb_build_object('user_role_changes', coalesce(found, '[]'));
END
$$;
COMMENT ON FUNCTION export_user(text) IS
    'All rows about a person, by table; encrypted keys are left out, when they were set is not.';

INSERT INTO schema_migrations (number, name) VALUES (7, '0007_users.sql');
