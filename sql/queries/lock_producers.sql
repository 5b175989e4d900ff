SELECT producer_id, gateway_id, instance_id, epoch, committed_offset, stored, duplicate, quarantined,
       skipped::text, commit_number
FROM iot.producer
WHERE producer_id = ANY ($1::uuid[])
ORDER BY producer_id
FOR UPDATE
