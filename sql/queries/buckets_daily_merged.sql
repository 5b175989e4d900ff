-- Days without percentiles, in parts that are to be merged: $1 series, whole days from $2 to $3. What begins before $4, a
-- day, is kept by day; what begins before $5 by hour, what begins before $6 by the quarter, and what lies between $6 and
-- $7 comes from readings, as do dirty hours. From $7 on nothing is kept; $8: the watermark's summed_before.
-- A day before $9, of which finer rollups may have been dropped by their age, comes from readings as a whole if it is
-- dirty.
WITH dirty AS (
    SELECT DISTINCT d.series_id, d.day, d.hour, d.day >= $9::timestamptz AS is_fine
    FROM iot.rollup_dirty AS d
    WHERE d.series_id = ANY ($1::integer[]) AND d.day >= $2::timestamptz AND d.day < $3::timestamptz
      AND d.hour < $7::timestamptz AND (d.day >= $9 OR d.day < $4::timestamptz)
)
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
       NULL::double precision AS median_value, NULL::double precision AS p95_value, r.valid_count, r.error_count
FROM iot.rollup_daily AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket < $4
  AND (r.series_id, r.bucket) NOT IN (SELECT series_id, day FROM dirty)
UNION ALL
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, NULL, NULL,
       r.valid_count, r.error_count
FROM iot.rollup_hourly AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket >= $4 AND r.bucket < $5::timestamptz
  AND (r.series_id, r.bucket) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, NULL, NULL,
       r.valid_count, r.error_count
FROM iot.rollup_15min AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket >= $5 AND r.bucket < $6::timestamptz
  AND (r.series_id, date_bin('1 hour', r.bucket, '2000-01-03 00:00:00+00')) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT d.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, NULL, NULL,
       r.valid_count, r.error_count
FROM (SELECT DISTINCT series_id, day FROM dirty WHERE is_fine AND day < $4) AS d
JOIN iot.rollup_hourly AS r
    ON r.series_id = d.series_id AND r.bucket >= d.day AND r.bucket < d.day + INTERVAL '24 hours'
WHERE (r.series_id, r.bucket) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT series_id, date_bin('1 day', time, '2000-01-03 00:00:00+00'), count(*), sum(value), min(value), max(value),
       stddev(value), NULL, NULL, count(*) FILTER (WHERE quality = 1), count(*) FILTER (WHERE quality NOT IN (0, 1))
FROM iot.reading
WHERE series_id = ANY ($1) AND time >= $2 AND time < $3 AND time >= $6 AND time < $7
GROUP BY 1, 2
UNION ALL
SELECT d.series_id, d.since, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, NULL, NULL,
       b.valid_count, b.error_count
FROM (SELECT DISTINCT series_id,
             CASE WHEN is_fine THEN hour ELSE day END AS since,
             CASE WHEN is_fine THEN hour + INTERVAL '1 hour' ELSE day + INTERVAL '24 hours' END AS until
      FROM dirty) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.since AND time < d.until AND time >= $2 AND time < $3 AND time < $7
) AS b
WHERE b.sample_count > 0
UNION ALL
SELECT o.series_id, o.bucket, o.sample_count, o.sum_value, o.min_value, o.max_value, o.stddev_value, NULL, NULL,
       o.valid_count, o.error_count
FROM iot.open_quarters($1, greatest($2, $7), $3, $8::timestamptz) AS o
