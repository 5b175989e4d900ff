SELECT iot.sum_open()
