-- COPY as the service sends it: its columns in its order, as text and in binary (asyncpg's way).

CREATE TABLE seed.copied (LIKE seed.sensor_data INCLUDING DEFAULTS);
COPY seed.copied FROM STDIN;
2026-11-20 08:00:00+00	copy-1	collar	7150	temperature	38.25	C	valid	f	900	4	s-1	80	-60	{"firmware": "2.1", "tab": "a\\tb"}
2026-11-20 08:01:00+00	copy-1	collar	7150	temperature	38.5	\N	valid	f	\N	\N	\N	\N	\N	{}
2026-11-19 23:59:59.999999+00	copy-2	temp_sensor	7151	temperature	-12.125	C	invalid_range	t	\N	7	\N	15	\N	{}
\.
-- Near now, so that every query of the seed looks at them.
UPDATE seed.copied
SET time = time + (date_trunc('day', now()) - INTERVAL '4 days' - TIMESTAMPTZ '2026-11-20 00:00:00+00');
INSERT INTO seed.copied
SELECT now() - k * INTERVAL '61 seconds', 'copy-' || k % 5, 'collar', 7152, 'temperature', k / 16.0, 'C', 'valid', false,
       k, NULL, NULL, k % 100, NULL, '{"n": 1}'
FROM generate_series(0, 2999) AS k;
UPDATE seed.copied SET device_uid = device_uid || '-' || farm_id;

\set directory `mktemp -d`
\cd :directory
\copy (SELECT * FROM seed.copied WHERE farm_id <> 7152) TO 'rows.txt'
\copy (SELECT * FROM seed.copied WHERE farm_id = 7152) TO 'rows.bin' (FORMAT binary)
\copy iot.sensor_data FROM 'rows.txt'
\copy iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_value, metric_unit, data_quality, is_interpolated, animal_id, zone_id, session_id, battery_level, signal_strength, metadata) FROM 'rows.bin' (FORMAT binary)
\! rm -r "$PWD"
INSERT INTO seed.sensor_data SELECT * FROM seed.copied;
