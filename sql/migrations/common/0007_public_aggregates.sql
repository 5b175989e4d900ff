-- The seed's aggregates (its section 7.1), over the rollups of series.
--
-- The seed groups by farm, device, type and metric, not by unit: series that differ in their unit alone, as when an
-- old writer sends none, meet in one row. Sums, counts, extremes and deviations join exactly; a percentile of several
-- series is taken from their readings, and is NULL once those are gone.

CREATE FUNCTION iot.joined_stddev(counts bigint[], sums double precision[], stddevs double precision[])
RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN sum(n) > 1 THEN
               sqrt((sum((n - 1) * COALESCE(d, 0) * COALESCE(d, 0)) + sum(n * (s / n - mean) * (s / n - mean)))
                    / (sum(n) - 1))
           END
    FROM unnest(counts, sums, stddevs) AS u (n, s, d),
         (SELECT sum(s) / sum(n) AS mean FROM unnest(counts, sums) AS u (n, s)) AS m
$$;

CREATE FUNCTION iot.joined_percentile(series integer[], fraction double precision, since timestamptz, width interval)
RETURNS double precision
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT percentile_cont(fraction) WITHIN GROUP (ORDER BY value)
    FROM iot.reading
    WHERE series_id = ANY (series) AND time >= since AND time < since + width
$$;

-- The series behind one metric of one device.
CREATE VIEW iot.metric AS
SELECT farm_id, device_uid, device_type, metric_name, array_agg(series_id) AS series
FROM iot.series
GROUP BY farm_id, device_uid, device_type, metric_name;

CREATE VIEW iot.sensor_data_15min AS
SELECT b.bucket, m.device_uid, m.device_type, m.farm_id, m.metric_name, b.avg_value, b.min_value, b.max_value,
       b.stddev_value, b.sample_count
FROM iot.metric AS m
CROSS JOIN LATERAL (
    SELECT bucket,
           sum(sum_value) / sum(sample_count) AS avg_value,
           min(min_value) AS min_value,
           max(max_value) AS max_value,
           CASE WHEN count(*) = 1 THEN min(stddev_value)
                ELSE iot.joined_stddev(array_agg(sample_count), array_agg(sum_value), array_agg(stddev_value))
           END AS stddev_value,
           sum(sample_count)::bigint AS sample_count
    FROM iot.series_15min
    WHERE series_id = ANY (m.series)
    GROUP BY bucket
) AS b;

CREATE VIEW iot.sensor_data_hourly AS
SELECT b.bucket, m.device_uid, m.device_type, m.farm_id, m.metric_name, b.avg_value, b.min_value, b.max_value,
       b.median_value, b.p95_value, b.stddev_value, b.sample_count, b.valid_count
FROM iot.metric AS m
CROSS JOIN LATERAL (
    SELECT bucket,
           sum(sum_value) / sum(sample_count) AS avg_value,
           min(min_value) AS min_value,
           max(max_value) AS max_value,
           CASE WHEN count(*) = 1 THEN min(median_value)
                ELSE iot.joined_percentile(array_agg(series_id), 0.5, bucket, '1 hour')
           END AS median_value,
           CASE WHEN count(*) = 1 THEN min(p95_value)
                ELSE iot.joined_percentile(array_agg(series_id), 0.95, bucket, '1 hour')
           END AS p95_value,
           CASE WHEN count(*) = 1 THEN min(stddev_value)
                ELSE iot.joined_stddev(array_agg(sample_count), array_agg(sum_value), array_agg(stddev_value))
           END AS stddev_value,
           sum(sample_count)::bigint AS sample_count,
           sum(valid_count)::bigint AS valid_count
    FROM iot.series_hourly
    WHERE series_id = ANY (m.series)
    GROUP BY bucket
) AS b;

CREATE VIEW iot.sensor_data_daily AS
SELECT b.bucket, m.device_uid, m.device_type, m.farm_id, m.metric_name, b.avg_value, b.min_value, b.max_value,
       b.median_value, b.sample_count, b.error_count
FROM iot.metric AS m
CROSS JOIN LATERAL (
    SELECT bucket,
           sum(sum_value) / sum(sample_count) AS avg_value,
           min(min_value) AS min_value,
           max(max_value) AS max_value,
           CASE WHEN count(*) = 1 THEN min(median_value)
                ELSE iot.joined_percentile(array_agg(series_id), 0.5, bucket, '1 day')
           END AS median_value,
           sum(sample_count)::bigint AS sample_count,
           sum(error_count)::bigint AS error_count
    FROM iot.series_daily
    WHERE series_id = ANY (m.series)
    GROUP BY bucket
) AS b;

-- The last 30 days by farm; the seed's view of this name has a row for each device.
CREATE VIEW iot.farm_daily_summary AS
SELECT bucket AS date,
       farm_id,
       device_type,
       metric_name,
       sum(avg_value * sample_count) / sum(sample_count) AS avg_value,
       min(min_value) AS min_value,
       max(max_value) AS max_value,
       sum(sample_count)::bigint AS sample_count
FROM iot.sensor_data_daily
WHERE bucket >= now() - INTERVAL '30 days'
GROUP BY bucket, farm_id, device_type, metric_name;
