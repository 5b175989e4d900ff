-- Sorted, so that two servers that create the same series wait for each other in one order.
INSERT INTO iot.series (farm_id, device_uid, device_type, metric_name, metric_unit)
SELECT *
FROM unnest($1::integer[], $2::text[], $3::text[], $4::text[], $5::text[])
     AS u (farm_id, device_uid, device_type, metric_name, metric_unit)
ORDER BY farm_id, device_uid COLLATE "C", device_type COLLATE "C", metric_name COLLATE "C", metric_unit COLLATE "C"
ON CONFLICT DO NOTHING
