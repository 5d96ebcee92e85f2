-- What was signed for which relay, so that an operator can tell which certificates of a relay are about. What lets a relay in
-- is its row in relays, not this.
CREATE TABLE relay_certificates (
    serial TEXT PRIMARY KEY,
    relay_id TEXT NOT NULL REFERENCES relays (id) ON DELETE CASCADE,
    authority TEXT NOT NULL,
    issued_at BIGINT NOT NULL,
    not_after BIGINT NOT NULL
);

CREATE INDEX relay_certificates_by_relay ON relay_certificates (relay_id, issued_at);
