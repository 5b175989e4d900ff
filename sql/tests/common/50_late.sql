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
