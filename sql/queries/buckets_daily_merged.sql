-- Days without percentiles, in parts that are to be merged: see iot.daily_parts.
SELECT p.series_id, p.bucket, p.sample_count, p.sum_value, p.min_value, p.max_value, p.stddev_value,
       NULL::double precision AS median_value, NULL::double precision AS p95_value, p.valid_count, p.error_count
FROM iot.daily_parts($1::integer[], $2::timestamptz, $3::timestamptz, $4::timestamptz, $5::timestamptz,
                     $6::timestamptz, $7::timestamptz, $8::timestamptz, $9::timestamptz) AS p
