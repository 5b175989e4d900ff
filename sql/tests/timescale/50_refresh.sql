-- Continuous aggregates: what is materialised, what came late, and what the policies look at. No transaction: a
-- refresh cannot run in one.

CALL refresh_continuous_aggregate('iot.rollup_15min', now() - INTERVAL '63 days', now() - INTERVAL '15 minutes');
CALL refresh_continuous_aggregate('iot.rollup_hourly', now() - INTERVAL '63 days', now() - INTERVAL '1 hour');
CALL refresh_continuous_aggregate('iot.rollup_daily', now() - INTERVAL '63 days', now() - INTERVAL '1 day');
CALL refresh_continuous_aggregate('iot.rollup_milk_daily', now() - INTERVAL '63 days', now() - INTERVAL '1 day');
SELECT seed.check_answers();

-- Closed buckets are really kept: from the materialised part alone.
DO $$
BEGIN
    PERFORM set_config('timescaledb.enable_cagg_rewrites', 'off', true);
    IF (SELECT count(*) FROM timescaledb_information.continuous_aggregates
        WHERE view_schema = 'iot' AND NOT materialized_only) <> 4 THEN
        RAISE EXCEPTION 'not every rollup answers open buckets from readings';
    END IF;
END;
$$;

-- Late by ten days, and into a closed bucket: the policies' own run finds it.
INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
SELECT date_trunc('day', now(), 'UTC') - INTERVAL '10 days' + k * INTERVAL '1 minute', 'dev-1', 'collar', 7101,
       'temperature', 1000 + k
FROM generate_series(0, 9) AS k;
INSERT INTO iot.sensor_data SELECT * FROM seed.sensor_data WHERE metric_value >= 1000;
DO $$
BEGIN
    -- Else the run below would prove nothing.
    IF EXISTS (SELECT FROM iot.sensor_data_daily WHERE max_value >= 1000) THEN
        RAISE EXCEPTION 'the bucket was not closed';
    END IF;
END;
$$;
SELECT format('CALL run_job(%s)', job_id) FROM timescaledb_information.jobs
WHERE proc_name = 'policy_refresh_continuous_aggregate' AND hypertable_schema IS NOT NULL ORDER BY job_id \gexec
SELECT seed.check_answers();
