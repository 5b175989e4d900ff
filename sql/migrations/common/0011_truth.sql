-- The whole truth by series, under the names that every profile has: kept and clean buckets from rollups, later ones
-- from readings, and dirty ones from readings, too. A dirty hour makes its quarters and its day dirty.

CREATE OR REPLACE VIEW iot.series_15min AS
SELECT r.bucket, r.series_id, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, r.valid_count,
       r.error_count
FROM iot.rollup_15min AS r
WHERE r.bucket < (SELECT stored_before FROM iot.watermark)
  AND NOT EXISTS (
      SELECT FROM iot.rollup_dirty AS d
      WHERE d.series_id = r.series_id AND d.day = date_bin('1 day', r.bucket, '2000-01-03 00:00:00+00')
        AND d.hour = date_bin('1 hour', r.bucket, '2000-01-03 00:00:00+00'))
UNION ALL
SELECT date_bin('15 minutes', time, '2000-01-03 00:00:00+00') AS bucket,
       series_id,
       count(*) AS sample_count,
       sum(value) AS sum_value,
       min(value) AS min_value,
       max(value) AS max_value,
       stddev(value) AS stddev_value,
       count(*) FILTER (WHERE quality = 1) AS valid_count,
       count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
FROM iot.reading
WHERE time >= (SELECT stored_before FROM iot.watermark)
GROUP BY 1, 2
UNION ALL
SELECT b.bucket, d.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, b.valid_count,
       b.error_count
FROM (SELECT DISTINCT series_id, hour FROM iot.rollup_dirty
      WHERE hour < (SELECT stored_before FROM iot.watermark)) AS d
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
      AND time < (SELECT stored_before FROM iot.watermark)
    GROUP BY 1
) AS b;

CREATE OR REPLACE VIEW iot.series_hourly AS
SELECT r.bucket, r.series_id, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, r.median_value,
       r.p95_value, r.valid_count, r.error_count
FROM iot.rollup_hourly AS r
WHERE r.bucket < (SELECT date_bin('1 hour', stored_before, '2000-01-03 00:00:00+00') FROM iot.watermark)
  AND NOT EXISTS (
      SELECT FROM iot.rollup_dirty AS d
      WHERE d.series_id = r.series_id AND d.day = date_bin('1 day', r.bucket, '2000-01-03 00:00:00+00')
        AND d.hour = r.bucket)
UNION ALL
SELECT date_bin('1 hour', time, '2000-01-03 00:00:00+00') AS bucket,
       series_id,
       count(*) AS sample_count,
       sum(value) AS sum_value,
       min(value) AS min_value,
       max(value) AS max_value,
       stddev(value) AS stddev_value,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
       percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p95_value,
       count(*) FILTER (WHERE quality = 1) AS valid_count,
       count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
FROM iot.reading
WHERE time >= (SELECT date_bin('1 hour', stored_before, '2000-01-03 00:00:00+00') FROM iot.watermark)
GROUP BY 1, 2
UNION ALL
SELECT d.hour, d.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, b.median_value,
       b.p95_value, b.valid_count, b.error_count
FROM (SELECT DISTINCT series_id, hour FROM iot.rollup_dirty
      WHERE hour < (SELECT date_bin('1 hour', stored_before, '2000-01-03 00:00:00+00') FROM iot.watermark)) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
           percentile_cont(0.95) WITHIN GROUP (ORDER BY value) AS p95_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.hour AND time < d.hour + INTERVAL '1 hour'
) AS b
WHERE b.sample_count > 0;

CREATE OR REPLACE VIEW iot.series_daily AS
SELECT r.bucket, r.series_id, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value, r.median_value,
       r.valid_count, r.error_count
FROM iot.rollup_daily AS r
WHERE r.bucket < (SELECT date_bin('1 day', stored_before, '2000-01-03 00:00:00+00') FROM iot.watermark)
  AND NOT EXISTS (
      SELECT FROM iot.rollup_dirty AS d WHERE d.series_id = r.series_id AND d.day = r.bucket)
UNION ALL
SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') AS bucket,
       series_id,
       count(*) AS sample_count,
       sum(value) AS sum_value,
       min(value) AS min_value,
       max(value) AS max_value,
       stddev(value) AS stddev_value,
       percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
       count(*) FILTER (WHERE quality = 1) AS valid_count,
       count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
FROM iot.reading
WHERE time >= (SELECT date_bin('1 day', stored_before, '2000-01-03 00:00:00+00') FROM iot.watermark)
GROUP BY 1, 2
UNION ALL
SELECT d.day, d.series_id, b.sample_count, b.sum_value, b.min_value, b.max_value, b.stddev_value, b.median_value,
       b.valid_count, b.error_count
FROM (SELECT DISTINCT series_id, day FROM iot.rollup_dirty
      WHERE day < (SELECT date_bin('1 day', stored_before, '2000-01-03 00:00:00+00') FROM iot.watermark)) AS d
CROSS JOIN LATERAL (
    SELECT count(*) AS sample_count,
           sum(value) AS sum_value,
           min(value) AS min_value,
           max(value) AS max_value,
           stddev(value) AS stddev_value,
           percentile_cont(0.5) WITHIN GROUP (ORDER BY value) AS median_value,
           count(*) FILTER (WHERE quality = 1) AS valid_count,
           count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
    FROM iot.reading
    WHERE series_id = d.series_id AND time >= d.day AND time < d.day + INTERVAL '24 hours'
) AS b
WHERE b.sample_count > 0;

-- Milkings have no watermark: what is there is summed up when it is asked for, and a day that was dropped left its
-- rollup.
CREATE OR REPLACE VIEW iot.milk_production_daily AS
SELECT bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity, avg_scc,
       max_mastitis_risk, avg_fat, avg_protein
FROM iot.rollup_milk_daily
WHERE bucket IN (SELECT day FROM iot.dropped_day WHERE source = 'milking')
UNION ALL
SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') AS bucket,
       animal_id,
       farm_id,
       sum(yield_kg) AS total_yield_kg,
       avg(yield_kg) AS avg_yield_per_session,
       count(*) AS milking_count,
       avg(conductivity_ms) AS avg_conductivity,
       avg(somatic_cell_count) AS avg_scc,
       max(mastitis_risk_score) AS max_mastitis_risk,
       avg(fat_percent) AS avg_fat,
       avg(protein_percent) AS avg_protein
FROM iot.milk_production_realtime
WHERE NOT EXISTS (SELECT FROM iot.dropped_day
                  WHERE source = 'milking' AND day = date_bin('1 day', time, '2000-01-03 00:00:00+00'))
GROUP BY 1, 2, 3;

-- The animals of a farm on a day; the primary key finds the days of an animal.
CREATE INDEX rollup_milk_daily_farm_bucket ON iot.rollup_milk_daily (farm_id, bucket);

DROP TABLE IF EXISTS iot.rollup_watermark;
