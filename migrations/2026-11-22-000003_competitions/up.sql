-- Competitions and their posters: the second kind of link. Replaced posters stay as history.

CREATE TABLE competition (
    id uuid PRIMARY KEY,
    title varchar NOT NULL,
    host_user_id uuid NOT NULL REFERENCES "user" (id) ON DELETE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX competition_host_user_id ON competition (host_user_id);

COMMENT ON TABLE competition IS 'A competition, which may have a poster.';
COMMENT ON COLUMN competition.id IS 'Identifier.';
COMMENT ON COLUMN competition.title IS 'What it is called.';
COMMENT ON COLUMN competition.host_user_id IS 'Who runs it: besides an ADMIN the only one who may set its poster.';
COMMENT ON COLUMN competition.created_at IS 'When the row was made.';

CREATE TABLE competition_poster_image (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    competition_id uuid NOT NULL REFERENCES competition (id) ON DELETE RESTRICT,
    image_id uuid NOT NULL CONSTRAINT competition_poster_image_image_id_key UNIQUE REFERENCES image (id) ON DELETE RESTRICT,
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz
);

CREATE UNIQUE INDEX competition_poster_image_live ON competition_poster_image (competition_id) WHERE deleted_at IS NULL;
CREATE INDEX competition_poster_image_competition_id ON competition_poster_image (competition_id);

COMMENT ON TABLE competition_poster_image IS 'Which image is or was which competition''s poster; one live row per competition.';
COMMENT ON COLUMN competition_poster_image.id IS 'Identifier.';
COMMENT ON COLUMN competition_poster_image.competition_id IS 'Whose poster.';
COMMENT ON COLUMN competition_poster_image.image_id IS 'The image; an image is linked once in its life.';
COMMENT ON COLUMN competition_poster_image.created_at IS 'When it was linked.';
COMMENT ON COLUMN competition_poster_image.deleted_at IS 'When it was replaced; null while live.';
