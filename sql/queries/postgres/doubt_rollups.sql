-- Marks the hours from $1 to $2 of every series that has readings or kept buckets there, so that they are mended, and
-- removes these buckets, which until then are told from readings. Not of days that were dropped: their rollups are all
-- there is. For one session at a time.
WITH span AS (
    SELECT date_bin('1 hour', $1::timestamptz, '2000-01-03 00:00:00+00') AS since,
           least($2::timestamptz, stored_before) AS until
    FROM iot.watermark
), found AS (
    SELECT series_id, date_bin('1 hour', time, '2000-01-03 00:00:00+00') AS hour
    FROM iot.reading
    WHERE time >= (SELECT since FROM span) AND time < (SELECT until FROM span) + INTERVAL '1 hour'
    UNION
    SELECT series_id, date_bin('1 hour', bucket, '2000-01-03 00:00:00+00')
    FROM iot.rollup_15min
    WHERE bucket >= (SELECT since FROM span) AND bucket < (SELECT until FROM span)
    UNION
    SELECT series_id, bucket
    FROM iot.rollup_hourly
    WHERE bucket >= (SELECT since FROM span) AND bucket < (SELECT until FROM span)
    UNION
    SELECT series_id, greatest(bucket, (SELECT since FROM span))
    FROM iot.rollup_daily
    WHERE bucket > (SELECT since FROM span) - INTERVAL '24 hours' AND bucket < (SELECT until FROM span)
), doubted AS MATERIALIZED (
    SELECT series_id, hour, date_bin('1 day', hour, '2000-01-03 00:00:00+00') AS day
    FROM found
    WHERE hour < (SELECT until FROM span)
      AND date_bin('1 day', hour, '2000-01-03 00:00:00+00')
          NOT IN (SELECT day FROM iot.dropped_day WHERE source = 'reading')
), quarters AS (
    DELETE FROM iot.rollup_15min AS r USING doubted AS d
    WHERE r.series_id = d.series_id AND r.bucket >= d.hour AND r.bucket < d.hour + INTERVAL '1 hour'
), hours AS (
    DELETE FROM iot.rollup_hourly AS r USING doubted AS d
    WHERE r.series_id = d.series_id AND r.bucket = d.hour
), days AS (
    DELETE FROM iot.rollup_daily AS r USING (SELECT DISTINCT series_id, day FROM doubted) AS d
    WHERE r.series_id = d.series_id AND r.bucket = d.day
)
INSERT INTO iot.rollup_dirty (series_id, hour)
SELECT series_id, hour FROM doubted ORDER BY hour, series_id
