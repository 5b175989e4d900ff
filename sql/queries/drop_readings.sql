SELECT iot.drop_reading_days($1, $2, $3)
