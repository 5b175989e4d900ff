-- Days, in parts that are to be merged.

-- Dirty hours of days from `since` to `until`. Those of a day before `finer`, of which finer rollups may have been dropped
-- by their age, count as far as days are kept: before `days`. What begins at `stored` or later is open.
CREATE FUNCTION iot.dirty_hours(series integer[], since timestamptz, until timestamptz, days timestamptz,
                                stored timestamptz, finer timestamptz)
RETURNS TABLE (series_id integer, day timestamptz, hour timestamptz, is_fine boolean)
LANGUAGE sql STABLE AS $$
    SELECT DISTINCT d.series_id, d.day, d.hour, d.day >= finer
    FROM iot.rollup_dirty AS d
    WHERE d.series_id = ANY (series) AND d.day >= since AND d.day < until AND d.hour < stored
      AND (d.day >= finer OR d.day < days)
$$;

-- What daily_parts answers of dirty days: their clean hours by hour, and dirty ones from readings; days before `finer`
-- from readings as a whole. Planned by itself, where there are dirty days only: its plan looks at every chunk. EXPLAIN
-- shows it as one step.
CREATE FUNCTION iot.dirty_daily_parts(series integer[], since timestamptz, until timestamptz, days timestamptz,
                                      stored timestamptz, finer timestamptz)
RETURNS TABLE (series_id integer, bucket timestamptz, sample_count bigint, sum_value double precision,
               min_value double precision, max_value double precision, stddev_value double precision,
               valid_count bigint, error_count bigint)
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY
    WITH dirty AS MATERIALIZED (
        SELECT * FROM iot.dirty_hours(series, since, until, days, stored, finer)
    )
    SELECT d.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
           r.valid_count, r.error_count
    FROM (SELECT DISTINCT d.series_id, d.day FROM dirty AS d WHERE d.is_fine AND d.day < days) AS d
    JOIN iot.rollup_hourly AS r
        ON r.series_id = d.series_id AND r.bucket >= d.day AND r.bucket < d.day + INTERVAL '24 hours'
    WHERE r.bucket >= since AND r.bucket < until
      AND (r.series_id, r.bucket) NOT IN (SELECT d.series_id, d.hour FROM dirty AS d)
    UNION ALL
    SELECT d.series_id, d.begins, b.*
    FROM (SELECT DISTINCT d.series_id,
                 CASE WHEN d.is_fine THEN d.hour ELSE d.day END AS begins,
                 CASE WHEN d.is_fine THEN d.hour + INTERVAL '1 hour' ELSE d.day + INTERVAL '24 hours' END AS ends
          FROM dirty AS d) AS d
    CROSS JOIN LATERAL (
        SELECT count(*) AS sample_count, sum(r.value), min(r.value), max(r.value), stddev(r.value),
               count(*) FILTER (WHERE r.quality = 1), count(*) FILTER (WHERE r.quality NOT IN (0, 1))
        FROM iot.reading AS r
        WHERE r.series_id = d.series_id AND r.time >= d.begins AND r.time < d.ends
          AND r.time >= since AND r.time < least(until, stored)
    ) AS b
    WHERE b.sample_count > 0;
END;
$$;

-- Whole days from `since` to `until` of some series. What begins before `days`, a day, is kept by day; what begins
-- before `hours` by hour, what begins before `quarters` by the quarter, and what lies between that and `stored` comes
-- from readings, as do dirty hours. From `stored` on nothing is kept; `summed` is the watermark's summed_from. The
-- planner knows all times: this becomes a part of the statement that asks.
CREATE FUNCTION iot.daily_parts(series integer[], since timestamptz, until timestamptz, days timestamptz,
                                hours timestamptz, quarters timestamptz, stored timestamptz, summed timestamptz,
                                finer timestamptz)
RETURNS TABLE (series_id integer, bucket timestamptz, sample_count bigint, sum_value double precision,
               min_value double precision, max_value double precision, stddev_value double precision,
               valid_count bigint, error_count bigint)
LANGUAGE sql STABLE AS $$
    WITH dirty AS (SELECT * FROM iot.dirty_hours(series, since, until, days, stored, finer))
    SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
           r.valid_count, r.error_count
    FROM iot.rollup_daily AS r
    WHERE r.series_id = ANY (series) AND r.bucket >= since AND r.bucket < until AND r.bucket < days
      AND (r.series_id, r.bucket) NOT IN (SELECT d.series_id, d.day FROM dirty AS d)
    UNION ALL
    SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
           r.valid_count, r.error_count
    FROM iot.rollup_hourly AS r
    WHERE r.series_id = ANY (series) AND r.bucket >= since AND r.bucket < until
      AND r.bucket >= days AND r.bucket < hours
      AND (r.series_id, r.bucket) NOT IN (SELECT d.series_id, d.hour FROM dirty AS d)
    UNION ALL
    SELECT r.series_id, r.bucket, r.sample_count, r.sum_value, r.min_value, r.max_value, r.stddev_value,
           r.valid_count, r.error_count
    FROM iot.rollup_15min AS r
    WHERE r.series_id = ANY (series) AND r.bucket >= since AND r.bucket < until
      AND r.bucket >= hours AND r.bucket < quarters
      AND (r.series_id, date_bin('1 hour', r.bucket, '2000-01-03 00:00:00+00'))
          NOT IN (SELECT d.series_id, d.hour FROM dirty AS d)
    UNION ALL
    SELECT r.series_id, date_bin('1 day', r.time, '2000-01-03 00:00:00+00'), count(*), sum(r.value), min(r.value),
           max(r.value), stddev(r.value), count(*) FILTER (WHERE r.quality = 1),
           count(*) FILTER (WHERE r.quality NOT IN (0, 1))
    FROM iot.reading AS r
    WHERE r.series_id = ANY (series) AND r.time >= since AND r.time < until AND r.time >= quarters AND r.time < stored
    GROUP BY 1, 2
    UNION ALL
    SELECT p.*
    FROM iot.dirty_daily_parts(series, since, until, days, stored, finer) AS p
    WHERE (SELECT count(*) FROM dirty) > 0
    UNION ALL
    SELECT o.*
    FROM iot.open_quarters(series, greatest(since, stored), until, summed) AS o
$$;
