SELECT r.series_id, r.time, r.value, r.quality, r.is_interpolated, r.animal_id, r.zone_id, r.battery_level,
       r.signal_strength, r.session_id, r.metadata::text
FROM unnest($1::integer[]) WITH ORDINALITY AS s (series_id, place)
CROSS JOIN LATERAL (
    SELECT * FROM iot.reading
    WHERE series_id = s.series_id AND time >= $2 AND time < $3
    ORDER BY time DESC, stamp DESC
    LIMIT 1
) AS r
ORDER BY s.place
