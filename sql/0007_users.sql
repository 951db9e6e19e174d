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

-- What rotation looks for: what is on another key than the newest.
CREATE INDEX user_api_keys_key ON user_api_keys (key_id, user_id, provider);

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

INSERT INTO schema_migrations (number, name) VALUES (7, '0007_users.sql');
