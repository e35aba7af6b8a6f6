-- A user's images by age, for the quotas. An image whose upload has failed does not count, so it stands apart, and is not read. Servers go on
-- while the index is built. That takes a statement outside of a transaction, and so a migration of its own.

CREATE INDEX CONCURRENTLY image_user_id_deleting_at_created_at ON image (user_id, deleting_at, created_at);
