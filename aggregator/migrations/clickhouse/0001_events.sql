-- What people filter on, one row an event. One issue's events lie together, newest reachable from the end of its range.
-- Partitions are by retention and week of receipt, so that an insert touches one partition and expiry drops whole parts.
CREATE TABLE IF NOT EXISTS events (
    project_id UInt64,
    issue_id UInt64,
    timestamp DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id UUID CODEC(NONE),
    received_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    retention_days UInt16,
    grouping_hash FixedString(16),
    kind LowCardinality(String),
    level LowCardinality(String),
    platform LowCardinality(String),
    title String CODEC(ZSTD(1)),
    culprit String CODEC(ZSTD(1)),
    message String CODEC(ZSTD(1)),
    exception_type String CODEC(ZSTD(1)),
    exception_value String CODEC(ZSTD(1)),
    transaction String CODEC(ZSTD(1)),
    release LowCardinality(String),
    environment LowCardinality(String),
    dist LowCardinality(String),
    server_name LowCardinality(String),
    logger LowCardinality(String),
    sdk_name LowCardinality(String),
    sdk_version LowCardinality(String),
    http_method LowCardinality(String),
    http_url String CODEC(ZSTD(1)),
    user String CODEC(ZSTD(1)),
    tags Map(LowCardinality(String), String) CODEC(ZSTD(1)),
    spool_id UUID CODEC(ZSTD(1)),
    sequence UInt64 CODEC(Delta, ZSTD(1)),
    INDEX event_id_filter event_id TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX tag_key_filter mapKeys(tags) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX tag_value_filter mapValues(tags) TYPE bloom_filter(0.01) GRANULARITY 1,
    INDEX release_filter release TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY (retention_days, toMonday(received_at))
ORDER BY (project_id, issue_id, timestamp, event_id)
TTL toDateTime(received_at) + toIntervalDay(retention_days)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1;

-- The whole event as JSON. Small granules and blocks: reading one event touches half a megabyte before compression.
CREATE TABLE IF NOT EXISTS event_payloads (
    project_id UInt64,
    issue_id UInt64,
    timestamp DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    event_id UUID CODEC(NONE),
    received_at DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1)),
    retention_days UInt16,
    json String CODEC(ZSTD(1))
)
ENGINE = MergeTree
PARTITION BY (retention_days, toMonday(received_at))
ORDER BY (project_id, issue_id, timestamp, event_id)
TTL toDateTime(received_at) + toIntervalDay(retention_days)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1,
    ttl_only_drop_parts = 1,
    index_granularity_bytes = 524288,
    min_index_granularity_bytes = 1024,
    min_compress_block_size = 65536,
    max_compress_block_size = 524288;

-- Counts by issue and hour: lists, charts and all-time totals read this and never the events.
CREATE TABLE IF NOT EXISTS issue_hourly (
    project_id UInt64,
    issue_id UInt64,
    hour DateTime('UTC'),
    count SimpleAggregateFunction(sum, UInt64),
    users AggregateFunction(uniq, Nullable(UInt64)),
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_seen SimpleAggregateFunction(max, DateTime64(3, 'UTC'))
)
ENGINE = AggregatingMergeTree
ORDER BY (project_id, issue_id, hour)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;

CREATE MATERIALIZED VIEW IF NOT EXISTS issue_hourly_from_events TO issue_hourly AS
SELECT
    project_id,
    issue_id,
    toStartOfHour(toDateTime(timestamp, 'UTC')) AS hour,
    count() AS count,
    uniqState(if(user = '', NULL, cityHash64(user))) AS users,
    min(timestamp) AS first_seen,
    max(timestamp) AS last_seen
FROM events
GROUP BY project_id, issue_id, hour;

-- What became of every item, by project and hour.
CREATE TABLE IF NOT EXISTS outcomes (
    project_id UInt64,
    hour DateTime('UTC'),
    category LowCardinality(String),
    outcome LowCardinality(String),
    reason LowCardinality(String),
    quantity SimpleAggregateFunction(sum, UInt64)
)
ENGINE = AggregatingMergeTree
ORDER BY (project_id, hour, category, outcome, reason)
SETTINGS
    non_replicated_deduplication_window = 10000,
    fsync_after_insert = 1,
    fsync_part_directory = 1;
