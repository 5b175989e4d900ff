SELECT time, milk_meter_id, animal_id, farm_id, session_id, yield_kg, duration_seconds, flow_rate_kg_min,
       conductivity_ms, temperature_c, blood_detected, fat_percent, protein_percent, lactose_percent,
       somatic_cell_count, mastitis_risk_score, session_start, session_end, milking_type, meter_status
FROM iot.milk_production_realtime
WHERE farm_id = $1 AND ($2::integer IS NULL OR animal_id = $2) AND time >= $3 AND time < $4
ORDER BY time, stamp
OFFSET $5 LIMIT $6
