-- The sweep reads the profile images that were replaced, however many live ones there are.
-- Servers go on while the index is built. That takes a statement outside of a transaction, and so a migration of its own.

CREATE INDEX CONCURRENTLY user_profile_image_deleted_at ON user_profile_image (deleted_at) WHERE deleted_at IS NOT NULL;
