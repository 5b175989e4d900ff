-- Compression and retention by the policies' own runs: no answer changes, no rollup is erased.

DO $$
DECLARE
    wrong text;
BEGIN
    -- The ages of the seed; every refresh window ends before retention begins, and no two policies start together.
    SELECT string_agg(format('%s of %s: %s', proc_name, hypertable_name, config), '; ') INTO wrong
    FROM timescaledb_information.jobs AS j
    WHERE proc_name = 'policy_refresh_continuous_aggregate'
      AND ((config ->> 'start_offset')::interval >= INTERVAL '90 days'
           OR (config ->> 'start_offset')::interval <= INTERVAL '60 days');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'refresh windows: %', wrong;
    END IF;
    IF (SELECT count(DISTINCT extract(minute FROM initial_start)) FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_refresh_continuous_aggregate') <> 4 THEN
        RAISE EXCEPTION 'refreshes start together';
    END IF;
    IF (SELECT array_agg(config ->> 'drop_after' ORDER BY job_id) FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_retention') <> ARRAY['90 days', '90 days', '180 days', '365 days'] THEN
        RAISE EXCEPTION 'retention differs from the seed';
    END IF;
    IF (SELECT array_agg(config ->> 'compress_after' ORDER BY job_id) FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_compression') <> ARRAY['7 days', '7 days'] THEN
        RAISE EXCEPTION 'compression differs from the seed';
    END IF;
END;
$$;

SELECT format('CALL run_job(%s)', job_id) FROM timescaledb_information.jobs
WHERE proc_name = 'policy_compression' ORDER BY job_id \gexec
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM timescaledb_information.chunks WHERE hypertable_name = 'reading' AND is_compressed)
       OR EXISTS (SELECT FROM timescaledb_information.chunks
                  WHERE hypertable_name = 'reading' AND is_compressed <> (range_end < now() - INTERVAL '7 days')) THEN
        RAISE EXCEPTION 'other chunks are compressed than those older than 7 days';
    END IF;
END;
$$;
SELECT seed.check_answers();

-- Into a compressed chunk.
INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
VALUES (date_trunc('day', now(), 'UTC') - INTERVAL '10 days' + INTERVAL '30 minutes', 'dev-1', 'collar', 7101,
        'temperature', 2000);
INSERT INTO iot.sensor_data SELECT * FROM seed.sensor_data WHERE metric_value = 2000;
SELECT format('CALL run_job(%s)', job_id) FROM timescaledb_information.jobs
WHERE proc_name = 'policy_refresh_continuous_aggregate' ORDER BY job_id \gexec
SELECT seed.check_answers();

-- Readings of 100 days ago, rolled up as if they had been live; then everything the policies do. Their rollups stay.
INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '100 days' + k * INTERVAL '1 minute', 'old', 'collar', 7140,
       'temperature', k
FROM generate_series(0, 99) AS k;
CALL refresh_continuous_aggregate('iot.rollup_15min', now() - INTERVAL '110 days', now() - INTERVAL '90 days');
CALL refresh_continuous_aggregate('iot.rollup_hourly', now() - INTERVAL '110 days', now() - INTERVAL '90 days');
CALL refresh_continuous_aggregate('iot.rollup_daily', now() - INTERVAL '110 days', now() - INTERVAL '90 days');
CREATE TABLE seed.before AS
SELECT '15min' AS level, bucket, sample_count, min_value, max_value FROM iot.sensor_data_15min WHERE farm_id = 7140
UNION ALL
SELECT 'hourly', bucket, sample_count, min_value, max_value FROM iot.sensor_data_hourly WHERE farm_id = 7140
UNION ALL
SELECT 'daily', bucket, sample_count, min_value, max_value FROM iot.sensor_data_daily WHERE farm_id = 7140;
SELECT format('CALL run_job(%s)', job_id) FROM timescaledb_information.jobs
WHERE proc_name = 'policy_retention' ORDER BY job_id \gexec
SELECT format('CALL run_job(%s)', job_id) FROM timescaledb_information.jobs
WHERE proc_name = 'policy_refresh_continuous_aggregate' ORDER BY job_id \gexec
DO $$
BEGIN
    IF EXISTS (SELECT FROM iot.sensor_data WHERE farm_id = 7140) THEN
        RAISE EXCEPTION 'readings of 100 days ago are still there';
    END IF;
    PERFORM seed.same('rollups after retention', 'level, bucket, sample_count, min_value, max_value', $q$
        SELECT '15min' AS level, bucket, sample_count, min_value, max_value FROM iot.sensor_data_15min
        WHERE farm_id = 7140
        UNION ALL
        SELECT 'hourly', bucket, sample_count, min_value, max_value FROM iot.sensor_data_hourly WHERE farm_id = 7140
        UNION ALL
        SELECT 'daily', bucket, sample_count, min_value, max_value FROM iot.sensor_data_daily WHERE farm_id = 7140
        $q$, 'TABLE seed.before');
    IF (SELECT count(*) FROM seed.before) <> 7 + 2 + 1 THEN
        RAISE EXCEPTION '% rollups instead of 10', (SELECT count(*) FROM seed.before);
    END IF;
    -- The retention left alone what is younger.
    DELETE FROM iot.device_status WHERE farm_id = 7140;
END;
$$;
