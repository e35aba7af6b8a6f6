-- A user's pending images by age, for the quotas: however many linked ones the user has, they are not read. Servers go on while the index
-- is built. That takes a statement outside of a transaction, and so a migration of its own.

CREATE INDEX CONCURRENTLY image_pending_user_id ON image (user_id, created_at) WHERE linked_at IS NULL AND deleting_at IS NULL;
