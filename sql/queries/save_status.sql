INSERT INTO iot.device_status AS s (farm_id, device_uid, device_type, last_seen, battery_level, battery_at,
                                    signal_strength, signal_at)
SELECT *
FROM unnest($1::integer[], $2::text[], $3::text[], $4::timestamptz[], $5::smallint[], $6::timestamptz[],
            $7::smallint[], $8::timestamptz[])
     AS u (farm_id, device_uid, device_type, last_seen, battery_level, battery_at, signal_strength, signal_at)
ORDER BY farm_id, device_uid COLLATE "C"
ON CONFLICT (farm_id, device_uid) DO UPDATE SET
    last_seen       = greatest(s.last_seen, EXCLUDED.last_seen),
    battery_level   = CASE WHEN s.battery_at > EXCLUDED.battery_at THEN s.battery_level
                           ELSE COALESCE(EXCLUDED.battery_level, s.battery_level) END,
    battery_at      = greatest(s.battery_at, EXCLUDED.battery_at),
    signal_strength = CASE WHEN s.signal_at > EXCLUDED.signal_at THEN s.signal_strength
                           ELSE COALESCE(EXCLUDED.signal_strength, s.signal_strength) END,
    signal_at       = greatest(s.signal_at, EXCLUDED.signal_at)
