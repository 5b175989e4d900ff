SELECT iot.sum_from($1)
