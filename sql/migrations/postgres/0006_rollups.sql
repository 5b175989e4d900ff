-- Rollups of each series in tables. A level's watermark says before which time its buckets are closed and kept here;
-- everything at or after it is answered from readings. Nothing is closed until retention drops its day or the
-- server closes it, so every answer is true.
-- An error is a reading whose quality is known and not valid. Averages are sums by counts.

CREATE TABLE iot.rollup_watermark (
    level         text        PRIMARY KEY CHECK (level IN ('15min', 'hourly', 'daily', 'milk_daily')),
    closed_before timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO iot.rollup_watermark (level) VALUES ('15min'), ('hourly'), ('daily'), ('milk_daily');

CREATE TABLE iot.rollup_15min (
    bucket       timestamptz      NOT NULL,
    series_id    integer          NOT NULL,
    sample_count bigint           NOT NULL,
    sum_value    double precision NOT NULL,
    min_value    double precision NOT NULL,
    max_value    double precision NOT NULL,
    stddev_value double precision,
    valid_count  bigint           NOT NULL,
    error_count  bigint           NOT NULL,
    PRIMARY KEY (series_id, bucket)
);

CREATE TABLE iot.rollup_hourly (
    bucket       timestamptz      NOT NULL,
    series_id    integer          NOT NULL,
    sample_count bigint           NOT NULL,
    sum_value    double precision NOT NULL,
    min_value    double precision NOT NULL,
    max_value    double precision NOT NULL,
    stddev_value double precision,
    median_value double precision NOT NULL,
    p95_value    double precision NOT NULL,
    valid_count  bigint           NOT NULL,
    error_count  bigint           NOT NULL,
    PRIMARY KEY (series_id, bucket)
);

CREATE TABLE iot.rollup_daily (
    bucket       timestamptz      NOT NULL,
    series_id    integer          NOT NULL,
    sample_count bigint           NOT NULL,
    sum_value    double precision NOT NULL,
    min_value    double precision NOT NULL,
    max_value    double precision NOT NULL,
    stddev_value double precision,
    median_value double precision NOT NULL,
    valid_count  bigint           NOT NULL,
    error_count  bigint           NOT NULL,
    PRIMARY KEY (series_id, bucket)
);

CREATE TABLE iot.rollup_milk_daily (
    bucket                timestamptz      NOT NULL,
    animal_id             integer          NOT NULL,
    farm_id               integer          NOT NULL,
    total_yield_kg        double precision NOT NULL,
    avg_yield_per_session double precision NOT NULL,
    milking_count         bigint           NOT NULL,
    avg_conductivity      double precision,
    avg_scc               numeric,
    max_mastitis_risk     double precision,
    avg_fat               double precision,
    avg_protein           double precision,
    PRIMARY KEY (farm_id, animal_id, bucket)
);

-- The whole truth by series, under the names that every profile has.

CREATE VIEW iot.series_15min AS
SELECT bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, valid_count, error_count
FROM iot.rollup_15min
WHERE bucket < (SELECT closed_before FROM iot.rollup_watermark WHERE level = '15min')
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
WHERE time >= (SELECT closed_before FROM iot.rollup_watermark WHERE level = '15min')
GROUP BY 1, 2;

CREATE VIEW iot.series_hourly AS
SELECT bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value, p95_value,
       valid_count, error_count
FROM iot.rollup_hourly
WHERE bucket < (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'hourly')
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
WHERE time >= (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'hourly')
GROUP BY 1, 2;

CREATE VIEW iot.series_daily AS
SELECT bucket, series_id, sample_count, sum_value, min_value, max_value, stddev_value, median_value, valid_count,
       error_count
FROM iot.rollup_daily
WHERE bucket < (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'daily')
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
WHERE time >= (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'daily')
GROUP BY 1, 2;

CREATE VIEW iot.milk_production_daily AS
SELECT bucket, animal_id, farm_id, total_yield_kg, avg_yield_per_session, milking_count, avg_conductivity, avg_scc,
       max_mastitis_risk, avg_fat, avg_protein
FROM iot.rollup_milk_daily
WHERE bucket < (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'milk_daily')
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
WHERE time >= (SELECT closed_before FROM iot.rollup_watermark WHERE level = 'milk_daily')
GROUP BY 1, 2, 3;
