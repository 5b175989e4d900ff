SELECT iot.drop_rollups($1, $2)
