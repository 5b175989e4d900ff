-- Old writers: the seed's INSERTs, on both sides.

-- One statement of many rows; twelve days, three farms, units that differ, qualities that are wrong or missing.
INSERT INTO seed.sensor_data (
    time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit, data_quality, is_interpolated,
    animal_id, zone_id, session_id, battery_level, signal_strength, metadata)
SELECT date_trunc('milliseconds', now()) - k * INTERVAL '173 seconds',
       'dev-' || k % 7,
       CASE WHEN k % 7 < 4 THEN 'collar' ELSE 'temp_sensor' END,
       7100 + k % 7 % 3,
       CASE WHEN k % 5 = 0 THEN 'activity' ELSE 'temperature' END,
       (k * 7919 % 1000) / 10.0,
       CASE WHEN k % 7 = 2 THEN CASE WHEN k % 2 = 0 THEN 'C' END WHEN k % 7 = 3 THEN NULL ELSE 'C' END,
       CASE WHEN k % 17 = 0 THEN 'invalid_range' WHEN k % 19 = 0 THEN NULL ELSE 'valid' END,
       k % 23 = 0,
       CASE WHEN k % 3 = 0 THEN 500 + k % 11 END,
       CASE WHEN k % 4 = 0 THEN 10 + k % 2 END,
       CASE WHEN k % 6 = 0 THEN 'session-' || k % 9 END,
       CASE WHEN k % 8 > 1 THEN k % 101 END,
       CASE WHEN k % 9 > 1 THEN -30 - k % 70 END,
       CASE WHEN k % 10 = 0 THEN jsonb_build_object('firmware', '1.' || k % 4, 'note', 'ünïcode "quoted"') ELSE '{}' END
FROM generate_series(0, 5999) AS k;
INSERT INTO iot.sensor_data (
    time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit, data_quality, is_interpolated,
    animal_id, zone_id, session_id, battery_level, signal_strength, metadata)
SELECT * FROM seed.sensor_data;

-- Statements of one row each, with parameters, in one transaction: what executemany sends. Some columns left out.
DO $$
DECLARE
    start  timestamptz := date_trunc('day', now(), 'UTC') - INTERVAL '40 days' + INTERVAL '10 hours';
    target text;
BEGIN
    FOREACH target IN ARRAY ARRAY['seed', 'iot'] LOOP
        FOR k IN 0 .. 299 LOOP
            EXECUTE format('INSERT INTO %I.sensor_data (time, device_uid, device_type, farm_id, metric_name, '
                           'metric_value) VALUES ($1, $2, $3, $4, $5, $6)', target)
            USING start - k * INTERVAL '7 minutes', 'many-' || k % 3, 'dispenser', 7110, 'temperature', k / 8.0;
        END LOOP;
    END LOOP;
END;
$$;

-- Known by hand: 1, 2, 3 and 10 within a quarter of an hour.
DO $$
DECLARE
    hour timestamptz := date_trunc('hour', now()) - INTERVAL '2 days';
BEGIN
    INSERT INTO seed.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit)
    SELECT hour + n * INTERVAL '1 minute', 'hand', 'milk_meter', 7120, 'temperature', v, 'C'
    FROM unnest(ARRAY[1, 2, 3, 10]) WITH ORDINALITY AS u (v, n);
    INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit)
    SELECT time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit
    FROM seed.sensor_data WHERE device_uid = 'hand';
    PERFORM seed.same('four values', 'bucket, avg_value, min_value, max_value, median_value, ~p95_value,
                      ~stddev_value, sample_count, valid_count',
                      'SELECT * FROM iot.sensor_data_hourly WHERE device_uid = ''hand''', format($q$
        SELECT %L::timestamptz AS bucket, 4::float8 AS avg_value, 1::float8 AS min_value, 10::float8 AS max_value,
               2.5::float8 AS median_value, 8.95 AS p95_value, 4.082482905 AS stddev_value, 4::bigint AS sample_count,
               4::bigint AS valid_count $q$, hour));
END;
$$;

-- The service's INSERT of a milking, word for word.
PREPARE milking (timestamptz, integer, integer, integer, varchar, double precision, integer, double precision,
                 double precision, double precision, boolean, double precision, double precision, double precision,
                 integer, double precision, timestamptz, timestamptz, varchar) AS
            INSERT INTO iot.milk_production_realtime (
                time, milk_meter_id, animal_id, farm_id, session_id,
                yield_kg, duration_seconds, flow_rate_kg_min,
                conductivity_ms, temperature_c, blood_detected,
                fat_percent, protein_percent, lactose_percent,
                somatic_cell_count, mastitis_risk_score,
                session_start, session_end, milking_type
            ) VALUES (
                $1, $2, $3, $4, $5, $6, $7, $8, $9, $10,
                $11, $12, $13, $14, $15, $16, $17, $18, $19
            );
EXECUTE milking (date_trunc('day', now(), 'UTC') - INTERVAL '66 hours 30 minutes', 3, 501, 7101, 'm-1', 12.5, 420, 1.8,
                 5.2, 38.5, false, 4.1, 3.3, 4.8, 180000, 0.12, date_trunc('day', now(), 'UTC') - INTERVAL '67 hours',
                 date_trunc('day', now(), 'UTC') - INTERVAL '66 hours 31 minutes', 'morning');
EXECUTE milking (date_trunc('day', now(), 'UTC') - INTERVAL '54 hours 30 minutes', 3, 501, 7101, 'm-2', 10.25, NULL,
                 NULL, NULL, NULL, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
DEALLOCATE milking;
INSERT INTO seed.milk_production_realtime VALUES
(date_trunc('day', now(), 'UTC') - INTERVAL '66 hours 30 minutes', 3, 501, 7101, 'm-1', 12.5, 420, 1.8, 5.2, 38.5,
 false, 4.1, 3.3, 4.8, 180000, 0.12, date_trunc('day', now(), 'UTC') - INTERVAL '67 hours',
 date_trunc('day', now(), 'UTC') - INTERVAL '66 hours 31 minutes', 'morning', NULL),
(date_trunc('day', now(), 'UTC') - INTERVAL '54 hours 30 minutes', 3, 501, 7101, 'm-2', 10.25, NULL, NULL, NULL, NULL,
 true, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
INSERT INTO seed.milk_production_realtime (time, milk_meter_id, animal_id, farm_id, session_id, yield_kg,
                                           conductivity_ms, fat_percent, protein_percent, somatic_cell_count,
                                           mastitis_risk_score)
SELECT now() - k * INTERVAL '5 hours', k % 4, 500 + k % 6, 7100 + k % 2, 's-' || k, 5 + k % 13 / 4.0,
       4 + k % 7 / 8.0, 3 + k % 5 / 4.0, CASE WHEN k % 3 > 0 THEN 3 + k % 4 / 8.0 END, 100000 + k * 37, k % 10 / 16.0
FROM generate_series(0, 99) AS k;
INSERT INTO iot.milk_production_realtime (time, milk_meter_id, animal_id, farm_id, session_id, yield_kg,
                                          conductivity_ms, fat_percent, protein_percent, somatic_cell_count,
                                          mastitis_risk_score)
SELECT time, milk_meter_id, animal_id, farm_id, session_id, yield_kg, conductivity_ms, fat_percent, protein_percent,
       somatic_cell_count, mastitis_risk_score
FROM seed.milk_production_realtime WHERE session_id LIKE 's-%';
