-- What is in no rollup, from readings: of an animal or a zone, or older than rollups are kept.
-- $4, $8: whether the median, the 95th percentile is wanted.
SELECT series_id,
       date_bin($5::bigint * INTERVAL '1 microsecond', time, '2000-01-03 00:00:00+00') AS bucket,
       count(*) AS sample_count,
       sum(value) AS sum_value,
       min(value) AS min_value,
       max(value) AS max_value,
       stddev(value) AS stddev_value,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value) FILTER (WHERE $4::boolean) AS median_value,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY value) FILTER (WHERE $8::boolean) AS p95_value,
       count(*) FILTER (WHERE quality = 1) AS valid_count,
       count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
FROM iot.reading
WHERE series_id = ANY ($1::integer[]) AND time >= $2 AND time < $3
  AND ($6::integer IS NULL OR animal_id = $6)
  AND ($7::integer IS NULL OR zone_id = $7)
GROUP BY 1, 2
