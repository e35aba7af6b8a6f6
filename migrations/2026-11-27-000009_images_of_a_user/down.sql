DROP INDEX CONCURRENTLY IF EXISTS image_user_id_created_at;
