-- Each statement that asks whether an image is linked used to list the link tables itself. If one statement lacked a table, a linked
-- image answered 404. Now all of them read this view, and a new link table adds one SELECT to it (CREATE OR REPLACE VIEW).
-- The view has UNION ALL and plain columns, so that a condition on image_id can use the unique index of each table.

CREATE VIEW image_link (image_id, target, target_id, ended_at) AS
SELECT image_id, 'profile', user_id, deleted_at FROM user_profile_image
UNION ALL
SELECT image_id, 'poster', competition_id, deleted_at FROM competition_poster_image
UNION ALL
SELECT post_image.image_id, 'post', post.id, post.deleted_at FROM post_image JOIN post ON post.id = post_image.post_id;

COMMENT ON VIEW image_link IS 'What each linked image is or was linked to: the rows of all link tables.';
COMMENT ON COLUMN image_link.image_id IS 'The image; an image is linked once in its life.';
COMMENT ON COLUMN image_link.target IS 'The kind of target, in the word that the code has for it.';
COMMENT ON COLUMN image_link.target_id IS 'Which one of its kind.';
COMMENT ON COLUMN image_link.ended_at IS 'When the link ended; null while live.';
