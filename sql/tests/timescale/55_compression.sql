-- Compression by its policies' own runs changes no answer, nor does a late reading in a compressed chunk. Refresh and
-- retention are the server's: a policy would erase what it knows nothing of.

DO $$
BEGIN
    IF EXISTS (SELECT FROM timescaledb_information.jobs
               WHERE hypertable_schema IS NOT NULL
                 AND proc_name IN ('policy_refresh_continuous_aggregate', 'policy_retention')) THEN
        RAISE EXCEPTION 'policies: %', (SELECT jsonb_agg(j) FROM timescaledb_information.jobs AS j);
    END IF;
    IF (SELECT array_agg(config ->> 'compress_after' ORDER BY job_id) FROM timescaledb_information.jobs
        WHERE proc_name = 'policy_compression') <> ARRAY['7 days', '7 days'] THEN
        RAISE EXCEPTION 'compression differs from the seed';
    END IF;
    IF EXISTS (SELECT FROM timescaledb_information.continuous_aggregates
               WHERE view_schema = 'iot' AND NOT materialized_only)
       OR (SELECT count(*) FROM timescaledb_information.continuous_aggregates WHERE view_schema = 'iot') <> 3 THEN
        RAISE EXCEPTION 'a rollup answers more than what is kept';
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
    IF EXISTS (SELECT FROM iot.chunk WHERE compressed <> (uncompressed_bytes IS NOT NULL) OR bytes <= 0)
       OR (SELECT count(*) FROM iot.chunk WHERE compressed)
          <> (SELECT count(*) FROM timescaledb_information.chunks
              WHERE hypertable_schema = 'iot' AND hypertable_name IN ('reading', 'milk_production_realtime')
                AND is_compressed) THEN
        RAISE EXCEPTION 'chunks: %', (SELECT jsonb_agg(c) FROM iot.chunk AS c);
    END IF;
END;
$$;
SELECT seed.check_answers();

INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
VALUES (date_trunc('day', now(), 'UTC') - INTERVAL '10 days' + INTERVAL '30 minutes', 'dev-1', 'collar', 7101,
        'temperature', 2000);
INSERT INTO iot.sensor_data SELECT * FROM seed.sensor_data WHERE metric_value = 2000;
SELECT seed.check_answers();
\ir :refresh
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM iot.rollup_daily WHERE max_value = 2000) OR EXISTS (SELECT FROM iot.rollup_dirty) THEN
        RAISE EXCEPTION 'not mended';
    END IF;
END;
$$;
SELECT seed.check_answers();
