SELECT producer_id, gateway_id, instance_id, epoch, committed_offset, stored, duplicate, quarantined,
       skipped::text, commit_number
FROM iot.producer
-- A row that no commit has changed was only made to be locked.
WHERE producer_id = $1 AND commit_number > 0
