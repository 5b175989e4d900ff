-- Rollups of each series in continuous aggregates: closed buckets are kept, later ones are answered from readings.
-- An error is a reading whose quality is known and not valid. Averages are sums by counts.

CREATE MATERIALIZED VIEW iot.rollup_15min
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('15 minutes', time) AS bucket,
       series_id,
       count(*) AS sample_count,
       sum(value) AS sum_value,
       min(value) AS min_value,
       max(value) AS max_value,
       stddev(value) AS stddev_value,
       count(*) FILTER (WHERE quality = 1) AS valid_count,
       count(*) FILTER (WHERE quality NOT IN (0, 1)) AS error_count
FROM iot.reading
GROUP BY bucket, series_id
WITH NO DATA;

CREATE MATERIALIZED VIEW iot.rollup_hourly
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 hour', time) AS bucket,
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
GROUP BY bucket, series_id
WITH NO DATA;

CREATE MATERIALIZED VIEW iot.rollup_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 day', time) AS bucket,
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
GROUP BY bucket, series_id
WITH NO DATA;

CREATE MATERIALIZED VIEW iot.rollup_milk_daily
WITH (timescaledb.continuous, timescaledb.materialized_only = false) AS
SELECT time_bucket('1 day', time) AS bucket,
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
GROUP BY bucket, animal_id, farm_id
WITH NO DATA;

-- The whole truth by series, under the names that every profile has.
CREATE VIEW iot.series_15min AS
SELECT bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, valid_count, error_count
FROM iot.rollup_15min;

CREATE VIEW iot.series_hourly AS
SELECT bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value, p95_value,
       valid_count, error_count
FROM iot.rollup_hourly;

CREATE VIEW iot.series_daily AS
SELECT bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value, valid_count,
       error_count
FROM iot.rollup_daily;

CREATE VIEW iot.milk_production_daily AS
SELECT bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity, avg_scc,
       max_mastitis_risk, avg_fat, avg_protein
FROM iot.rollup_milk_daily;
