SELECT d.farm_id, d.device_uid, d.device_type, s.last_seen, s.battery_level, s.battery_at, s.signal_strength,
       s.signal_at
FROM (
    SELECT farm_id, device_uid, device_type FROM iot.series WHERE farm_id = $1 AND device_uid = $2
    ORDER BY device_type LIMIT 1
) AS d
LEFT JOIN iot.device_status AS s USING (farm_id, device_uid)
