DROP INDEX CONCURRENTLY IF EXISTS user_profile_image_deleted_at;
