SELECT iot.drop_milking_day($1, $2)
