-- Days that end by $1, and when they were last written.
SELECT m.day AS start_time, m.day + INTERVAL '24 hours' AS end_time, m.rows, m.written,
       COALESCE((SELECT sum(c.bytes) FROM iot.chunk AS c
                 WHERE c.source = 'milking' AND c.start_time = m.day AND c.end_time = m.day + INTERVAL '24 hours'),
                0)::bigint AS bytes
FROM (SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') AS day, count(*) AS rows, max(written) AS written
      FROM iot.milk_production_realtime
      WHERE time < date_bin('1 day', $1::timestamptz, '2000-01-03 00:00:00+00')
      GROUP BY 1) AS m
ORDER BY 1
