-- Days that the time from $1 to $2 touches and that have readings or kept buckets, but for those that were dropped.
WITH span AS (
    SELECT date_bin('1 day', $1::timestamptz, '2000-01-03 00:00:00+00') AS since,
           least($2::timestamptz, stored_before) AS until,
           stored_before
    FROM iot.watermark
), found AS (
    SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') AS day FROM iot.reading
    WHERE time >= (SELECT since FROM span) AND time < (SELECT until FROM span)
    UNION
    SELECT date_bin('1 day', bucket, '2000-01-03 00:00:00+00') FROM iot.rollup_15min
    WHERE bucket >= (SELECT since FROM span) AND bucket < (SELECT until FROM span)
    UNION
    SELECT date_bin('1 day', bucket, '2000-01-03 00:00:00+00') FROM iot.rollup_hourly
    WHERE bucket >= (SELECT since FROM span) AND bucket < (SELECT until FROM span)
    UNION
    SELECT bucket FROM iot.rollup_daily
    WHERE bucket >= (SELECT since FROM span) AND bucket < (SELECT until FROM span)
)
SELECT day, (SELECT stored_before FROM span) AS stored_before
FROM found
WHERE day NOT IN (SELECT day FROM iot.dropped_day WHERE source = 'reading')
ORDER BY day
