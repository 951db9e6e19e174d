-- What dashboards read (v_*), and the old system's tables under legacy_*.
--
-- A view runs with its owner's rights: whoever may read it needs none on the tables. The v_* hold no
-- user, no client and no secret; sql/roles.sql lets the reader role see them and nothing else.

-- v_messages: every message, its text without HTML. Whole panels are a GROUP BY of this one.
CREATE VIEW v_messages AS
SELECT m.message_id, m.conversation_id, m.ts, m.archi_service AS service, m.role,
       coalesce(m.model_used, 'unknown') AS model, coalesce(m.pipeline_used, 'unknown') AS pipeline,
       btrim(regexp_replace(m.content, '<[^<>]*>', '', 'g')) AS content,
       length(m.content) AS characters
FROM conversations m;
COMMENT ON VIEW v_messages IS 'Messages, without HTML; a panel of activity counts them by time.';

CREATE VIEW v_answers AS
SELECT m.message_id, m.conversation_id, m.ts, m.archi_service AS service,
       coalesce(m.model_used, 'unknown') AS model, coalesce(m.pipeline_used, 'unknown') AS pipeline
FROM conversations m WHERE m.role = 'assistant';
COMMENT ON VIEW v_answers IS 'What assistants said, by model and pipeline; read from an index alone.';

CREATE VIEW v_response_times AS
SELECT t.message_id, m.conversation_id, m.ts, m.archi_service AS service,
       coalesce(m.model_used, 'unknown') AS model, coalesce(m.pipeline_used, 'unknown') AS pipeline,
       extract(epoch FROM t.msg_duration)::float8 AS seconds,
       extract(epoch FROM t.similarity_search_ts - t.query_convo_history_ts)::float8
           AS search_seconds,
       extract(epoch FROM t.chain_finished_ts - t.query_convo_history_ts)::float8 AS chain_seconds
FROM timing t JOIN conversations m USING (message_id)
WHERE t.msg_duration IS NOT NULL;
COMMENT ON VIEW v_response_times IS 'From the receipt of a question to the response, in seconds.';

CREATE VIEW v_feedback AS
SELECT f.feedback_id, f.message_id, m.conversation_id, f.feedback_ts AS ts,
       m.archi_service AS service, coalesce(m.model_used, 'unknown') AS model,
       coalesce(m.pipeline_used, 'unknown') AS pipeline, f.feedback, f.feedback_msg,
       f.incorrect, f.unhelpful, f.inappropriate
FROM feedback f JOIN conversations m USING (message_id);
COMMENT ON VIEW v_feedback IS 'Reactions and comments, with the model they are about.';

CREATE VIEW v_conversation_lengths AS
SELECT m.conversation_id, min(m.ts) AS ts, max(m.ts) AS last_message_at, count(*) AS messages,
       count(*) FILTER (WHERE m.role = 'user') AS questions
FROM conversations m GROUP BY m.conversation_id;
COMMENT ON VIEW v_conversation_lengths IS 'How many messages each conversation has.';

CREATE VIEW v_recent_messages AS
SELECT m.*, (
    SELECT string_agg(h.role || ': ' || h.content, E'\n' ORDER BY h.ts, h.message_id)
    FROM v_messages h
    WHERE h.conversation_id = m.conversation_id
        AND (h.ts, h.message_id) < (m.ts, m.message_id)) AS history
FROM (SELECT * FROM v_messages ORDER BY ts DESC, message_id DESC LIMIT 100) AS m
ORDER BY m.ts DESC, m.message_id DESC;
COMMENT ON VIEW v_recent_messages IS 'The last 100 messages, each with all that was said before it.';

CREATE VIEW v_comparisons AS
SELECT x.comparison_id, x.conversation_id, x.created_at AS ts,
       coalesce(x.model_a, 'unknown') AS model_a, coalesce(x.model_b, 'unknown') AS model_b,
       coalesce(x.pipeline_a, 'unknown') AS pipeline_a,
       coalesce(x.pipeline_b, 'unknown') AS pipeline_b,
       coalesce(x.preference, 'pending') AS preference
FROM ab_comparisons x;
COMMENT ON VIEW v_comparisons IS 'A/B comparisons; preference is a, b, tie, skip or pending.';

-- Each comparison counts twice, once for either model.
CREATE VIEW v_model_comparisons AS
SELECT x.comparison_id, x.ts, s.model,
       (x.preference = s.side)::integer AS wins,
       (x.preference IN ('a', 'b') AND x.preference <> s.side)::integer AS losses,
       (x.preference = 'tie')::integer AS ties
FROM v_comparisons x CROSS JOIN LATERAL (VALUES ('a', x.model_a), ('b', x.model_b)) AS s (side, model);
COMMENT ON VIEW v_model_comparisons IS 'Wins, losses and ties of each model: sum them by model.';

CREATE VIEW v_traces AS
SELECT t.trace_id, t.conversation_id, t.started_at AS ts, t.pipeline_name AS pipeline,
       coalesce(t.model_used, 'unknown') AS model, t.status,
       t.total_duration_ms / 1000.0 AS seconds, t.total_tool_calls, t.total_tokens_used
FROM agent_traces t;
COMMENT ON VIEW v_traces IS 'Runs of agents: how they ended and how long they took.';

CREATE VIEW v_tool_calls AS
SELECT a.id, a.message_id, m.conversation_id, a.ts, a.step_number, a.tool_name,
       coalesce(m.model_used, 'unknown') AS model
FROM agent_tool_calls a JOIN conversations m USING (message_id);
COMMENT ON VIEW v_tool_calls IS 'Which tools were called when, for which model''s answers.';

-- The old tables, for SQL that was written for them: names and types of columns as they were, times
-- without zone in the session's. sql/README.md says what differs, and how to do without the prefix.

CREATE VIEW legacy_conversation_metadata AS
SELECT conversation_id, user_id, client_id, title, created_at::timestamp AS created_at,
       last_message_at::timestamp AS last_message_at, archi_version, archi_version AS a2rchi_version
FROM conversation_metadata;
COMMENT ON VIEW legacy_conversation_metadata IS 'The old conversation_metadata.';

-- There are no configs any more: conf_id stands for the model.
CREATE VIEW legacy_conversations AS
SELECT archi_service, archi_service AS a2rchi_service, conversation_id, message_id, sender, content,
       link, link AS context_title, context, ts::timestamp AS ts, model_used, pipeline_used,
       hashtext(coalesce(model_used, 'unknown')) AS conf_id
FROM conversations;
COMMENT ON VIEW legacy_conversations IS 'The old conversations; conf_id stands for the model.';

CREATE VIEW legacy_configs AS
SELECT DISTINCT hashtext(coalesce(model_used, 'unknown')) AS config_id, NULL::text AS config,
       coalesce(model_used, 'unknown') AS config_name
FROM conversations;
COMMENT ON VIEW legacy_configs IS
    'The old configs: a row per model, as nothing else is told apart any more.';

CREATE VIEW legacy_feedback AS
SELECT message_id AS mid, message_id, feedback_ts::timestamp AS feedback_ts, feedback, feedback_msg,
       incorrect, unhelpful, inappropriate
FROM feedback;
COMMENT ON VIEW legacy_feedback IS 'The old feedback.';

CREATE VIEW legacy_timing AS
SELECT message_id AS mid, message_id,
       client_sent_msg_ts::timestamp AS client_sent_msg_ts,
       server_received_msg_ts::timestamp AS server_received_msg_ts,
       lock_acquisition_ts::timestamp AS lock_acquisition_ts,
       vectorstore_update_ts::timestamp AS vectorstore_update_ts,
       query_convo_history_ts::timestamp AS query_convo_history_ts,
       chain_finished_ts::timestamp AS chain_finished_ts,
       similarity_search_ts::timestamp AS similarity_search_ts,
       archi_message_ts::timestamp AS archi_message_ts,
       archi_message_ts::timestamp AS a2rchi_message_ts,
       insert_convo_ts::timestamp AS insert_convo_ts,
       finish_call_ts::timestamp AS finish_call_ts,
       server_response_msg_ts::timestamp AS server_response_msg_ts,
       msg_duration
FROM timing;
COMMENT ON VIEW legacy_timing IS 'The old timing.';

CREATE VIEW legacy_agent_tool_calls AS
SELECT a.id, m.conversation_id, a.message_id, a.step_number, a.tool_name, a.tool_args,
       a.tool_result, a.ts::timestamp AS ts
FROM agent_tool_calls a JOIN conversations m USING (message_id);
COMMENT ON VIEW legacy_agent_tool_calls IS 'The old agent_tool_calls.';

CREATE VIEW legacy_agent_traces AS
SELECT trace_id, conversation_id, message_id, user_message_id, NULL::text AS config_id,
       pipeline_name, events, started_at::timestamp AS started_at,
       completed_at::timestamp AS completed_at,
       CASE status WHEN 'failed' THEN 'error' ELSE status END AS status,
       total_tool_calls, total_tokens_used, total_duration_ms, cancelled_by, cancellation_reason,
       started_at::timestamp AS created_at
FROM agent_traces;
COMMENT ON VIEW legacy_agent_traces IS 'The old agent_traces; failed is error here.';

CREATE VIEW legacy_ab_comparisons AS
SELECT comparison_id, conversation_id, user_prompt_message_id AS user_prompt_mid,
       response_a_message_id AS response_a_mid, response_b_message_id AS response_b_mid,
       user_prompt_message_id, response_a_message_id, response_b_message_id,
       model_a, pipeline_a, model_b, pipeline_b,
       hashtext(coalesce(model_a, 'unknown')) AS config_a_id,
       hashtext(coalesce(model_b, 'unknown')) AS config_b_id,
       is_config_a_first, preference, preference_ts::timestamp AS preference_ts,
       created_at::timestamp AS created_at
FROM ab_comparisons;
COMMENT ON VIEW legacy_ab_comparisons IS 'The old ab_comparisons.';

INSERT INTO schema_migrations (number, name) VALUES (11, '0011_views.sql');
