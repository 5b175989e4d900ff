-- Rollups are kept by refreshes, which compute what was closed and mend what came late.

-- Retention deletes the oldest rollups, which lie in the order of time: an index of a few pages finds them. Readings get
-- none: it would cost every reading (8 % and more of COPY on PostgreSQL 15), and a refresh finds its stretch by series.
CREATE INDEX rollup_15min_bucket ON iot.rollup_15min USING brin (bucket) WITH (autosummarize = on);
CREATE INDEX rollup_hourly_bucket ON iot.rollup_hourly USING brin (bucket) WITH (autosummarize = on);
CREATE INDEX rollup_daily_bucket ON iot.rollup_daily USING brin (bucket) WITH (autosummarize = on);

-- Carried over: what the functions of before had rolled up, they had dropped. What came for these days afterwards was
-- counted nowhere and still is not; what came for other days before the watermark is mended.
INSERT INTO iot.dropped_day (source, day)
SELECT DISTINCT 'reading', r.bucket
FROM iot.rollup_daily AS r
WHERE r.bucket < (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'daily');
INSERT INTO iot.dropped_day (source, day)
SELECT DISTINCT 'milking', r.bucket
FROM iot.rollup_milk_daily AS r
WHERE r.bucket < (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'milk_daily');
UPDATE iot.watermark AS w
SET closed_before = o.closed_before,
    stored_before = o.closed_before,
    reading_kept_from = COALESCE((SELECT max(day) + INTERVAL '24 hours' FROM iot.dropped_day WHERE source = 'reading'),
                                 '-infinity'),
    milking_kept_from = COALESCE((SELECT max(day) + INTERVAL '24 hours' FROM iot.dropped_day WHERE source = 'milking'),
                                 '-infinity')
FROM (SELECT max(closed_before) AS closed_before FROM iot.rollup_watermark WHERE level <> 'milk_daily') AS o;
INSERT INTO iot.rollup_dirty (series_id, hour)
SELECT DISTINCT series_id, date_bin('1 hour', time, '2000-01-03 00:00:00+00')
FROM iot.reading
WHERE time < (SELECT stored_before FROM iot.watermark)
  AND date_bin('1 day', time, '2000-01-03 00:00:00+00')
      NOT IN (SELECT day FROM iot.dropped_day WHERE source = 'reading');

DROP FUNCTION iot.drop_reading_partitions(interval, boolean, integer);
DROP FUNCTION iot.close_reading_day(date);
DROP FUNCTION iot.delete_milkings(interval, boolean);
DROP FUNCTION iot.delete_rollups(text, interval, boolean);

-- Makes the day's partition unless it is there, or was dropped for good.
CREATE OR REPLACE FUNCTION iot.ensure_reading_partition(day date) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    partition text;
BEGIN
    IF day NOT BETWEEN DATE '0001-01-01' AND DATE '9999-12-31' THEN
        RAISE EXCEPTION 'no partition for the day %: readings are kept from 0001-01-01 to 9999-12-31', day
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    partition := 'reading_' || to_char(day, 'YYYYMMDD');
    IF to_regclass('iot.' || partition) IS NOT NULL
       OR EXISTS (SELECT FROM iot.dropped_day AS d
                  WHERE d.source = 'reading' AND d.day = ensure_reading_partition.day::timestamp AT TIME ZONE 'UTC')
    THEN
        RETURN;
    END IF;
    -- The lock that attaching takes: it lets commits pass and makes a second caller wait, who then sees what the first
    -- has made (an advisory lock would leave him with the catalogue as he remembers it).
    LOCK TABLE ONLY iot.reading IN SHARE UPDATE EXCLUSIVE MODE;
    IF to_regclass('iot.' || partition) IS NOT NULL THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE iot.%I (LIKE iot.reading INCLUDING ALL)', partition);
    EXECUTE format('ALTER TABLE iot.reading ATTACH PARTITION iot.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, day || ' 00:00:00+00', (day + 1) || ' 00:00:00+00');
END;
$$;

-- What is kept where, with sizes.
CREATE VIEW iot.chunk AS
SELECT 'reading' AS source,
       p.name,
       p.day::timestamp AT TIME ZONE 'UTC' AS start_time,
       (p.day + 1)::timestamp AT TIME ZONE 'UTC' AS end_time,
       p.bytes,
       NULL::bigint AS uncompressed_bytes,
       false AS compressed
FROM iot.reading_partition AS p
UNION ALL
SELECT 'milking', 'milk_production_realtime', date_bin('1 day', m.first, '2000-01-03 00:00:00+00'),
       date_bin('1 day', m.last, '2000-01-03 00:00:00+00') + INTERVAL '24 hours',
       pg_total_relation_size('iot.milk_production_realtime'), NULL, false
FROM (SELECT min(time) AS first, max(time) AS last FROM iot.milk_production_realtime) AS m
WHERE m.first IS NOT NULL;

-- The next stretch to keep, at most a day of readings, as what was closed allows; no row: all is kept.
CREATE FUNCTION iot.next_stretch(OUT since timestamptz, OUT until timestamptz) RETURNS SETOF record
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(p.since, w.closed_before), COALESCE(least(p.since + INTERVAL '24 hours', w.closed_before),
                                                        w.closed_before)
    FROM iot.watermark AS w
    LEFT JOIN LATERAL (
        SELECT day::timestamp AT TIME ZONE 'UTC' AS since
        FROM iot.reading_partition
        WHERE (day + 1)::timestamp AT TIME ZONE 'UTC' > w.stored_before
          AND day::timestamp AT TIME ZONE 'UTC' < w.closed_before
        ORDER BY day
        LIMIT 1
    ) AS p ON true
    WHERE w.stored_before < w.closed_before
$$;

-- Keeps the buckets of all levels that end by `until` and are not kept yet; answers how many. For one session at a time.
CREATE FUNCTION iot.store_rollups(until timestamptz) RETURNS bigint
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET work_mem = '64MB' AS $$
DECLARE
    stored timestamptz;
    since  timestamptz;
    before timestamptz;
    n      bigint;
    total  bigint := 0;
BEGIN
    SELECT stored_before, least(until, closed_before) INTO stored, until FROM iot.watermark;
    IF until <= stored THEN
        RETURN 0;
    END IF;

    INSERT INTO iot.rollup_15min AS r
           (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, valid_count, error_count)
    SELECT b.bucket, s.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value,
           b.valid_count, b.error_count
    FROM iot.series AS s
    CROSS JOIN LATERAL (
        SELECT date_bin('15 minutes', time, '2000-01-03 00:00:00+00') AS bucket, count(*) AS sample_count,
               sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
               stddev(value) AS stddev_value, count(*) FILTER (WHERE quality = 1) AS valid_count,
               count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
        FROM iot.reading
        WHERE series_id = s.series_id AND time >= stored AND time < until
        GROUP BY 1
    ) AS b
    ON CONFLICT (series_id, bucket) DO UPDATE SET
        sample_count = EXCLUDED.sample_count, sum_value = EXCLUDED.sum_value, min_value = EXCLUDED.min_value,
        max_value = EXCLUDED.max_value, stddev_value = EXCLUDED.stddev_value, valid_count = EXCLUDED.valid_count,
        error_count = EXCLUDED.error_count;
    GET DIAGNOSTICS n = ROW_COUNT;
    total := total + n;

    since := date_bin('1 hour', stored, '2000-01-03 00:00:00+00');
    before := date_bin('1 hour', until, '2000-01-03 00:00:00+00');
    IF since < before THEN
        INSERT INTO iot.rollup_hourly AS r
               (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value,
                p95_value, valid_count, error_count)
        SELECT b.bucket, s.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value,
               b.median_value, b.p95_value, b.valid_count, b.error_count
        FROM iot.series AS s
        CROSS JOIN LATERAL (
            SELECT date_bin('1 hour', time, '2000-01-03 00:00:00+00') AS bucket, count(*) AS sample_count,
                   sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
                   stddev(value) AS stddev_value, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
                   percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p95_value,
                   count(*) FILTER (WHERE quality = 1) AS valid_count,
                   count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
            FROM iot.reading
            WHERE series_id = s.series_id AND time >= since AND time < before
            GROUP BY 1
        ) AS b
        ON CONFLICT (series_id, bucket) DO UPDATE SET
            sample_count = EXCLUDED.sample_count, sum_value = EXCLUDED.sum_value, min_value = EXCLUDED.min_value,
            max_value = EXCLUDED.max_value, stddev_value = EXCLUDED.stddev_value,
            median_value = EXCLUDED.median_value, p95_value = EXCLUDED.p95_value,
            valid_count = EXCLUDED.valid_count, error_count = EXCLUDED.error_count;
        GET DIAGNOSTICS n = ROW_COUNT;
        total := total + n;
    END IF;

    since := date_bin('1 day', stored, '2000-01-03 00:00:00+00');
    before := date_bin('1 day', until, '2000-01-03 00:00:00+00');
    IF since < before THEN
        INSERT INTO iot.rollup_daily AS r
               (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value,
                valid_count, error_count)
        SELECT b.bucket, s.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value,
               b.median_value, b.valid_count, b.error_count
        FROM iot.series AS s
        CROSS JOIN LATERAL (
            SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') AS bucket, count(*) AS sample_count,
                   sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
                   stddev(value) AS stddev_value, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
                   count(*) FILTER (WHERE quality = 1) AS valid_count,
                   count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
            FROM iot.reading
            WHERE series_id = s.series_id AND time >= since AND time < before
            GROUP BY 1
        ) AS b
        ON CONFLICT (series_id, bucket) DO UPDATE SET
            sample_count = EXCLUDED.sample_count, sum_value = EXCLUDED.sum_value, min_value = EXCLUDED.min_value,
            max_value = EXCLUDED.max_value, stddev_value = EXCLUDED.stddev_value,
            median_value = EXCLUDED.median_value, valid_count = EXCLUDED.valid_count,
            error_count = EXCLUDED.error_count;
        GET DIAGNOSTICS n = ROW_COUNT;
        total := total + n;
    END IF;

    PERFORM iot.note_stored(until);
    RETURN total;
END;
$$;

-- Mends the oldest dirty hours that reach into the time from `since` to `until`, `most` marks of them: computes their
-- kept buckets again and removes their marks. A day waits for the last of its dirty hours: until then it is answered
-- from readings anyway. Answers hours of series and buckets. For one session at a time.
CREATE FUNCTION iot.mend_rollups(most integer, since timestamptz DEFAULT '-infinity',
                                 until timestamptz DEFAULT 'infinity', OUT hours bigint, OUT buckets bigint)
LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan SET work_mem = '64MB' AS $$
DECLARE
    stored timestamptz;
    looked bigint;
    ids    integer[];
    times  timestamptz[];
    n      bigint;
BEGIN
    SELECT stored_before, looked_mark INTO stored, looked FROM iot.watermark;
    -- All marks of these hours go that were looked at. Those that came since stay: commits count on them, which may be
    -- under way, and the hour is mended again next time.
    WITH oldest AS (
        SELECT DISTINCT series_id, day, hour
        FROM (SELECT series_id, day, hour FROM iot.rollup_dirty
              WHERE id <= looked AND hour > since - INTERVAL '1 hour' AND hour < until
              ORDER BY id LIMIT most) AS d
    ), gone AS (
        DELETE FROM iot.rollup_dirty AS d USING oldest AS o
        WHERE d.series_id = o.series_id AND d.day = o.day AND d.hour = o.hour AND d.id <= looked
        RETURNING d.series_id, d.day, d.hour
    ), noted AS (
        INSERT INTO iot.written_day AS l (day, written)
        SELECT DISTINCT day, now() FROM gone
        ON CONFLICT (day) DO UPDATE SET written = greatest(l.written, EXCLUDED.written)
    )
    SELECT array_agg(g.series_id), array_agg(g.hour), count(*) INTO ids, times, hours
    FROM (SELECT DISTINCT series_id, hour FROM gone ORDER BY hour, series_id) AS g;
    buckets := 0;
    IF hours = 0 THEN
        RETURN;
    END IF;

    INSERT INTO iot.rollup_15min AS r
           (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, valid_count, error_count)
    SELECT b.bucket, d.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value,
           b.valid_count, b.error_count
    FROM unnest(ids, times) AS d (series_id, hour)
    CROSS JOIN LATERAL (
        SELECT date_bin('15 minutes', time, '2000-01-03 00:00:00+00') AS bucket, count(*) AS sample_count,
               sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
               stddev(value) AS stddev_value, count(*) FILTER (WHERE quality = 1) AS valid_count,
               count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
        FROM iot.reading
        WHERE series_id = d.series_id AND time >= d.hour AND time < least(d.hour + INTERVAL '1 hour', stored)
        GROUP BY 1
    ) AS b
    ON CONFLICT (series_id, bucket) DO UPDATE SET
        sample_count = EXCLUDED.sample_count, sum_value = EXCLUDED.sum_value, min_value = EXCLUDED.min_value,
        max_value = EXCLUDED.max_value, stddev_value = EXCLUDED.stddev_value, valid_count = EXCLUDED.valid_count,
        error_count = EXCLUDED.error_count;
    GET DIAGNOSTICS n = ROW_COUNT;
    buckets := buckets + n;

    INSERT INTO iot.rollup_hourly AS r
           (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value, p95_value,
            valid_count, error_count)
    SELECT d.hour, d.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value,
           b.median_value, b.p95_value, b.valid_count, b.error_count
    FROM unnest(ids, times) AS d (series_id, hour)
    CROSS JOIN LATERAL (
        SELECT count(*) AS sample_count, sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
               stddev(value) AS stddev_value, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
               percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p95_value,
               count(*) FILTER (WHERE quality = 1) AS valid_count,
               count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
        FROM iot.reading
        WHERE series_id = d.series_id AND time >= d.hour AND time < d.hour + INTERVAL '1 hour'
    ) AS b
    WHERE d.hour < date_bin('1 hour', stored, '2000-01-03 00:00:00+00') AND b.sample_count > 0
    ON CONFLICT (series_id, bucket) DO UPDATE SET
        sample_count = EXCLUDED.sample_count, sum_value = EXCLUDED.sum_value, min_value = EXCLUDED.min_value,
        max_value = EXCLUDED.max_value, stddev_value = EXCLUDED.stddev_value, median_value = EXCLUDED.median_value,
        p95_value = EXCLUDED.p95_value, valid_count = EXCLUDED.valid_count, error_count = EXCLUDED.error_count;
    GET DIAGNOSTICS n = ROW_COUNT;
    buckets := buckets + n;

    INSERT INTO iot.rollup_daily AS r
           (bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value, valid_count,
            error_count)
    SELECT d.day, d.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value,
           b.median_value, b.valid_count, b.error_count
    FROM (SELECT DISTINCT series_id, date_bin('1 day', hour, '2000-01-03 00:00:00+00') AS day
          FROM unnest(ids, times) AS d (series_id, hour)) AS d
    CROSS JOIN LATERAL (
        SELECT count(*) AS sample_count, sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
               stddev(value) AS stddev_value, percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
               count(*) FILTER (WHERE quality = 1) AS valid_count,
               count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
        FROM iot.reading
        WHERE series_id = d.series_id AND time >= d.day AND time < d.day + INTERVAL '24 hours'
    ) AS b
    WHERE d.day < date_bin('1 day', stored, '2000-01-03 00:00:00+00') AND b.sample_count > 0
      AND NOT EXISTS (SELECT FROM iot.rollup_dirty AS o WHERE o.series_id = d.series_id AND o.day = d.day)
    ON CONFLICT (series_id, bucket) DO UPDATE SET
        sample_count = EXCLUDED.sample_count, sum_value = EXCLUDED.sum_value, min_value = EXCLUDED.min_value,
        max_value = EXCLUDED.max_value, stddev_value = EXCLUDED.stddev_value, median_value = EXCLUDED.median_value,
        valid_count = EXCLUDED.valid_count, error_count = EXCLUDED.error_count;
    GET DIAGNOSTICS n = ROW_COUNT;
    buckets := buckets + n;
END;
$$;

-- The parts of dropping that differ by profile.

-- Answers how many partitions went.
CREATE FUNCTION iot.remove_readings(since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    partition text;
    n         bigint := 0;
BEGIN
    FOR partition IN
        SELECT name FROM iot.chunk WHERE source = 'reading' AND start_time >= since AND end_time <= until
    LOOP
        EXECUTE format('DROP TABLE iot.%I', partition);
        n := n + 1;
    END LOOP;
    RETURN n;
END;
$$;

CREATE FUNCTION iot.remove_milkings(since timestamptz, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    DELETE FROM iot.milk_production_realtime WHERE time >= since AND time < until;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END;
$$;

CREATE FUNCTION iot.remove_rollups(level text, until timestamptz) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    n bigint;
BEGIN
    EXECUTE format('DELETE FROM iot.%I WHERE bucket < $1', 'rollup_' || level) USING until;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END;
$$;
