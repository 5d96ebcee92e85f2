-- Times are milliseconds since the Unix epoch, UTC. Hashes and tokens are lower-case hexadecimal text.

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);

INSERT INTO counters (name, value) VALUES ('project', 0), ('issue', 0), ('config_revision', 0);

CREATE TABLE projects (
    id BIGINT PRIMARY KEY,
    slug TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    platform TEXT,
    settings TEXT NOT NULL DEFAULT '{}',
    next_short_number BIGINT NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL
);

CREATE TABLE project_keys (
    public_key TEXT PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    label TEXT NOT NULL,
    enabled BOOLEAN NOT NULL DEFAULT TRUE,
    created_at BIGINT NOT NULL
);

CREATE INDEX project_keys_by_project ON project_keys (project_id);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    password_hash TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE web_sessions (
    token_hash TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE api_tokens (
    id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL UNIQUE,
    label TEXT NOT NULL,
    scopes TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);

CREATE TABLE join_tokens (
    secret_hash TEXT PRIMARY KEY,
    name TEXT,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    used_at BIGINT
);

CREATE TABLE relays (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    hostname TEXT NOT NULL,
    version TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    certificate_not_after BIGINT NOT NULL,
    last_seen_at BIGINT,
    revoked_at BIGINT
);

-- What an issue is. How often it happened is counted in ClickHouse alone.
CREATE TABLE issues (
    id BIGINT PRIMARY KEY,
    project_id BIGINT NOT NULL REFERENCES projects (id) ON DELETE CASCADE,
    short_number BIGINT NOT NULL,
    kind TEXT NOT NULL,
    title TEXT NOT NULL,
    culprit TEXT NOT NULL,
    level TEXT NOT NULL,
    platform TEXT NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL,
    substatus TEXT NOT NULL,
    first_seen BIGINT NOT NULL,
    UNIQUE (project_id, short_number)
);

CREATE INDEX issues_by_status ON issues (project_id, status, id);

-- Two events share an issue if and only if a grouping hash leads both to it.
CREATE TABLE issue_hashes (
    project_id BIGINT NOT NULL,
    hash TEXT NOT NULL,
    issue_id BIGINT NOT NULL REFERENCES issues (id) ON DELETE CASCADE,
    PRIMARY KEY (project_id, hash)
);

CREATE INDEX issue_hashes_by_issue ON issue_hashes (issue_id);
