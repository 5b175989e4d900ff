-- Quarters of an hour, in parts that are to be merged: $1 series, whole quarters from $2 to $3. What begins before $4 is
-- kept, but for dirty hours, which come from readings; $5: the watermark's summed_from.
-- Marks are hashed once: their table is empty most of the time, and the planner may not know when it is not.
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
       NULL::double precision AS median_value, NULL::double precision AS p95_value, r.valid_count, r.error_count
FROM iot.rollup_15min AS r
WHERE r.series_id = ANY ($1::integer[]) AND r.bucket >= $2::timestamptz AND r.bucket < $3::timestamptz
  AND r.bucket < $4::timestamptz
  AND (r.series_id, date_bin('1 hour', r.bucket, '2000-01-03 00:00:00+00')) NOT IN (
      SELECT d.series_id, d.hour FROM iot.rollup_dirty AS d
      WHERE d.series_id = ANY ($1) AND d.hour > $2 - INTERVAL '1 hour' AND d.hour < $3)
UNION ALL
SELECT d.series_id, b.bucket, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, NULL, NULL,
       b.valid_count, b.error_count
FROM (SELECT DISTINCT d.series_id, d.hour
      FROM iot.rollup_dirty AS d
      WHERE d.series_id = ANY ($1) AND d.hour > $2 - INTERVAL '1 hour' AND d.hour < $3 AND d.hour < $4) AS d
CROSS JOIN LATERAL (
    SELECT date_bin('15 minutes', time, '2000-01-03 00:00:00+00') AS bucket,
           count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.hour AND time < d.hour + INTERVAL '1 hour'
      AND time >= $2 AND time < $3 AND time < $4
    GROUP BY 1
) AS b
UNION ALL
SELECT o.series_id, o.bucket, o.sample_count, o.sum_value, o.min_value, o.max_value, o.stddev_value, NULL, NULL,
       o.valid_count, o.error_count
FROM iot.open_quarters($1, greatest($2, $4), $3, $5::timestamptz) AS o
