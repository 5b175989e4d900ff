-- Series as find_series.sql finds them, each with its newest reading from $6 on, as latest_readings.sql tells it.
SELECT s.series_id, s.farm_id, s.device_uid, s.device_type, s.metric_name, s.metric_unit,
       r.series_id AS newest_of, r.time, r.value, r.quality, r.is_interpolated, r.animal_id, r.zone_id, r.battery_level,
       r.signal_strength, r.session_id, r.metadata::text
FROM (SELECT * FROM iot.series
      WHERE ($1::integer IS NULL OR farm_id = $1)
        AND ($2::text IS NULL OR device_uid = $2)
        AND (cardinality($3::text[]) = 0 OR metric_name = ANY ($3))
        AND ($4::integer IS NULL OR series_id > $4)
      ORDER BY series_id
      LIMIT $5) AS s
LEFT JOIN LATERAL (
    SELECT * FROM iot.reading
    WHERE series_id = s.series_id AND time >= $6
    ORDER BY time DESC, stamp DESC
    LIMIT 1
) AS r ON true
ORDER BY s.series_id
