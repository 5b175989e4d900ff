INSERT INTO iot.producer (producer_id)
SELECT * FROM unnest($1::uuid[]) AS u (producer_id) ORDER BY 1
ON CONFLICT DO NOTHING
