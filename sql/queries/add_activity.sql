INSERT INTO iot.activity AS a (minute, writer, readings)
SELECT minute, $2, readings FROM unnest($1::timestamptz[], $3::bigint[]) AS u (minute, readings)
ON CONFLICT (minute, writer) DO UPDATE SET readings = a.readings + EXCLUDED.readings
