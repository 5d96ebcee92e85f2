-- The aggregators of an installation that share this database, and which sequences of which spool they hold.
-- Ids are lower-case text, numbers and times BIGINT, as everywhere.

CREATE TABLE nodes (
    id TEXT PRIMARY KEY,
    -- Where relays reach it, for people.
    address TEXT NOT NULL,
    -- Changes with each start, so that a second process under one id is found.
    incarnation TEXT NOT NULL,
    -- 1 where its events go to an engine of its own, which no other node can reach.
    is_alone BIGINT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    -- Its last round of claims and what became of each, for a node that lost the answer.
    round BIGINT NOT NULL DEFAULT 0,
    verdicts TEXT NOT NULL DEFAULT '[]'
);

CREATE TABLE spools (
    id TEXT PRIMARY KEY,
    -- The relay it belongs to; empty before the first has come.
    owner TEXT NOT NULL DEFAULT '',
    -- Of its latest session.
    epoch BIGINT NOT NULL DEFAULT 0,
    -- JSON: the sessions that tell it from its copies; empty before the first.
    sessions TEXT NOT NULL DEFAULT '',
    -- All sequences up to here are held.
    stored_up_to BIGINT NOT NULL DEFAULT 0,
    -- How many ranges lie above it.
    ranges_above BIGINT NOT NULL DEFAULT 0
);

-- Sequences above stored_up_to that are held. Ranges are disjoint and do not touch.
CREATE TABLE spool_ranges (
    spool_id TEXT NOT NULL REFERENCES spools (id) ON DELETE CASCADE,
    first BIGINT NOT NULL,
    last BIGINT NOT NULL,
    PRIMARY KEY (spool_id, first)
);

-- Fingerprints of the authorities that are in force; every node must hold them.
CREATE TABLE authorities (
    fingerprint TEXT PRIMARY KEY,
    made_at BIGINT NOT NULL
);
