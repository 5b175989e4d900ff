-- What ends by $1, and what speaks against dropping it.
SELECT c.start_time,
       c.end_time,
       c.bytes,
       COALESCE((SELECT sum(r.sample_count) FROM iot.rollup_daily AS r
                 WHERE r.bucket >= c.start_time AND r.bucket < c.end_time), 0)::bigint AS rows,
       w.stored_before >= c.end_time AS stored,
       date_bin('1 day', c.start_time, '2000-01-03 00:00:00+00') = c.start_time
           AND date_bin('1 day', c.end_time, '2000-01-03 00:00:00+00') = c.end_time AS whole,
       (SELECT count(*) FROM (SELECT DISTINCT d.series_id, d.hour FROM iot.rollup_dirty AS d
                              WHERE d.day >= c.start_time AND d.day < c.end_time) AS d) AS dirty,
       (SELECT max(l.written) FROM iot.written_day AS l WHERE l.day >= c.start_time AND l.day < c.end_time) AS written
FROM (SELECT start_time, end_time, sum(bytes)::bigint AS bytes
      FROM iot.chunk WHERE source = 'reading' AND end_time <= $1
      GROUP BY start_time, end_time) AS c
CROSS JOIN iot.watermark AS w
ORDER BY c.start_time
