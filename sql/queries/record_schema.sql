-- Never backwards: an older binary that may still write leaves the record of the newer one.
INSERT INTO iot.schema_info AS s (profile, version, compatible_from) VALUES ($1, $2, $3)
ON CONFLICT (only_row) DO UPDATE
SET version = EXCLUDED.version, compatible_from = EXCLUDED.compatible_from
WHERE s.version < EXCLUDED.version
