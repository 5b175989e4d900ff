-- Removes marks of a day that was mended, remembers when it was written, and counts what was mended.
WITH gone AS (
    DELETE FROM iot.rollup_dirty WHERE id = ANY ($1::bigint[]) RETURNING series_id, day, hour
), noted AS (
    INSERT INTO iot.written_day AS l (day, written)
    SELECT DISTINCT day, now() FROM gone
    ON CONFLICT (day) DO UPDATE SET written = greatest(l.written, EXCLUDED.written)
), mended AS (
    SELECT DISTINCT series_id, day, hour FROM gone
)
SELECT (SELECT count(*) FROM mended) AS hours,
       (SELECT count(*) FROM iot.rollup_15min AS r JOIN mended AS m USING (series_id)
        WHERE r.bucket >= m.hour AND r.bucket < m.hour + INTERVAL '1 hour')
     + (SELECT count(*) FROM iot.rollup_hourly AS r JOIN mended AS m USING (series_id) WHERE r.bucket = m.hour)
     + (SELECT count(*) FROM iot.rollup_daily AS r
        JOIN (SELECT DISTINCT series_id, day FROM mended) AS m USING (series_id) WHERE r.bucket = m.day) AS buckets
