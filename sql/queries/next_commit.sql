SELECT nextval('iot.commit_number')
