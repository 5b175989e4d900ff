-- Hours without percentiles, in parts that are to be merged: $1 series, whole hours from $2 to $3. What begins before $4,
-- an hour, is kept by hour; what begins before $5 by the quarter, and what lies between $5 and $6 comes from readings,
-- as do dirty hours. From $6 on nothing is kept; $7: the watermark's summed_from.
WITH dirty AS (
    SELECT DISTINCT d.series_id, d.hour
    FROM iot.rollup_dirty AS d
    WHERE d.series_id = ANY ($1::integer[]) AND d.hour >= $2::timestamptz AND d.hour < $3::timestamptz
      AND d.hour < $5::timestamptz
)
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
       NULL::double precision AS median_value, NULL::double precision AS p95_value, r.valid_count, r.error_count
FROM iot.rollup_hourly AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket < $4::timestamptz
  AND (r.series_id, r.bucket) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, NULL, NULL,
       r.valid_count, r.error_count
FROM iot.rollup_15min AS r
WHERE r.series_id = ANY ($1) AND r.bucket >= $2 AND r.bucket < $3 AND r.bucket >= $4 AND r.bucket < $5
  AND (r.series_id, date_bin('1 hour', r.bucket, '2000-01-03 00:00:00+00')) NOT IN (SELECT series_id, hour FROM dirty)
UNION ALL
SELECT series_id, date_bin('1 hour', time, '2000-01-03 00:00:00+00'), count(*), sum(value), min(value), max(value),
       stddev(value), NULL, NULL, count(*) FILTER (WHERE quality = 1), count(*) FILTER (WHERE quality NOT IN (0, 1))
FROM iot.reading
WHERE series_id = ANY ($1) AND time >= $2 AND time < $3 AND time >= $5 AND time < $6::timestamptz
GROUP BY 1, 2
UNION ALL
SELECT d.series_id, d.hour, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, NULL, NULL,
       b.valid_count, b.error_count
FROM dirty AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.hour AND time < d.hour + INTERVAL '1 hour'
      AND time >= $2 AND time < $3 AND time < $5
) AS b
WHERE b.sample_count > 0
UNION ALL
SELECT o.series_id, o.bucket, o.sample_count, o.sum_value, o.min_value, o.max_value, o.stddev_value, NULL, NULL,
       o.valid_count, o.error_count
FROM iot.open_quarters($1, greatest($2, $6), $3, $7::timestamptz) AS o
