-- $3: where spans begin, and where the last one ends.
SELECT ($3::timestamptz[])[width_bucket(time, $3)] AS bucket,
       animal_id,
       sum(yield_kg) AS total_yield_kg,
       count(*) AS milking_count,
       avg(conductivity_ms) AS avg_conductivity,
       avg(somatic_cell_count)::double precision AS avg_scc,
       max(mastitis_risk_score) AS max_mastitis_risk,
       avg(fat_percent) AS avg_fat,
       avg(protein_percent) AS avg_protein
FROM iot.milk_production_realtime
WHERE farm_id = $1 AND ($2::integer IS NULL OR animal_id = $2)
  AND time >= ($3)[1] AND time < ($3)[cardinality($3)]
GROUP BY 1, 2
ORDER BY 1, 2
