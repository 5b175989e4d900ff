-- Retention: whole days, once their rollups are kept; no rollup changes, and nothing comes into a dropped day again.

DO $$
#variable_conflict use_column
DECLARE
    cut   timestamptz := date_trunc('day', now(), 'UTC') - INTERVAL '20 days';
    level text;
    n     bigint;
    day   timestamptz;
BEGIN
    -- Not before they are kept and mended, nor parts of days.
    BEGIN
        PERFORM iot.drop_reading_days(date_trunc('day', now(), 'UTC'), date_trunc('day', now(), 'UTC') + INTERVAL '24 hours');
        RAISE EXCEPTION 'dropped a day that is not over';
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
    END;
    BEGIN
        PERFORM iot.drop_reading_days(cut - INTERVAL '36 hours', cut);
        RAISE EXCEPTION 'dropped half a day';
    EXCEPTION WHEN invalid_parameter_value THEN NULL;
    END;
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
    VALUES (cut - INTERVAL '60 hours', 'dev-1', 'collar', 7101, 'temperature', 1);
    BEGIN
        PERFORM iot.drop_reading_days(cut - INTERVAL '72 hours', cut - INTERVAL '48 hours');
        RAISE EXCEPTION 'dropped a day that is to be mended';
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
    END;
    DELETE FROM iot.reading WHERE time = cut - INTERVAL '60 hours' AND value = 1;
    DELETE FROM iot.rollup_dirty;
    BEGIN
        PERFORM iot.drop_reading_days(l.day, l.day + INTERVAL '24 hours', now() - INTERVAL '1 hour')
        FROM (SELECT min(day) AS day FROM iot.written_day) AS l;
        RAISE EXCEPTION 'dropped a day that was just written into';
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
    END;
    IF EXISTS (SELECT FROM iot.dropped_day) THEN
        RAISE EXCEPTION 'dropped after all';
    END IF;

    FOREACH day IN ARRAY (SELECT array_agg(start_time ORDER BY start_time) FROM iot.chunk
                          WHERE source = 'reading' AND end_time <= cut) LOOP
        IF NOT iot.drop_reading_days(day, day + INTERVAL '24 hours') THEN
            RAISE EXCEPTION 'there was nothing to drop of %', day;
        END IF;
    END LOOP;
    PERFORM seed.same('readings after retention', 'time, device_uid::text, metric_value', 'TABLE iot.sensor_data',
                      format('SELECT * FROM seed.sensor_data WHERE time >= %L', cut));
    IF (SELECT count(*) FROM seed.sensor_data) = (SELECT count(*) FROM iot.sensor_data)
       OR EXISTS (SELECT FROM iot.chunk WHERE source = 'reading' AND end_time <= cut)
       OR EXISTS (SELECT FROM iot.tag_day AS t JOIN iot.dropped_day AS d USING (day) WHERE d.source = 'reading') THEN
        RAISE EXCEPTION 'not everything was dropped';
    END IF;
    FOREACH level IN ARRAY ARRAY['15min', 'hourly', 'daily'] LOOP
        PERFORM seed.same('rollups after retention, ' || level, 'bucket, device_uid::text, metric_name::text, farm_id,
                          ~avg_value, min_value, max_value, sample_count',
                          'TABLE iot.sensor_data_' || level, 'TABLE seed.sensor_data_' || level);
    END LOOP;
    -- Again, though nothing is there.
    SELECT max(d.day) INTO day FROM iot.dropped_day AS d;
    IF iot.drop_reading_days(day, day + INTERVAL '24 hours') THEN
        RAISE EXCEPTION 'dropped % twice', day;
    END IF;

    -- Too late; a day that was never there takes readings.
    BEGIN
        INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        VALUES (now(), 'dev-1', 'collar', 7101, 'temperature', 1),
               (day + INTERVAL '1 hour', 'dev-1', 'collar', 7101, 'temperature', 1);
        RAISE EXCEPTION 'a dropped day took a reading';
    EXCEPTION WHEN check_violation THEN
        IF SQLERRM NOT LIKE '%' || to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD') || ' was dropped by retention%' THEN
            RAISE;
        END IF;
    END;
    PERFORM iot.ensure_reading_partition((day AT TIME ZONE 'UTC')::date);
    IF EXISTS (SELECT FROM iot.chunk WHERE source = 'reading' AND start_time = day) THEN
        RAISE EXCEPTION 'a dropped day was made again';
    END IF;
    INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
    VALUES (cut - INTERVAL '300 days', 'backfill', 'collar', 7101, 'temperature', 5);
    INSERT INTO iot.sensor_data SELECT * FROM seed.sensor_data WHERE device_uid = 'backfill';
END;
$$;
\ir :refresh
DO $$
#variable_conflict use_column
DECLARE
    cut   timestamptz := date_trunc('day', now(), 'UTC') - INTERVAL '5 days';
    level text;
    n     bigint;
    day   timestamptz;
BEGIN
    FOREACH level IN ARRAY ARRAY['15min', 'hourly', 'daily'] LOOP
        PERFORM seed.same('rollups after backfill, ' || level, 'bucket, device_uid::text, metric_name::text, farm_id,
                          ~avg_value, min_value, max_value, sample_count',
                          'TABLE iot.sensor_data_' || level, 'TABLE seed.sensor_data_' || level);
        IF (SELECT count(*) FROM iot.series_daily AS s JOIN iot.series AS e USING (series_id)
            WHERE e.device_uid = 'backfill') <> 1 THEN
            RAISE EXCEPTION 'backfill is in no rollup';
        END IF;
    END LOOP;

    -- Milkings.
    SELECT min(date_bin('1 day', time, '2000-01-03 00:00:00+00')) INTO day FROM iot.milk_production_realtime;
    BEGIN
        PERFORM iot.drop_milking_day(day, now() - INTERVAL '1 hour');
        RAISE EXCEPTION 'dropped a day of milkings that was just written into';
    EXCEPTION WHEN object_not_in_prerequisite_state THEN NULL;
    END;
    n := 0;
    FOREACH day IN ARRAY (SELECT array_agg(DISTINCT date_bin('1 day', time, '2000-01-03 00:00:00+00'))
                          FROM iot.milk_production_realtime WHERE time < cut) LOOP
        n := n + iot.drop_milking_day(day);
    END LOOP;
    IF n = 0 OR n <> (SELECT count(*) FROM seed.milk_production_realtime WHERE time < cut)
       OR EXISTS (SELECT FROM iot.milk_production_realtime WHERE time < cut) OR iot.drop_milking_day(day) <> 0 THEN
        RAISE EXCEPTION 'dropped other milkings than %', n;
    END IF;
    PERFORM seed.same('milk after retention', 'bucket, animal_id, farm_id, ~total_yield_kg, ~avg_yield_per_session,
                      milking_count, ~avg_conductivity, ~avg_scc, max_mastitis_risk, ~avg_fat, ~avg_protein',
                      'TABLE iot.milk_production_daily', 'TABLE seed.milk_production_daily');
    BEGIN
        INSERT INTO iot.milk_production_realtime (time, milk_meter_id, animal_id, farm_id, session_id, yield_kg)
        VALUES (day + INTERVAL '1 hour', 1, 1, 1, 's', 1);
        RAISE EXCEPTION 'a dropped day took a milking';
    EXCEPTION WHEN check_violation THEN NULL;
    END;

    -- Rollups, by their level.
    cut := date_trunc('hour', now(), 'UTC') - INTERVAL '11 days';
    SELECT count(*) INTO n FROM iot.rollup_15min WHERE bucket < cut;
    IF n = 0 OR n <> iot.drop_rollups('15min', cut) OR iot.drop_rollups('15min', cut) <> 0 THEN
        RAISE EXCEPTION 'dropped other rollups than %', n;
    END IF;
    IF EXISTS (SELECT FROM iot.sensor_data_15min WHERE bucket < cut)
       OR NOT EXISTS (SELECT FROM iot.sensor_data_15min WHERE bucket < cut + INTERVAL '1 day')
       OR NOT EXISTS (SELECT FROM iot.sensor_data_hourly WHERE bucket < cut)
       OR (SELECT rollup_15min_kept_from FROM iot.watermark) <> cut THEN
        RAISE EXCEPTION 'the rollups that are left are others than those at or after %', cut;
    END IF;
    BEGIN
        PERFORM iot.drop_rollups('reading', cut);
        RAISE EXCEPTION 'dropped what is no rollup';
    EXCEPTION WHEN invalid_parameter_value THEN NULL;
    END;
END;
$$;
