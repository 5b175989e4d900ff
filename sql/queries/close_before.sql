SELECT iot.close_before($1)
