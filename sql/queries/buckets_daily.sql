-- Days with medians: $1 series, whole days from $2 to $3. What begins before $4, a day, is kept, but for dirty days;
-- these and all later ones come from readings.
-- Marks are hashed once: their table is empty most of the time, and the planner may not know when it is not.
SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, r.median_value,
       NULL::double precision AS p95_value, r.valid_count, r.error_count
FROM iot.rollup_daily AS r
WHERE r.series_id = ANY ($1::integer[]) AND r.bucket >= $2::timestamptz AND r.bucket < $3::timestamptz
  AND r.bucket < $4::timestamptz
  AND (r.series_id, r.bucket) NOT IN (
      SELECT d.series_id, d.day FROM iot.rollup_dirty AS d
      WHERE d.series_id = ANY ($1) AND d.day >= $2 AND d.day < $3)
UNION ALL
SELECT series_id,
       date_bin('1 day', time, '2000-01-03 00:00:00+00') AS bucket,
       count(*) AS sample_count,
       sum(value) AS sum_value,
       min(value) AS min_value,
       max(value) AS max_value,
       stddev(value) AS stddev_value,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
       NULL::double precision AS p95_value,
       count(*) FILTER (WHERE quality = 1) AS valid_count,
       count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
FROM iot.reading
WHERE series_id = ANY ($1) AND time >= $2 AND time < $3 AND time >= $4
GROUP BY 1, 2
UNION ALL
SELECT d.series_id, d.day, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, b.median_value,
       b.p95_value, b.valid_count, b.error_count
FROM (SELECT DISTINCT d.series_id, d.day
      FROM iot.rollup_dirty AS d
      WHERE d.series_id = ANY ($1) AND d.day >= $2 AND d.day < $3 AND d.day < $4) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
           NULL::double precision AS p95_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.day AND time < d.day + INTERVAL '24 hours'
      AND time >= $2 AND time < $3
) AS b
WHERE b.sample_count > 0
