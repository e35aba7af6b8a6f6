DROP FUNCTION image_quota_wait;

CREATE INDEX image_user_id ON image (user_id);
