COPY iot.reading (time, stamp, value, series_id, animal_id, zone_id, quality, battery_level, signal_strength,
                  is_interpolated, session_id, metadata)
FROM STDIN (FORMAT BINARY)
