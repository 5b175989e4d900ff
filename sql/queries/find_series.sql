SELECT series_id, farm_id, device_uid, device_type, metric_name, metric_unit
FROM iot.series
WHERE ($1::integer IS NULL OR farm_id = $1)
  AND ($2::text IS NULL OR device_uid = $2)
  AND (cardinality($3::text[]) = 0 OR metric_name = ANY ($3))
  AND ($4::integer IS NULL OR series_id > $4)
ORDER BY series_id
LIMIT $5
