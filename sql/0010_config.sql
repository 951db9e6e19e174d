-- What the application is configured with. Both tables are only ever appended to: the row with the
-- highest revision is in force, the rest is the history, and the differences are the audit.
--
-- No secret is stored: of those the configuration file names, the reference is kept.

CREATE TABLE static_config (
    revision   integer PRIMARY KEY CHECK (revision > 0),
    settings   jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    changed_by text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    note       text
);
COMMENT ON TABLE static_config IS 'Deploy-time configuration: one row per deployment that changed it.';

CREATE TABLE dynamic_config (
    revision   integer PRIMARY KEY CHECK (revision > 0),
    settings   jsonb NOT NULL CHECK (jsonb_typeof(settings) = 'object'),
    changed_by text,
    changed_at timestamptz NOT NULL DEFAULT now(),
    note       text
);
COMMENT ON TABLE dynamic_config IS
    'Run-time configuration: what was set of it; a key that is absent follows static_config.';
COMMENT ON COLUMN dynamic_config.changed_by IS 'A user''s id; NULL is the deployment itself.';

-- Field by field what each revision changed: old_value is NULL where the field was not set before,
-- new_value where it no longer is; a value that is null reads as JSON's null.
CREATE VIEW config_audit AS
WITH revisions AS (
    SELECT 'dynamic' AS config_type, revision, settings, changed_by, changed_at, note,
           lag(settings, 1, '{}') OVER (ORDER BY revision) AS before
    FROM dynamic_config
    UNION ALL
    SELECT 'static', revision, settings, changed_by, changed_at, note,
           lag(settings, 1, '{}') OVER (ORDER BY revision)
    FROM static_config
)
SELECT r.config_type, r.revision, r.changed_by AS user_id, r.changed_at, r.note,
       field.name AS field_name, r.before -> field.name AS old_value,
       r.settings -> field.name AS new_value
FROM revisions r
CROSS JOIN LATERAL (
    SELECT jsonb_object_keys(r.before || r.settings) AS name
) AS field
WHERE r.before -> field.name IS DISTINCT FROM r.settings -> field.name;
COMMENT ON VIEW config_audit IS 'Who changed which field of the configuration, from what to what.';

-- Says that there is a new revision, never what it holds: anyone connected may listen.
CREATE FUNCTION announce_config() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM pg_notify('a2rchi_config', json_build_object(
        'schema', TG_TABLE_SCHEMA, 'table', TG_TABLE_NAME, 'revision', NEW.revision)::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER announce AFTER INSERT ON static_config
    FOR EACH ROW EXECUTE FUNCTION announce_config();
CREATE TRIGGER announce AFTER INSERT ON dynamic_config
    FOR EACH ROW EXECUTE FUNCTION announce_config();

INSERT INTO schema_migrations (number, name) VALUES (10, '0010_config.sql');
