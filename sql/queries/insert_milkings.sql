INSERT INTO iot.milk_production_realtime (
    time, stamp, milk_meter_id, animal_id, farm_id, session_id, yield_kg, duration_seconds, flow_rate_kg_min,
    conductivity_ms, temperature_c, blood_detected, fat_percent, protein_percent, lactose_percent,
    somatic_cell_count, mastitis_risk_score, session_start, session_end, milking_type, meter_status)
SELECT *
FROM unnest($1::timestamptz[], $2::bigint[], $3::integer[], $4::integer[], $5::integer[], $6::text[],
            $7::double precision[], $8::integer[], $9::double precision[], $10::double precision[],
            $11::double precision[], $12::boolean[], $13::double precision[], $14::double precision[],
            $15::double precision[], $16::integer[], $17::double precision[], $18::timestamptz[],
            $19::timestamptz[], $20::text[], $21::text[])
