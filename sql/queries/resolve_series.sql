SELECT u.place, s.series_id
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[]) WITH ORDINALITY
     AS u (farm_id, device_uid, device_type, metric_name, metric_unit, place)
JOIN iot.series s USING (farm_id, device_uid, device_type, metric_name, metric_unit)
