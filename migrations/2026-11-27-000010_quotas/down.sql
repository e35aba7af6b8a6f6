DROP FUNCTION image_quota_wait;

COMMENT ON COLUMN image.deleting_at IS 'Tombstone: when a sweep last took the row in order to delete its objects and then it.';

CREATE INDEX image_user_id ON image (user_id);
