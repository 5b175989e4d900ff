-- Partitions: made once, dropped by age, never with a rollup.

DO $$
DECLARE
    cut   date := (now() AT TIME ZONE 'UTC')::date - 20;
    named text[];
    level text;
    n     bigint;
BEGIN
    -- One day is one partition, in UTC whatever the session says.
    SET LOCAL TimeZone = 'Asia/Kathmandu';
    PERFORM iot.ensure_reading_partition('2031-03-01');
    PERFORM iot.ensure_reading_partition('2031-03-01');
    IF (SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = 'iot.reading_20310301'::regclass)
       <> format('FOR VALUES FROM (%L) TO (%L)', TIMESTAMPTZ '2031-03-01 00:00:00+00',
                 TIMESTAMPTZ '2031-03-02 00:00:00+00') THEN
        RAISE EXCEPTION 'bounds: %', (SELECT pg_get_expr(relpartbound, oid) FROM pg_class
                                      WHERE oid = 'iot.reading_20310301'::regclass);
    END IF;
    IF (SELECT count(*) FROM pg_index WHERE indrelid = 'iot.reading_20310301'::regclass)
       <> (SELECT count(*) FROM pg_index WHERE indrelid = 'iot.reading'::regclass) THEN
        RAISE EXCEPTION 'indexes of a partition';
    END IF;
    BEGIN
        PERFORM iot.ensure_reading_partition('infinity');
        RAISE EXCEPTION 'a partition without end';
    EXCEPTION WHEN datetime_field_overflow THEN NULL;
    END;
    DROP TABLE iot.reading_20310301;

    -- A dry run names and leaves.
    SELECT array_agg(d) INTO named FROM iot.drop_reading_partitions(INTERVAL '20 days', dry_run => true) AS d;
    IF named IS NULL
       OR named <> (SELECT array_agg(name ORDER BY day) FROM iot.reading_partition WHERE day < cut) THEN
        RAISE EXCEPTION 'a dry run names %', named;
    END IF;
    -- One at a time, then the rest.
    IF (SELECT array_agg(d) FROM iot.drop_reading_partitions(INTERVAL '20 days', limit_days => 1) AS d)
       <> named[1:1] THEN
        RAISE EXCEPTION 'the oldest first';
    END IF;
    IF (SELECT array_agg(d) FROM iot.drop_reading_partitions(INTERVAL '20 days') AS d) <> named[2:] THEN
        RAISE EXCEPTION 'dropped other partitions than the dry run named';
    END IF;
    IF EXISTS (SELECT FROM iot.drop_reading_partitions(INTERVAL '20 days')) THEN
        RAISE EXCEPTION 'dropped twice';
    END IF;
    PERFORM seed.same('readings after retention', 'time, device_uid::text, metric_value', 'TABLE iot.sensor_data',
                      format('SELECT * FROM seed.sensor_data WHERE time >= %L', cut || ' 00:00:00+00'));
    IF (SELECT count(*) FROM seed.sensor_data) = (SELECT count(*) FROM iot.sensor_data) THEN
        RAISE EXCEPTION 'nothing was dropped';
    END IF;
    FOREACH level IN ARRAY ARRAY['15min', 'hourly', 'daily'] LOOP
        PERFORM seed.same('rollups after retention, ' || level, 'bucket, device_uid::text, metric_name::text, farm_id,
                          ~avg_value, min_value, max_value, sample_count',
                          'TABLE iot.sensor_data_' || level, 'TABLE seed.sensor_data_' || level);
    END LOOP;
    BEGIN
        PERFORM iot.drop_reading_partitions(INTERVAL '-1 day');
        RAISE EXCEPTION 'dropped the future';
    EXCEPTION WHEN invalid_parameter_value THEN NULL;
    END;
END;
$$;

-- Milkings and rollups by their ages.
DO $$
DECLARE
    n bigint;
BEGIN
    n := iot.delete_milkings(INTERVAL '5 days', dry_run => true);
    IF n = 0 OR n <> (SELECT count(*) FROM seed.milk_production_realtime
                      WHERE time < date_trunc('day', now() - INTERVAL '5 days', 'UTC'))
       OR n <> iot.delete_milkings(INTERVAL '5 days') OR iot.delete_milkings(INTERVAL '5 days') <> 0 THEN
        RAISE EXCEPTION 'deleted other milkings than %', n;
    END IF;
    IF EXISTS (SELECT FROM iot.milk_production_realtime
               WHERE time < date_trunc('day', now() - INTERVAL '5 days', 'UTC')) THEN
        RAISE EXCEPTION 'old milkings are still there';
    END IF;
    PERFORM seed.same('milk after retention', 'bucket, animal_id, farm_id, ~total_yield_kg, ~avg_yield_per_session,
                      milking_count, ~avg_conductivity, ~avg_scc, max_mastitis_risk, ~avg_fat, ~avg_protein',
                      'TABLE iot.milk_production_daily', 'TABLE seed.milk_production_daily');

    n := iot.delete_rollups('15min', INTERVAL '41 days', dry_run => true);
    IF n = 0 OR n <> (SELECT count(*) FROM seed.sensor_data_15min WHERE bucket < now() - INTERVAL '41 days')
       OR n <> iot.delete_rollups('15min', INTERVAL '41 days') THEN
        RAISE EXCEPTION 'deleted other rollups than %', n;
    END IF;
    IF EXISTS (SELECT FROM iot.sensor_data_15min WHERE bucket < now() - INTERVAL '41 days')
       OR NOT EXISTS (SELECT FROM iot.sensor_data_15min WHERE bucket < now() - INTERVAL '40 days')
       OR NOT EXISTS (SELECT FROM iot.sensor_data_hourly WHERE bucket < now() - INTERVAL '41 days') THEN
        RAISE EXCEPTION 'the rollups that are left are others than those younger than 41 days';
    END IF;
    BEGIN
        PERFORM iot.delete_rollups('reading', INTERVAL '1 day');
        RAISE EXCEPTION 'deleted what is no rollup';
    EXCEPTION WHEN invalid_parameter_value THEN NULL;
    END;
END;
$$;
