INSERT INTO iot.reading (time, stamp, value, series_id, animal_id, zone_id, quality, battery_level,
                         signal_strength, is_interpolated, session_id, metadata)
SELECT time, stamp, value, series_id, animal_id, zone_id, quality, battery_level, signal_strength,
       is_interpolated, session_id, metadata::jsonb
FROM unnest($1::timestamptz[], $2::bigint[], $3::double precision[], $4::integer[], $5::integer[], $6::integer[],
            $7::smallint[], $8::smallint[], $9::smallint[], $10::boolean[], $11::text[], $12::text[])
     AS u (time, stamp, value, series_id, animal_id, zone_id, quality, battery_level, signal_strength,
           is_interpolated, session_id, metadata)
