SELECT iot.note_stored($1)
