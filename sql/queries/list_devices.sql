SELECT d.farm_id, d.device_uid, d.device_type, s.last_seen, s.battery_level, s.battery_at, s.signal_strength,
       s.signal_at
FROM (
    SELECT DISTINCT ON (farm_id, device_uid) farm_id, device_uid, device_type
    FROM iot.series
    WHERE ($1::integer IS NULL OR farm_id = $1)
      AND ($2::integer IS NULL OR (farm_id, device_uid) > ($2, $3::text))
    ORDER BY farm_id, device_uid, device_type
    LIMIT $4
) AS d
LEFT JOIN iot.device_status AS s USING (farm_id, device_uid)
ORDER BY farm_id, device_uid
