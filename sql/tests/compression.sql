-- How much smaller the columnstore makes a realistic day: 100 devices, 7 metrics each, a reading a minute, 1 008 000 in
-- all. Values walk in the steps their sensors have, with noise; battery and signal come with every reading; a commit
-- holds what the devices of one second of the minute have sent, sorted by series and time, as the server writes it.
-- Fails below 10:1. Timescale profile, an empty schema; not one of the numbered tests, for it takes a minute.

SELECT setseed(0.42);
INSERT INTO iot.series (farm_id, device_uid, device_type, metric_name, metric_unit)
SELECT 1, 'device-' || d, CASE WHEN d < 70 THEN 'collar' ELSE 'temp_sensor' END, m.name, m.unit
FROM generate_series(0, 99) AS d,
     (VALUES ('temperature', 'C'), ('activity', ''), ('rumination', 'min'), ('humidity', '%'), ('yield', 'kg'),
             ('conductivity', 'mS/cm'), ('ph', '')) AS m (name, unit);

CREATE TEMP TABLE sensor AS
SELECT s.series_id, row_number() OVER (ORDER BY s.series_id) - 1 AS n, d.d, m.base, m.step, m.places
FROM iot.series AS s
JOIN (SELECT d, 'device-' || d AS device_uid FROM generate_series(0, 99) AS d) AS d USING (device_uid)
JOIN (VALUES ('temperature', 38.6, 0.06, 1), ('activity', 120, 14, 0), ('rumination', 30, 3, 0),
             ('humidity', 64, 0.8, 1), ('yield', 12, 0.4, 2), ('conductivity', 5.2, 0.05, 2), ('ph', 6.7, 0.02, 2))
     AS m (metric_name, base, step, places) USING (metric_name);

WITH walked AS (
    SELECT series_id, d, minute, n,
           base + sum((random() - 0.5) * step) OVER (PARTITION BY series_id ORDER BY minute) AS level,
           (random() - 0.5) * step AS noise, places, random() AS luck
    FROM sensor, generate_series(0, 1439) AS minute
)
INSERT INTO iot.reading (time, stamp, value, series_id, animal_id, zone_id, quality, battery_level, signal_strength,
                         is_interpolated)
SELECT TIMESTAMPTZ '2026-11-01 00:00:00+00' + minute * INTERVAL '1 minute' + d % 60 * INTERVAL '1 second'
           -- Clocks of the devices: exact to 20 ms.
           + trunc(luck * 20) * INTERVAL '1 millisecond',
       ((minute * 60 + d % 60)::bigint << 16) + row_number() OVER (PARTITION BY minute, d % 60 ORDER BY series_id),
       round((level + noise)::numeric, places),
       series_id,
       CASE WHEN d < 70 THEN 1000 + d END,
       CASE WHEN d >= 70 THEN d % 8 END,
       1,
       95 - minute / 400,
       -60 - trunc(luck * 12),
       false
FROM walked
ORDER BY minute, d % 60, series_id;

CREATE TEMP TABLE before AS
SELECT table_bytes, index_bytes, total_bytes FROM hypertable_detailed_size('iot.reading');
SELECT count(compress_chunk(c)) AS chunks FROM show_chunks('iot.reading') AS c;
CREATE TEMP TABLE after AS SELECT * FROM hypertable_compression_stats('iot.reading');

SELECT count(*) AS readings,
       round((SELECT table_bytes FROM before) / count(*)::numeric, 1) AS table_bytes,
       round((SELECT index_bytes FROM before) / count(*)::numeric, 1) AS index_bytes,
       round((SELECT after_compression_total_bytes FROM after) / count(*)::numeric, 2) AS compressed_bytes,
       round((SELECT before_compression_total_bytes::numeric / after_compression_total_bytes FROM after), 1) AS ratio
FROM iot.reading;
DO $$
BEGIN
    IF (SELECT before_compression_total_bytes::numeric / after_compression_total_bytes FROM after) < 10 THEN
        RAISE EXCEPTION 'compressed less than 10:1';
    END IF;
END;
$$;
