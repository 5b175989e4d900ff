SELECT iot.store_rollups($1)
