-- A server that was killed had heard of devices what it had not written yet. One look into the index a series.
INSERT INTO iot.device_status AS s (farm_id, device_uid, device_type, last_seen, battery_level, battery_at,
                                    signal_strength, signal_at)
SELECT DISTINCT ON (e.farm_id, e.device_uid)
       e.farm_id, e.device_uid, e.device_type, r.time,
       r.battery_level, CASE WHEN r.battery_level IS NOT NULL THEN r.time END,
       r.signal_strength, CASE WHEN r.signal_strength IS NOT NULL THEN r.time END
FROM iot.series AS e
CROSS JOIN LATERAL (
    SELECT time, battery_level, signal_strength FROM iot.reading
    WHERE series_id = e.series_id
    ORDER BY time DESC
    LIMIT 1
) AS r
ORDER BY e.farm_id, e.device_uid, r.time DESC
ON CONFLICT (farm_id, device_uid) DO UPDATE SET
    last_seen       = EXCLUDED.last_seen,
    battery_level   = COALESCE(EXCLUDED.battery_level, s.battery_level),
    battery_at      = COALESCE(EXCLUDED.battery_at, s.battery_at),
    signal_strength = COALESCE(EXCLUDED.signal_strength, s.signal_strength),
    signal_at       = COALESCE(EXCLUDED.signal_at, s.signal_at)
WHERE s.last_seen < EXCLUDED.last_seen
