-- Only the rows know which version was verified: without the column these images could be changed by their owners.
LOCK TABLE image IN ACCESS EXCLUSIVE MODE;
DO $$
BEGIN
    IF EXISTS (SELECT FROM image WHERE media_version IS NOT NULL) THEN
        RAISE EXCEPTION 'there are images that are pinned by version; they need the column media_version';
    END IF;
END $$;

ALTER TABLE image DROP CONSTRAINT image_media_key_check;
ALTER TABLE image DROP COLUMN media_version;
ALTER TABLE image ADD CONSTRAINT image_media_key_check CHECK (media_key LIKE 'media/%') NOT VALID;

COMMENT ON COLUMN image.media_key IS 'The server-only key of its bytes, under media/; null until verified bytes are there.';
COMMENT ON COLUMN "user".profile_image_url_key IS 'The media key of the live profile image; null without one.';
