-- Whether a key is enabled, as a number: 1 or 0. Both databases have that type under one name.

ALTER TABLE project_keys ADD COLUMN is_enabled BIGINT NOT NULL DEFAULT 1;

UPDATE project_keys SET is_enabled = CASE WHEN enabled THEN 1 ELSE 0 END;

ALTER TABLE project_keys DROP COLUMN enabled;
