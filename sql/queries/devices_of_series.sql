SELECT series_id, farm_id, device_uid, device_type FROM iot.series WHERE series_id = ANY ($1::integer[])
