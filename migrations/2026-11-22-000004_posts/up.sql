-- Posts and their images: the third kind of link. A post's images are linked with it, all or none, and live as long as it does.

CREATE TABLE post (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES "user" (id) ON DELETE RESTRICT,
    title varchar NOT NULL,
    content varchar NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE INDEX post_user_id ON post (user_id);

COMMENT ON TABLE post IS 'A post, which may have images.';
COMMENT ON COLUMN post.id IS 'Identifier.';
COMMENT ON COLUMN post.user_id IS 'Who wrote it.';
COMMENT ON COLUMN post.title IS 'Title.';
COMMENT ON COLUMN post.content IS 'Text.';
COMMENT ON COLUMN post.created_at IS 'When the row was made.';
COMMENT ON COLUMN post.deleted_at IS 'When it was deleted; null while live.';

CREATE TABLE post_image (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    post_id uuid NOT NULL REFERENCES post (id) ON DELETE RESTRICT,
    image_id uuid NOT NULL CONSTRAINT post_image_image_id_key UNIQUE REFERENCES image (id) ON DELETE RESTRICT,
    sequence integer NOT NULL CHECK (sequence >= 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT post_image_place UNIQUE (post_id, sequence)
);

COMMENT ON TABLE post_image IS 'Which images a post has, in which order.';
COMMENT ON COLUMN post_image.id IS 'Identifier.';
COMMENT ON COLUMN post_image.post_id IS 'Whose image.';
COMMENT ON COLUMN post_image.image_id IS 'The image; an image is linked once in its life.';
COMMENT ON COLUMN post_image.sequence IS 'Place in the post, from 0.';
COMMENT ON COLUMN post_image.created_at IS 'When it was linked.';
