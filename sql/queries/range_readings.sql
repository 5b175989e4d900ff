SELECT series_id, time, value, quality, is_interpolated, animal_id, zone_id, battery_level, signal_strength,
       session_id, metadata::text
FROM iot.reading
WHERE series_id = $1 AND time >= $2 AND time < $3
  AND ($6::integer IS NULL OR animal_id = $6)
  AND ($7::integer IS NULL OR zone_id = $7)
ORDER BY time, stamp
OFFSET $4 LIMIT $5
