-- What writing through iot.sensor_data does beside the readings, and what it refuses. Leaves nothing behind.
BEGIN;
DO $$
DECLARE
    noon timestamptz := date_trunc('minute', now()) - INTERVAL '30 minutes';
    n    bigint;
    text text;
    row  record;
BEGIN
    -- Activity: by minute of the readings, under writer 0, at the end of the transaction.
    SET CONSTRAINTS ALL IMMEDIATE;
    SELECT COALESCE(sum(readings), 0) INTO n FROM iot.activity WHERE writer = 0 AND minute > now() - INTERVAL '20 hours';
    IF n <> (SELECT count(*) FROM seed.sensor_data
             WHERE date_trunc('minute', time) > now() - INTERVAL '20 hours') THEN
        RAISE EXCEPTION 'activity counts % readings of the last 20 hours', n;
    END IF;

    -- Defaults of the seed; NULL stays NULL where the seed keeps it, an empty unit is none.
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit)
    VALUES (noon, 'own', 'collar', 7130, 'temperature', 38.5, '');
    SELECT * INTO row FROM iot.sensor_data WHERE device_uid = 'own';
    IF (row.data_quality, row.is_interpolated, row.metadata, row.metric_value)
       IS DISTINCT FROM ('valid'::varchar, false, '{}'::jsonb, 38.5::float8) OR row.metric_unit IS NOT NULL THEN
        RAISE EXCEPTION 'defaults: %', row;
    END IF;
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, data_quality)
    VALUES (noon, 'own', 'collar', 7130, 'temperature', 38.5, 'my own words');
    IF NOT EXISTS (SELECT FROM iot.sensor_data WHERE device_uid = 'own' AND data_quality = 'my own words') THEN
        RAISE EXCEPTION 'a quality of an old writer is lost';
    END IF;

    -- A known series is not made again, nor is a number used up.
    n := (SELECT last_value FROM pg_sequences WHERE schemaname = 'iot' AND sequencename = 'series_series_id_seq');
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
    SELECT noon, 'own', 'collar', 7130, 'temperature', v FROM generate_series(1, 10) AS v;
    IF n <> (SELECT last_value FROM pg_sequences WHERE schemaname = 'iot' AND sequencename = 'series_series_id_seq')
       OR (SELECT count(*) FROM iot.series WHERE device_uid = 'own') <> 1 THEN
        RAISE EXCEPTION 'a series was made twice';
    END IF;

    -- Status: only what is newer; battery and signal each by their own time.
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, battery_level)
    VALUES (noon - INTERVAL '1 minute', 'own', 'collar', 7130, 'temperature', 1, 77);
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, battery_level,
                                 signal_strength)
    VALUES (noon - INTERVAL '2 minutes', 'own', 'collar', 7130, 'temperature', 1, 99, -40);
    SELECT * INTO row FROM iot.device_status WHERE device_uid = 'own';
    IF (row.last_seen, row.battery_level, row.battery_at, row.signal_strength)
       IS DISTINCT FROM (noon, 77::smallint, noon - INTERVAL '1 minute', (-40)::smallint) THEN
        RAISE EXCEPTION 'status: %', row;
    END IF;

    -- Nothing waits in the inbox, and a statement of no rows is one.
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
    SELECT noon, 'none', 'collar', 7130, 'temperature', 1 WHERE false;
    IF EXISTS (SELECT FROM iot.inbox) OR EXISTS (SELECT FROM iot.inbox_statement) THEN
        RAISE EXCEPTION 'the inbox is not empty';
    END IF;

    -- A statement that fails leaves nothing of itself, and the next one works.
    SET CONSTRAINTS ALL DEFERRED;
    BEGIN
        INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        SELECT noon, repeat('x', 63 + v), 'collar', 7130, 'temperature', v FROM generate_series(1, 2) AS v;
        RAISE EXCEPTION 'a device of 65 characters was taken';
    EXCEPTION WHEN string_data_right_truncation THEN NULL;
    END;
    BEGIN
        INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        VALUES (noon, NULL, 'collar', 7130, 'temperature', 1);
        RAISE EXCEPTION 'a reading without device was taken';
    EXCEPTION WHEN not_null_violation THEN NULL;
    END;
    BEGIN
        INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        VALUES ('infinity', 'own', 'collar', 7130, 'temperature', 1);
        RAISE EXCEPTION 'a reading at infinity was taken';
    EXCEPTION WHEN datetime_field_overflow THEN NULL;
    END;
    BEGIN
        INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
        VALUES (noon, 'own', 'collar', 7130, 'temperature', 1e300);
        RAISE EXCEPTION 'a value was taken whose square is out of range';
    EXCEPTION WHEN check_violation THEN NULL;
    END;
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value)
    VALUES (noon, 'after', 'collar', 7130, 'temperature', 1);
    SET CONSTRAINTS ALL IMMEDIATE;
    IF (SELECT count(*) FROM iot.sensor_data WHERE farm_id = 7130) <> 15
       OR (SELECT count(*) FROM iot.device_status WHERE farm_id = 7130) <> 2 THEN
        RAISE EXCEPTION 'after failures: % readings', (SELECT count(*) FROM iot.sensor_data WHERE farm_id = 7130);
    END IF;

    -- The seed's rules.
    IF iot.validate_sensor_reading('temperature', -50) <> 'valid'
       OR iot.validate_sensor_reading('temperature', 100.1) <> 'invalid_range'
       OR iot.validate_sensor_reading('activity', -1) <> 'invalid_range'
       OR iot.validate_sensor_reading('activity', 1000) <> 'valid'
       OR iot.validate_sensor_reading('yield', 100.5) <> 'invalid_range'
       OR iot.validate_sensor_reading('rumination', 1e9) <> 'valid' THEN
        RAISE EXCEPTION 'validate_sensor_reading answers otherwise than the seed';
    END IF;
END;
$$;
ROLLBACK;
