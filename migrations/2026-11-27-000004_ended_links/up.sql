-- The sweep also removes images whose link ended long ago. So a linked row may have a tombstone, too. Only the sweep sets it, and only
-- if the link has ended; a link that has ended never begins again.
-- The new constraint allows every row that the old one allowed, so no row is read again (NOT VALID).
-- The indexes for it follow, one migration each: nothing may wait for an index while this one keeps everybody from the table.

COMMENT ON TABLE user_profile_image IS 'Which image is or was whose profile image; one live row per user. The sweep deletes the others after a time.';
COMMENT ON TABLE competition_poster_image IS 'Which image is or was which competition''s poster; one live row per competition. The sweep deletes the others after a time.';
COMMENT ON COLUMN post.deleted_at IS 'When it was deleted; null while live. The sweep deletes the row after a time.';

ALTER TABLE image DROP CONSTRAINT image_linked_is_final;
ALTER TABLE image ADD CONSTRAINT image_linked_is_final CHECK (
    linked_at IS NULL
    OR (media_key IS NOT NULL AND byte_size = media_byte_size AND attempt IS NULL AND refused_code IS NULL)
) NOT VALID;
