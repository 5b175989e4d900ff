DELETE FROM iot.quarantine WHERE received < $1
