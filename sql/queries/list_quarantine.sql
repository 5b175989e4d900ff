SELECT batch_offset, kind, batch_index, code, field, message, received, series::text, content::text
FROM iot.quarantine
WHERE producer_id = $1
  AND (batch_offset, kind, batch_index) >= ($2, $3::smallint, $4)
  AND batch_offset <= $5
ORDER BY batch_offset, kind, batch_index, id
LIMIT $6
