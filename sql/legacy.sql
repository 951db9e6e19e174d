-- Optional: the old system's tables under their old names, in a schema of their own, for SQL that
-- can't be changed. Run as the tables' owner; put `legacy` first in the search_path to use them.

CREATE SCHEMA legacy;
COMMENT ON SCHEMA legacy IS 'Read-only views of the old system''s tables.';

CREATE VIEW legacy.conversation_metadata AS TABLE legacy_conversation_metadata;
CREATE VIEW legacy.conversations AS TABLE legacy_conversations;
CREATE VIEW legacy.configs AS TABLE legacy_configs;
CREATE VIEW legacy.feedback AS TABLE legacy_feedback;
CREATE VIEW legacy.timing AS TABLE legacy_timing;
CREATE VIEW legacy.agent_tool_calls AS TABLE legacy_agent_tool_calls;
CREATE VIEW legacy.agent_traces AS TABLE legacy_agent_traces;
CREATE VIEW legacy.ab_comparisons AS TABLE legacy_ab_comparisons;
