SELECT iot.ensure_reading_partition($1)
