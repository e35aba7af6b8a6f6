-- A link can pin an upload by its version instead of a copy: the store keeps every version of the incoming key, and the row says which
-- one was verified. So a linked image may now name an incoming key, but only together with a version.
-- The new constraint allows every row that the old one allowed, so no row is read again (NOT VALID).

ALTER TABLE image ADD COLUMN media_version varchar;

ALTER TABLE image DROP CONSTRAINT image_media_key_check;
ALTER TABLE image ADD CONSTRAINT image_media_key_check CHECK (
    CASE
        WHEN media_version IS NULL THEN media_key LIKE 'media/%'
        ELSE media_version <> '' AND linked_at IS NOT NULL AND coalesce(media_key = 'incoming/' || id::text, false)
    END
) NOT VALID;

COMMENT ON COLUMN image.media_key IS 'The key of its bytes; null until verified bytes are there. Without a version it is under media/, where only servers write. With one it is the incoming key.';
COMMENT ON COLUMN image.media_version IS 'The id of the version that was verified and is served, where the link pinned a version and made no copy.';
COMMENT ON COLUMN "user".profile_image_url_key IS 'Where the live profile image is in the bucket: its media key, and with a version also ?versionId= and the version; null without one.';
