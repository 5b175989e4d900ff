-- Closing days: from the watermark on answers come from readings, before it from the rollup tables. None changes.
-- Leaves nothing behind.
BEGIN;

DO $$
DECLARE
    day date;
BEGIN
    FOR day IN
        SELECT p.day FROM iot.reading_partition AS p WHERE p.day < (now() AT TIME ZONE 'UTC')::date - 5 ORDER BY 1
    LOOP
        PERFORM iot.close_reading_day(day);
        -- Again: nothing is counted twice.
        PERFORM iot.close_reading_day(day);
    END LOOP;
    IF (SELECT count(DISTINCT closed_before) FROM iot.rollup_watermark WHERE level <> 'milk_daily') <> 1
       OR (SELECT min(closed_before) FROM iot.rollup_watermark WHERE level <> 'milk_daily')
          <> date_trunc('day', now(), 'UTC') - INTERVAL '5 days'
       OR (SELECT count(*) FROM iot.rollup_daily) = 0 THEN
        RAISE EXCEPTION 'watermarks: %', (SELECT jsonb_agg(w) FROM iot.rollup_watermark AS w);
    END IF;
END;
$$;
SELECT seed.check_answers();

-- Closed means kept: a closed bucket is answered though its readings are gone, an open one is not.
TRUNCATE iot.reading;
DO $$
BEGIN
    PERFORM seed.same('closed buckets', 'bucket, device_uid::text, metric_name::text, sample_count',
                      'SELECT * FROM iot.sensor_data_hourly', $q$
                      SELECT * FROM seed.sensor_data_hourly
                      WHERE bucket < date_trunc('day', now(), 'UTC') - INTERVAL '5 days' $q$);
END;
$$;
ROLLBACK;
