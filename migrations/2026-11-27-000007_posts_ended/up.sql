-- The sweep reads the posts that were deleted, however many live ones there are.
-- Servers go on while the index is built. That takes a statement outside of a transaction, and so a migration of its own.

CREATE INDEX CONCURRENTLY post_deleted_at ON post (deleted_at) WHERE deleted_at IS NOT NULL;
