UPDATE iot.producer AS p
SET gateway_id = u.gateway_id, instance_id = u.instance_id, epoch = u.epoch,
    committed_offset = u.committed_offset, stored = u.stored, duplicate = u.duplicate,
    quarantined = u.quarantined, skipped = u.skipped::numeric, commit_number = $10, updated = now()
FROM unnest($1::uuid[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
            $8::bigint[], $9::text[])
     AS u (producer_id, gateway_id, instance_id, epoch, committed_offset, stored, duplicate, quarantined, skipped)
WHERE p.producer_id = u.producer_id
