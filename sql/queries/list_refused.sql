SELECT batch_offset, kind, batch_index, code, field, message, received, series::text, content::text
FROM iot.quarantine
WHERE producer_id = $1 AND batch_offset > $2 AND batch_offset <= $3 AND code = $4
ORDER BY batch_offset, kind, batch_index
