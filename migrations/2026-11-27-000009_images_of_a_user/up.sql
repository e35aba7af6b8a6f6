-- A user's images by age, for the quotas. Servers go on while the index is built. That takes a statement outside of a transaction, and so
-- a migration of its own.

CREATE INDEX CONCURRENTLY image_user_id_created_at ON image (user_id, created_at);
