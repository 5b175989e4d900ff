-- What is in the table, and what this server has heard and not written there yet.
SELECT count(*)
FROM (
    SELECT farm_id, device_uid FROM iot.device_status WHERE last_seen >= $1
    UNION
    SELECT * FROM unnest($2::integer[], $3::text[])
) AS active
