-- As iot.milk_production_daily, with the bounds where each part can use them: $1 farm, $2 animal or NULL for all, days
-- from $3 to $4.
SELECT bucket,
       animal_id,
       total_yield_kg,
       milking_count,
       avg_conductivity,
       avg_scc::double precision AS avg_scc,
       max_mastitis_risk,
       avg_fat,
       avg_protein
FROM iot.rollup_milk_daily
WHERE farm_id = $1 AND ($2::integer IS NULL OR animal_id = $2) AND bucket >= $3::timestamptz AND bucket < $4::timestamptz
  AND bucket IN (SELECT day FROM iot.dropped_day WHERE source = 'milking' AND day >= $3 AND day < $4)
UNION ALL
SELECT date_bin('1 day', time, '2000-01-03 00:00:00+00') AS bucket,
       animal_id,
       sum(yield_kg) AS total_yield_kg,
       count(*) AS milking_count,
       avg(conductivity_ms) AS avg_conductivity,
       avg(somatic_cell_count)::double precision AS avg_scc,
       max(mastitis_risk_score) AS max_mastitis_risk,
       avg(fat_percent) AS avg_fat,
       avg(protein_percent) AS avg_protein
FROM iot.milk_production_realtime
WHERE farm_id = $1 AND ($2 IS NULL OR animal_id = $2) AND time >= $3 AND time < $4
  AND date_bin('1 day', time, '2000-01-03 00:00:00+00') NOT IN (
      SELECT day FROM iot.dropped_day WHERE source = 'milking' AND day >= $3 AND day < $4)
GROUP BY 1, 2
ORDER BY bucket, animal_id
