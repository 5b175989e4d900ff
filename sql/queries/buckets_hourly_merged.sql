-- Hours without percentiles, in parts that are to be merged: $1 series, whole hours from $2 to $3. What is not kept by
-- hour comes from kept quarters, unless these may have been dropped by their age, and the rest from readings, as do
-- dirty hours.
WITH kept AS (
    SELECT date_bin('1 hour', stored_before, '2000-01-03 00:00:00+00') AS hours,
           -- From when on nothing is kept.
           CASE WHEN date_bin('1 hour', stored_before, '2000-01-03 00:00:00+00') >= rollup_15min_kept_from
                THEN stored_before ELSE date_bin('1 hour', stored_before, '2000-01-03 00:00:00+00') END AS until
    FROM iot.watermark
), dirty AS (
    SELECT DISTINCT d.series_id, d.hour
    FROM iot.rollup_dirty AS d
    WHERE d.series_id = ANY ($1::integer[]) AND d.hour >= $2::timestamptz AND d.hour < $3::timestamptz
      AND d.hour < (SELECT until FROM kept)
)
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
       NULL::double precision AS median_value, NULL::double precision AS p95_value, r.valid_count, r.error_count
FROM iot.rollup_hourly AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket < (SELECT hours FROM kept)
  AND (r.series_id, r.bucket) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, NULL, NULL,
       r.valid_count, r.error_count
FROM iot.rollup_15min AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket >= (SELECT hours FROM kept)
  AND r.bucket < (SELECT until FROM kept)
  AND (r.series_id, date_bin('1 hour', r.bucket, '2000-01-03 00:00:00+00')) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT series_id, date_bin('1 hour', time, '2000-01-03 00:00:00+00'), count(*), sum(value), min(value), max(value),
       stddev(value), NULL, NULL, count(*) FILTER (WHERE quality = 1), count(*) FILTER (WHERE quality NOT IN (0, 1))
FROM iot.reading
WHERE series_id = ANY ($1) AND time >= $2 AND time < $3 AND time >= (SELECT until FROM kept)
GROUP BY 1, 2
UNION ALL
SELECT d.series_id, d.hour, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, NULL, NULL,
       b.valid_count, b.error_count
FROM (SELECT series_id, hour, least(hour + INTERVAL '1 hour', (SELECT until FROM kept)) AS until FROM dirty) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.hour AND time < d.until AND time >= $2 AND time < $3
) AS b
WHERE b.sample_count > 0
