SELECT s.series_id, s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit
FROM iot.series AS s
WHERE s.series_id IN (
    SELECT series_id FROM iot.reading
    WHERE time >= $1 AND time < $2
      AND ($3::integer IS NULL OR animal_id = $3)
      AND ($4::integer IS NULL OR zone_id = $4))
ORDER BY s.series_id
