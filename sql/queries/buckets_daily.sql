SELECT series_id, bucket, sample_count, sum_value, min_value, max_value, stddev_value, median_value, NULL::double precision AS p95_value, valid_count, error_count
FROM iot.series_daily
WHERE series_id = ANY ($1::integer[]) AND bucket >= $2 AND bucket < $3 AND $4::boolean IS NOT NULL
