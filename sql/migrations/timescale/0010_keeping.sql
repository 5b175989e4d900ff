-- Rollups are kept by refreshes of the server, which compute what was closed and mend what came late; retention is the
-- server's, too: it counts, logs, and never drops what no rollup has. Compression goes on by its policies.

SELECT remove_continuous_aggregate_policy('iot.rollup_15min', if_exists => true);
SELECT remove_continuous_aggregate_policy('iot.rollup_hourly', if_exists => true);
SELECT remove_continuous_aggregate_policy('iot.rollup_daily', if_exists => true);
SELECT remove_continuous_aggregate_policy('iot.rollup_milk_daily', if_exists => true);
SELECT remove_retention_policy('iot.reading', if_exists => true);
SELECT remove_retention_policy('iot.milk_production_realtime', if_exists => true);
SELECT remove_retention_policy('iot.rollup_15min', if_exists => true);
SELECT remove_retention_policy('iot.rollup_hourly', if_exists => true);

-- What is answered from readings is decided by iot.series_LEVEL.
ALTER MATERIALIZED VIEW iot.rollup_15min SET (timescaledb.materialized_only = true);
ALTER MATERIALIZED VIEW iot.rollup_hourly SET (timescaledb.materialized_only = true);
ALTER MATERIALIZED VIEW iot.rollup_daily SET (timescaledb.materialized_only = true);
ALTER MATERIALIZED VIEW iot.rollup_milk_daily SET (timescaledb.materialized_only = true);

-- What is kept where, with sizes. Chunks of one stretch are one.
CREATE VIEW iot.chunk AS
WITH hypertable (source, name) AS (
    VALUES ('reading', 'reading'), ('milking', 'milk_production_realtime')
)
SELECT h.source,
       d.chunk_schema || '.' || d.chunk_name AS name,
       i.range_start AS start_time,
       i.range_end AS end_time,
       d.total_bytes AS bytes,
       s.before_compression_total_bytes AS uncompressed_bytes,
       i.is_compressed AS compressed
FROM hypertable AS h
CROSS JOIN LATERAL chunks_detailed_size(format('iot.%I', h.name)::regclass) AS d
JOIN timescaledb_information.chunks AS i
    ON i.hypertable_schema = 'iot' AND i.hypertable_name = h.name
       AND i.chunk_schema = d.chunk_schema AND i.chunk_name = d.chunk_name
LEFT JOIN (
    SELECT c.chunk_schema, c.chunk_name, c.before_compression_total_bytes
    FROM hypertable AS h
    CROSS JOIN LATERAL chunk_compression_stats(format('iot.%I', h.name)::regclass) AS c
) AS s ON s.chunk_schema = d.chunk_schema AND s.chunk_name = d.chunk_name;

-- Carried over: a day that has a rollup and no chunk was dropped. The readings of other days before the newest of these
-- are mended.
INSERT INTO iot.dropped_day (source, day)
SELECT 'reading', b.day
FROM (
    SELECT date_bin('1 day', bucket, '2000-01-03 00:00:00+00') AS day FROM iot.rollup_15min
    UNION
    SELECT date_bin('1 day', bucket, '2000-01-03 00:00:00+00') FROM iot.rollup_hourly
    UNION
    SELECT bucket FROM iot.rollup_daily
) AS b
WHERE NOT EXISTS (SELECT FROM timescaledb_information.chunks
                  WHERE hypertable_schema = 'iot' AND hypertable_name = 'reading'
                    AND range_start < b.day + INTERVAL '24 hours' AND range_end > b.day);
INSERT INTO iot.dropped_day (source, day)
SELECT DISTINCT 'milking', b.bucket
FROM iot.rollup_milk_daily AS b
WHERE NOT EXISTS (SELECT FROM timescaledb_information.chunks
                  WHERE hypertable_schema = 'iot' AND hypertable_name = 'milk_production_realtime'
                    AND range_start < b.bucket + INTERVAL '24 hours' AND range_end > b.bucket);
UPDATE iot.watermark AS w
SET closed_before = o.until, stored_before = o.until, reading_kept_from = o.until
FROM (SELECT max(day) + INTERVAL '24 hours' AS until FROM iot.dropped_day WHERE source = 'reading') AS o
WHERE o.until IS NOT NULL;
UPDATE iot.watermark AS w
SET milking_kept_from = o.until
FROM (SELECT max(day) + INTERVAL '24 hours' AS until FROM iot.dropped_day WHERE source = 'milking') AS o
WHERE o.until IS NOT NULL;
INSERT INTO iot.rollup_dirty (series_id, hour)
SELECT DISTINCT series_id, date_bin('1 hour', time, '2000-01-03 00:00:00+00')
FROM iot.reading
WHERE time < (SELECT stored_before FROM iot.watermark)
  AND date_bin('1 day', time, '2000-01-03 00:00:00+00')
      NOT IN (SELECT day FROM iot.dropped_day WHERE source = 'reading');

-- Milk is summed up where a day is dropped, in the same transaction: a table, not a continuous aggregate.
CREATE TABLE iot.rollup_milk_kept (
    bucket                timestamptz      NOT NULL,
    animal_id             integer          NOT NULL,
    farm_id               integer          NOT NULL,
    total_yield_kg        double precision NOT NULL,
    avg_yield_per_session double precision NOT NULL,
    milking_count         bigint           NOT NULL,
    avg_conductivity      double precision,
    avg_scc               numeric,
    max_mastitis_risk     double precision,
    avg_fat               double precision,
    avg_protein           double precision,
    PRIMARY KEY (farm_id, animal_id, bucket)
);
INSERT INTO iot.rollup_milk_kept
SELECT bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity, avg_scc,
       max_mastitis_risk, avg_fat, avg_protein
FROM iot.rollup_milk_daily
WHERE bucket IN (SELECT day FROM iot.dropped_day WHERE source = 'milking');
CREATE OR REPLACE VIEW iot.milk_production_daily AS
SELECT bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity, avg_scc,
       max_mastitis_risk, avg_fat, avg_protein
FROM iot.rollup_milk_kept;
DROP MATERIALIZED VIEW iot.rollup_milk_daily;
ALTER TABLE iot.rollup_milk_kept RENAME TO rollup_milk_daily;

-- The next stretch to keep, at most a day of readings, as what was closed allows; no row: all is kept.
CREATE FUNCTION iot.next_stretch(OUT since timestamptz, OUT until timestamptz) RETURNS SETOF record
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(p.since, w.closed_before), COALESCE(least(p.since + INTERVAL '24 hours', w.closed_before),
                                                        w.closed_before)
    FROM iot.watermark AS w
    LEFT JOIN LATERAL (
        SELECT date_bin('1 day', greatest(range_start, w.stored_before), '2000-01-03 00:00:00+00') AS since
        FROM timescaledb_information.chunks
        WHERE hypertable_schema = 'iot' AND hypertable_name = 'reading'
          AND range_end > w.stored_before AND range_start < w.closed_before
        ORDER BY range_start
        LIMIT 1
    ) AS p ON true
    WHERE w.stored_before < w.closed_before
$$;

-- The parts of dropping that differ by profile.

-- Answers how many chunks went.
CREATE FUNCTION iot.remove_readings(since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SELECT count(*) INTO n FROM drop_chunks('iot.reading', older_than => until, newer_than => since);
    RETURN n;
END;
$$;

CREATE FUNCTION iot.remove_milkings(since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    SELECT count(*) INTO n FROM iot.milk_production_realtime WHERE time >= since AND time < until;
    PERFORM drop_chunks('iot.milk_production_realtime', older_than => until, newer_than => since);
    -- What lies in a chunk that reaches further.
    DELETE FROM iot.milk_production_realtime WHERE time >= since AND time < until;
    RETURN n;
END;
$$;

CREATE FUNCTION iot.remove_rollups(level text, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    kept  regclass;
    whole bigint;
    rest  bigint;
BEGIN
    EXECUTE format('SELECT count(*) FROM iot.%I WHERE bucket < $1', 'rollup_' || level) INTO whole USING until;
    PERFORM drop_chunks(format('iot.%I', 'rollup_' || level)::regclass, older_than => until);
    -- What lies in a chunk that reaches further.
    SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass INTO kept
    FROM timescaledb_information.continuous_aggregates
    WHERE view_schema = 'iot' AND view_name = 'rollup_' || level;
    EXECUTE format('DELETE FROM %s WHERE bucket < $1', kept) USING until;
    GET DIAGNOSTICS rest = ROW_COUNT;
    RETURN greatest(whole, rest);
END;
$$;
