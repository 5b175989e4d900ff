SELECT bucket, animal_id, total_yield_kg, milking_count, avg_conductivity, avg_scc::double precision AS avg_scc,
       max_mastitis_risk, avg_fat, avg_protein
FROM iot.milk_production_daily
WHERE farm_id = $1 AND ($2::integer IS NULL OR animal_id = $2) AND bucket >= $3 AND bucket < $4
ORDER BY bucket, animal_id
