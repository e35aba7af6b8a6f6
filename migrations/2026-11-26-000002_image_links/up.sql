-- Which tables link images was known to three queries. One that forgot a table would have answered 404 for a linked image. Now a
-- link table is named here, and the queries read this view.

CREATE VIEW image_link (image_id, target, target_id, ended_at) AS
SELECT image_id, 'profile', user_id, deleted_at FROM user_profile_image
UNION ALL
SELECT image_id, 'poster', competition_id, deleted_at FROM competition_poster_image
UNION ALL
SELECT post_image.image_id, 'post', post.id, post.deleted_at FROM post_image JOIN post ON post.id = post_image.post_id;

COMMENT ON VIEW image_link IS 'Every link of an image, live or ended, whatever it is linked to. A new link table is added here.';
COMMENT ON COLUMN image_link.image_id IS 'The linked image.';
COMMENT ON COLUMN image_link.target IS 'What it is linked to: profile, poster or post.';
COMMENT ON COLUMN image_link.target_id IS 'Which one: the id of the user, the competition or the post.';
COMMENT ON COLUMN image_link.ended_at IS 'When the link ended; null while it is live.';
