-- Profile images: the first kind of link. Replaced ones stay as history, so that their image is never linked again.

CREATE TABLE user_profile_image (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id uuid NOT NULL REFERENCES "user" (id) ON DELETE RESTRICT,
    image_id uuid NOT NULL CONSTRAINT user_profile_image_image_id_key UNIQUE REFERENCES image (id) ON DELETE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE UNIQUE INDEX user_profile_image_live ON user_profile_image (user_id) WHERE deleted_at IS NULL;
CREATE INDEX user_profile_image_user_id ON user_profile_image (user_id);

COMMENT ON TABLE user_profile_image IS 'Which image is or was whose profile image; one live row per user.';
COMMENT ON COLUMN user_profile_image.id IS 'Identifier.';
COMMENT ON COLUMN user_profile_image.user_id IS 'Whose profile.';
COMMENT ON COLUMN user_profile_image.image_id IS 'The image; an image is linked once in its life.';
COMMENT ON COLUMN user_profile_image.created_at IS 'When it was linked.';
COMMENT ON COLUMN user_profile_image.deleted_at IS 'When it was replaced or deleted; null while live.';
