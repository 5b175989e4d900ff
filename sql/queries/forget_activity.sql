DELETE FROM iot.activity WHERE minute < $1
