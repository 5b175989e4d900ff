INSERT INTO iot.quarantine (producer_id, batch_offset, kind, batch_index, code, field, message, received,
                            series, content)
SELECT producer_id, batch_offset, kind, batch_index, code, field, message, received, series::jsonb, content::jsonb
FROM unnest($1::uuid[], $2::bigint[], $3::smallint[], $4::integer[], $5::smallint[], $6::text[], $7::text[],
            $8::timestamptz[], $9::text[], $10::text[])
     AS u (producer_id, batch_offset, kind, batch_index, code, field, message, received, series, content)
