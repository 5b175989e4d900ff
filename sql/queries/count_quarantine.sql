SELECT count(*) FROM iot.quarantine WHERE received < $1
