SELECT iot.seal_before($1)
