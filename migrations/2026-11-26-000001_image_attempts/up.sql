-- Every media key that may hold an object is in a row of its own until the object is gone. Before, the key of an attempt that died
-- was forgotten as soon as the next attempt began, and so was the key that a second upload replaced: their objects stayed for ever.
-- There is no foreign key to image on purpose: such a row outlives the image's.

CREATE TABLE image_attempt (
    id uuid PRIMARY KEY,
    image_id uuid NOT NULL,
    key varchar NOT NULL CHECK (key LIKE 'media/%'),
    until timestamptz NOT NULL
);

-- The sweep's: it reads the rows whose time is over, oldest first.
CREATE INDEX image_attempt_until ON image_attempt (until);

COMMENT ON TABLE image_attempt IS 'Media keys that an attempt writes, or may have written, and that no image names. A commit moves the key from here to the image in one statement.';
COMMENT ON COLUMN image_attempt.id IS 'The attempt, or a new id for a key that its image named before: it was replaced, or the image was swept.';
COMMENT ON COLUMN image_attempt.image_id IS 'The image that the bytes are for; it may be gone.';
COMMENT ON COLUMN image_attempt.key IS 'The media key, in this row from before its first byte until its object is deleted.';
COMMENT ON COLUMN image_attempt.until IS 'When the last write to the key is over, so that a sweep may delete its object and then this row. A sweep that takes the row puts it off.';

-- What runs now, or died: its key is made as the servers make it. The grace of ten minutes is upload-domain's LATE_WRITE.
INSERT INTO image_attempt (id, image_id, key, until)
SELECT attempt, id, 'media/' || id || '/' || attempt, attempt_until + interval '10 minutes'
FROM image WHERE attempt IS NOT NULL;
