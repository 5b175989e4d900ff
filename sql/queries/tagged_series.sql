-- By day: perhaps one more, whose readings of that day are outside of the bounds.
SELECT s.series_id, s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit
FROM iot.series AS s
WHERE s.series_id IN (
    SELECT series_id FROM iot.tag_day
    WHERE tag = $1 AND tag_id = $2 AND day > $3::timestamptz - INTERVAL '24 hours' AND day < $4)
ORDER BY s.series_id
