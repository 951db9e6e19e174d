-- Optional: three roles with the least rights that do, for the tables in the current schema. Run as
-- a superuser, or as the tables' owner who may create roles, and again after each upgrade:
--
--     psql -1 -v ON_ERROR_STOP=1 -f sql/roles.sql
--
-- They can't log in; grant them to those who can:
--
--     CREATE ROLE chat LOGIN PASSWORD '…' IN ROLE a2rchi_application;
--     CREATE ROLE grafana LOGIN PASSWORD '…' IN ROLE a2rchi_reader;
--
-- a2rchi_owner        owns every table, view and function, and so migrates: from now on with
--                     options='-c role=a2rchi_owner' in the DSN, lest new tables be somebody else's
-- a2rchi_application  does all of the library's work, and owns nothing
-- a2rchi_reader       reads the views v_*, and nothing else
--
-- Roles are the whole server's: whoever is in one has its rights in each database and schema where
-- this was run. Where another deployment's are on the server too, let each in only where it belongs:
--
--     REVOKE CONNECT ON DATABASE mine FROM PUBLIC;
--     GRANT CONNECT ON DATABASE mine TO chat, grafana;

DO $$
DECLARE
    wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['a2rchi_owner', 'a2rchi_application', 'a2rchi_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- it is there, perhaps for another database
        END;
    END LOOP;
    -- To give things to a role it takes more than having made it.
    IF NOT (pg_has_role('a2rchi_owner', 'SET') AND pg_has_role('a2rchi_owner', 'USAGE')) THEN
        GRANT a2rchi_owner TO CURRENT_USER WITH SET TRUE, INHERIT TRUE;
    END IF;
    EXECUTE format('GRANT USAGE, CREATE ON SCHEMA %I TO a2rchi_owner', current_schema);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO a2rchi_application, a2rchi_reader', current_schema);
END
$$;

-- Not what belongs to an extension, nor another role's in a schema that is shared: what the ledger's
-- owner has in this schema is taken for ours. A host whose tables stand here too needs another role
-- or another schema for one of the two.
DO $$
DECLARE
    here regnamespace := quote_ident(current_schema)::regnamespace;
    ours oid[] := ARRAY['a2rchi_owner'::regrole::oid,
        (SELECT relowner FROM pg_class WHERE oid = to_regclass('schema_migrations'))];
    item record;
BEGIN
    FOR item IN
        SELECT c.relname AS name, c.relkind AS kind
        FROM pg_class c
        WHERE c.relnamespace = here AND c.relkind IN ('r', 'p', 'v') AND c.relowner = ANY (ours)
            AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER TABLE %I OWNER TO a2rchi_owner', item.name);
        EXECUTE format('REVOKE ALL ON %I FROM PUBLIC, a2rchi_application, a2rchi_reader', item.name);
        EXECUTE format('GRANT SELECT ON %I TO a2rchi_application', item.name);
        IF item.kind = 'v' THEN
            IF starts_with(item.name, 'v_') THEN
                EXECUTE format('GRANT SELECT ON %I TO a2rchi_reader', item.name);
            END IF;
        -- What is audited is added to and never changed.
        ELSIF item.name IN ('static_config', 'dynamic_config', 'user_role_changes') THEN
            EXECUTE format('GRANT INSERT ON %I TO a2rchi_application', item.name);
        -- Collections are changed by functions, the ledger by migrations.
        ELSIF item.name NOT IN ('schema_migrations', 'collections') THEN
            EXECUTE format('GRANT INSERT, UPDATE, DELETE ON %I TO a2rchi_application', item.name);
            IF starts_with(item.name, 'document_chunks') THEN
                -- To reindex online; a new collection's table takes its rights from its parent.
                EXECUTE format('GRANT MAINTAIN ON %I TO a2rchi_application', item.name);
            END IF;
        END IF;
    END LOOP;
    -- A migration of data lets the numbers of these go on after those that came.
    FOR item IN
        SELECT pg_get_serial_sequence(quote_ident(t.name), t.number) AS sequence
        FROM (VALUES ('conversation_metadata', 'conversation_id'), ('conversations', 'message_id'),
            ('agent_tool_calls', 'id'), ('ab_comparisons', 'comparison_id')) AS t (name, number)
        JOIN pg_class c ON c.relname = t.name AND c.relnamespace = here AND c.relowner = ANY (ours)
    LOOP
        EXECUTE format('GRANT SELECT, UPDATE ON SEQUENCE %s TO a2rchi_application', item.sequence);
    END LOOP;
    FOR item IN
        SELECT p.oid::regprocedure AS name
        FROM pg_proc p
        WHERE p.pronamespace = here AND p.proowner = ANY (ours)
            AND NOT EXISTS (SELECT FROM pg_depend d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    LOOP
        EXECUTE format('ALTER FUNCTION %s OWNER TO a2rchi_owner', item.name);
        EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO a2rchi_application', item.name);
    END LOOP;
END
$$;
