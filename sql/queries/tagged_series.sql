-- A day of which all was asked for needs no look into its readings: $3 to $4 are such days.
SELECT s.series_id, s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit
FROM (SELECT series_id, bool_or(day >= $3 AND day < $4) AS whole
      FROM iot.tag_day
      WHERE tag = $5 AND tag_id = $6 AND day > $1::timestamptz - INTERVAL '24 hours' AND day < $2
      GROUP BY series_id) AS t
JOIN iot.series AS s USING (series_id)
WHERE t.whole OR EXISTS (
    SELECT FROM iot.reading AS r
    WHERE r.series_id = t.series_id AND r.time >= $1 AND r.time < $2
      AND CASE $5 WHEN 1 THEN r.animal_id ELSE r.zone_id END = $6)
ORDER BY s.series_id
