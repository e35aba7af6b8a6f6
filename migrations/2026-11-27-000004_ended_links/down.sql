UPDATE image SET deleting_at = NULL WHERE linked_at IS NOT NULL;
ALTER TABLE image DROP CONSTRAINT image_linked_is_final;
ALTER TABLE image ADD CONSTRAINT image_linked_is_final CHECK (
    linked_at IS NULL
    OR (
        media_key IS NOT NULL AND byte_size = media_byte_size
        AND attempt IS NULL AND refused_code IS NULL AND deleting_at IS NULL
    )
);

COMMENT ON TABLE user_profile_image IS 'Which image is or was whose profile image; one live row per user.';
COMMENT ON TABLE competition_poster_image IS 'Which image is or was which competition''s poster; one live row per competition.';
COMMENT ON COLUMN post.deleted_at IS 'When it was deleted; null while live.';
