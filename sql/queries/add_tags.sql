-- Sorted, so that two commits that note the same wait for each other in one order.
INSERT INTO iot.tag_day (tag, tag_id, day, series_id)
SELECT * FROM unnest($1::smallint[], $2::integer[], $3::timestamptz[], $4::integer[])
ORDER BY 1, 2, 3, 4
ON CONFLICT DO NOTHING
