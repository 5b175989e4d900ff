-- Closed, kept, late: whatever has been done of it, every answer is the one from the readings.

-- Closed, and nothing kept yet.
SELECT iot.close_before(now() - INTERVAL '5 days 7 minutes');
DO $$
BEGIN
    IF (SELECT (closed_before, stored_before) FROM iot.watermark)
       <> (date_bin('15 minutes', now() - INTERVAL '5 days 7 minutes', '2000-01-03 00:00:00+00'), '-infinity'::timestamptz) THEN
        RAISE EXCEPTION 'watermark: %', (SELECT w FROM iot.watermark AS w);
    END IF;
END;
$$;
SELECT seed.check_answers();

-- Kept.
\ir :refresh
DO $$
BEGIN
    IF (SELECT stored_before FROM iot.watermark) <> (SELECT closed_before FROM iot.watermark)
       OR NOT EXISTS (SELECT FROM iot.rollup_15min) OR NOT EXISTS (SELECT FROM iot.rollup_hourly)
       OR NOT EXISTS (SELECT FROM iot.rollup_daily) THEN
        RAISE EXCEPTION 'not kept: %', (SELECT w FROM iot.watermark AS w);
    END IF;
END;
$$;
SELECT seed.check_answers();

-- Again, with nothing to do: nothing is counted twice.
\ir :refresh
SELECT seed.check_answers();

-- Kept buckets are really answered from rollups: without their readings, too.
BEGIN;
DELETE FROM iot.reading WHERE time < (SELECT stored_before FROM iot.watermark);
DO $$
DECLARE
    level text;
    width interval;
BEGIN
    FOR level, width IN VALUES ('15min', INTERVAL '15 minutes'), ('hourly', '1 hour'), ('daily', '1 day') LOOP
        PERFORM seed.same('kept buckets, ' || level, 'bucket, device_uid::text, metric_name::text, sample_count',
                          format('SELECT * FROM iot.sensor_data_%s WHERE bucket < date_bin(%L, '
                                 '(SELECT stored_before FROM iot.watermark), ''2000-01-03 00:00:00+00'')', level, width),
                          format('SELECT * FROM seed.sensor_data_%s WHERE bucket < date_bin(%L, '
                                 '(SELECT stored_before FROM iot.watermark), ''2000-01-03 00:00:00+00'')', level, width));
    END LOOP;
END;
$$;
ROLLBACK;

-- Live readings mark nothing.
INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
VALUES (now(), 'live', 'collar', 7101, 'temperature', 1);
INSERT INTO iot.sensor_data SELECT * FROM seed.sensor_data WHERE device_uid = 'live';
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot.rollup_dirty) THEN
        RAISE EXCEPTION 'a live reading is dirty';
    END IF;
END;
$$;

-- Late by ten days, into a day that has been there and into one that has not; and into the quarter of an hour before
-- the watermark. In every answer at once, and after the refresh.
INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '10 days' + k * INTERVAL '37 minutes', 'dev-1', 'collar', 7101,
       'temperature', 1000 + k
FROM generate_series(0, 9) AS k
UNION ALL
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '25 days' + k * INTERVAL '61 minutes', 'dev-2', 'collar', 7102,
       'temperature', 1000 + k
FROM generate_series(0, 9) AS k
UNION ALL
SELECT closed_before - INTERVAL '1 microsecond', 'dev-3', 'collar', 7100, 'temperature', 1000 FROM iot.watermark
UNION ALL
SELECT closed_before, 'dev-3', 'collar', 7100, 'temperature', 1001 FROM iot.watermark;
INSERT INTO iot.sensor_data SELECT * FROM seed.sensor_data WHERE metric_value >= 1000;
-- What was kept first was noted as written then.
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot.reading AS r
               WHERE r.time < (SELECT stored_before FROM iot.watermark) AND r.value < 1000
                 AND NOT EXISTS (SELECT FROM iot.written_day AS w
                                 WHERE w.day = date_bin('1 day', r.time, '2000-01-03 00:00:00+00')
                                   AND w.written > now() - INTERVAL '1 hour')) THEN
        RAISE EXCEPTION 'days that were just kept are not noted as written';
    END IF;
END;
$$;
TRUNCATE iot.written_day;
DO $$
BEGIN
    IF (SELECT count(*) FROM iot.rollup_dirty) <> 6 + 10 + 1 THEN
        RAISE EXCEPTION '% dirty hours', (SELECT count(*) FROM iot.rollup_dirty);
    END IF;
END;
$$;
SELECT seed.check_answers();
\ir :refresh
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot.rollup_dirty)
       OR NOT EXISTS (SELECT FROM iot.rollup_daily WHERE max_value >= 1000)
       OR (SELECT count(*) FROM iot.written_day) NOT BETWEEN 3 AND 4 THEN
        RAISE EXCEPTION 'not mended';
    END IF;
END;
$$;
SELECT seed.check_answers();

-- A watermark that moves on, in the middle of an hour and of a day.
SELECT iot.close_before(now() - INTERVAL '1 hour');
SELECT seed.check_answers();
\ir :refresh
SELECT seed.check_answers();
-- It never moves back.
SELECT iot.close_before(now() - INTERVAL '10 days');
DO $$
BEGIN
    IF (SELECT closed_before FROM iot.watermark) < now() - INTERVAL '2 hours' THEN
        RAISE EXCEPTION 'the watermark moved back';
    END IF;
END;
$$;

-- A transaction that began before the watermark moved sees it all the same, or fails and may be repeated.
BEGIN ISOLATION LEVEL REPEATABLE READ;
INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
SELECT closed_before - INTERVAL '1 minute', 'dev-1', 'collar', 7101, 'temperature', 1 FROM iot.watermark;
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM iot.rollup_dirty) THEN
        RAISE EXCEPTION 'not marked in another isolation level';
    END IF;
END;
$$;
ROLLBACK;

-- Open quarters of an hour, summed up by old writers, too.
CREATE FUNCTION seed.check_open() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM seed.same('open quarters', 'series_id, bucket, sample_count, ~sum_value, min_value, max_value, deviation',
        'SELECT series_id, bucket, sum(sample_count) AS sample_count, sum(sum_value) AS sum_value,
                min(min_value) AS min_value, max(max_value) AS max_value,
                round(sqrt((sum(COALESCE(stddev_value, 0) ^ 2 * (sample_count - 1) + sum_value ^ 2 / sample_count)
                            - sum(sum_value) ^ 2 / sum(sample_count))
                           / NULLIF(sum(sample_count) - 1, 0))::numeric, 4) AS deviation
         FROM iot.open_quarters((SELECT array_agg(series_id) FROM iot.series),
                                (SELECT stored_before FROM iot.watermark), ''infinity'',
                                (SELECT summed_from FROM iot.watermark))
         GROUP BY 1, 2',
        'SELECT series_id, date_bin(''15 minutes'', time, ''2000-01-03 00:00:00+00'') AS bucket,
                count(*) AS sample_count, sum(value) AS sum_value, min(value) AS min_value, max(value) AS max_value,
                round(stddev(value)::numeric, 4) AS deviation
         FROM iot.reading WHERE time >= (SELECT stored_before FROM iot.watermark) GROUP BY 1, 2');
END;
$$;
CREATE FUNCTION seed.open_readings(since interval, until interval, base double precision) RETURNS void
LANGUAGE sql AS $$
    WITH new AS (
        INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        SELECT at, device || base, 'collar', 7101, 'temperature', base + row_number() OVER ()
        FROM iot.watermark AS w,
             generate_series(w.stored_before + since, w.stored_before + until, INTERVAL '50 seconds') AS at,
             unnest(ARRAY['open-1-', 'open-2-']) AS device
        RETURNING *
    )
    INSERT INTO iot.sensor_data SELECT * FROM new
$$;
SELECT seed.open_readings('0', '20 minutes', 10);
SELECT seed.check_open();
CREATE FUNCTION seed.check_sums() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT sum(sample_count) FROM iot.rollup_open)
       IS DISTINCT FROM (SELECT count(*) FROM iot.reading, iot.watermark WHERE time >= summed_from) THEN
        RAISE EXCEPTION '% summed up', (SELECT sum(sample_count) FROM iot.rollup_open);
    END IF;
    PERFORM seed.check_open();
END;
$$;
-- What is there is summed up, once, and what comes, by several statements of a transaction and by several transactions.
SELECT iot.sum_from(stored_before + INTERVAL '31 minutes') FROM iot.watermark;
SELECT seed.open_readings('25 minutes', '45 minutes', 20);
SELECT iot.sum_from(stored_before + INTERVAL '19 minutes') FROM iot.watermark;
SELECT seed.check_sums();
BEGIN;
SELECT seed.open_readings('1 minute', '40 minutes', 500);
SELECT seed.open_readings('16 minutes', '17 minutes', 500);
COMMIT;
SELECT seed.check_sums();
SELECT seed.open_readings('1 minute', '20 minutes', 500);
SELECT seed.check_sums();
SELECT seed.check_answers();
-- It begins no later than it did, and not before what is kept.
DO $$
BEGIN
    IF NOT iot.sum_from((SELECT stored_before + INTERVAL '30 minutes' FROM iot.watermark))
       OR iot.sum_from((SELECT stored_before - INTERVAL '15 minutes' FROM iot.watermark))
       OR (SELECT summed_from - stored_before FROM iot.watermark) <> INTERVAL '15 minutes' THEN
        RAISE EXCEPTION 'summed up: %', (SELECT w FROM iot.watermark AS w);
    END IF;
END;
$$;
-- Nothing that an old writer may write is refused for its sum.
BEGIN;
DO $$
DECLARE
    value double precision;
BEGIN
    FOREACH value IN ARRAY ARRAY[1e140, -1e140, 5e-324, 1e-300, 'NaN', 'Infinity', '-Infinity'] LOOP
        INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        SELECT stored_before + INTERVAL '16 minutes', 'open-' || n, 'collar', 7101, 'temperature', value * n
        FROM iot.watermark, (VALUES (1), (1), (-1)) AS v (n)
        WHERE abs(value) <= 1e140 OR n = 1;
    END LOOP;
END;
$$;
DO $$
BEGIN
    IF (SELECT (sum(sample_count), max(max_value), min(min_value))
        FROM iot.series AS s
        CROSS JOIN iot.watermark AS w
        CROSS JOIN LATERAL iot.open_quarters(ARRAY[s.series_id], w.stored_before, 'infinity', w.summed_from) AS q
        WHERE s.device_uid = 'open-1')
       IS DISTINCT FROM (14::numeric, 'NaN'::double precision, '-Infinity'::double precision) THEN
        RAISE EXCEPTION 'sums of odd values: %', (SELECT array_agg(o) FROM iot.rollup_open AS o);
    END IF;
END;
$$;
ROLLBACK;
-- What a statement asks becomes a part of it: the planner knows its times.
DO $$
DECLARE
    line text;
BEGIN
    FOR line IN EXECUTE 'EXPLAIN SELECT * FROM iot.daily_parts(ARRAY[1], ''2026-03-01'', ''2026-04-01'', ''2026-03-20'',
        ''2026-03-20'', ''2026-03-20'', ''2026-03-20'', ''infinity'', ''-infinity'')' LOOP
        IF line LIKE '%Function Scan on daily_parts%' OR line LIKE '%Function Scan on open_quarters%' THEN
            RAISE EXCEPTION 'planned by itself: %', line;
        END IF;
    END LOOP;
END;
$$;
-- Sums go once their quarters are kept.
SELECT iot.close_before(stored_before + INTERVAL '15 minutes') FROM iot.watermark;
SELECT seed.check_open();
\ir :refresh
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot.rollup_open WHERE bucket < (SELECT stored_before FROM iot.watermark)) THEN
        RAISE EXCEPTION 'sums of kept quarters are left';
    END IF;
END;
$$;
SELECT seed.check_open();
SELECT seed.check_answers();
