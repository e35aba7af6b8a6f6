-- Who uploads, and what: the two tables that everything else refers to.
-- An image's row exists before its object does, and goes after it: it is what the sweep works from.

CREATE TABLE "user" (
    id uuid PRIMARY KEY,
    role varchar NOT NULL CHECK (role IN ('ADMIN', 'HOST', 'USER', 'TEMPORARY_USER')),
    sns_auth_provider varchar,
    sns_id varchar,
    email varchar,
    name varchar,
    phone_number varchar,
    nickname varchar,
    gender varchar,
    birth varchar,
    belt varchar,
    profile_image_url_key varchar,
    status varchar NOT NULL DEFAULT 'ACTIVE' CHECK (status IN ('ACTIVE', 'INACTIVE')),
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE "user" IS 'Who may act: the owners of images.';
COMMENT ON COLUMN "user".id IS 'The subject of a token.';
COMMENT ON COLUMN "user".role IS 'ADMIN, HOST, USER or TEMPORARY_USER (signed in, not yet registered: may do nothing here).';
COMMENT ON COLUMN "user".sns_auth_provider IS 'Which social network vouches for the user.';
COMMENT ON COLUMN "user".sns_id IS 'The user''s id at that network.';
COMMENT ON COLUMN "user".email IS 'E-mail address.';
COMMENT ON COLUMN "user".name IS 'Full name.';
COMMENT ON COLUMN "user".phone_number IS 'Telephone number.';
COMMENT ON COLUMN "user".nickname IS 'The name that others see.';
COMMENT ON COLUMN "user".gender IS 'Gender, as the user states it.';
COMMENT ON COLUMN "user".birth IS 'Date of birth, as the user states it.';
COMMENT ON COLUMN "user".belt IS 'Belt rank.';
COMMENT ON COLUMN "user".profile_image_url_key IS 'The media key of the live profile image; null without one.';
COMMENT ON COLUMN "user".status IS 'ACTIVE or INACTIVE; only ACTIVE users may act.';
COMMENT ON COLUMN "user".created_at IS 'When the row was made.';
COMMENT ON COLUMN "user".updated_at IS 'When the row last changed.';

CREATE TABLE image (
    id uuid PRIMARY KEY,
    path varchar NOT NULL CHECK (path IN ('user-profile', 'competition', 'post')),
    format varchar NOT NULL CHECK (format IN ('image/jpeg', 'image/png', 'image/webp')),
    created_at timestamptz NOT NULL DEFAULT now(),
    linked_at timestamptz,
    user_id uuid NOT NULL REFERENCES "user" (id) ON DELETE RESTRICT,
    byte_size bigint CHECK (byte_size > 0),
    checksum_sha256 bytea CHECK (octet_length(checksum_sha256) = 32),
    width integer CHECK (width > 0),
    height integer CHECK (height > 0),
    media_key varchar CHECK (media_key LIKE 'media/%'),
    media_byte_size bigint CHECK (media_byte_size > 0),
    attempt uuid,
    attempt_kind varchar CHECK (attempt_kind IN ('link', 'upload')),
    attempt_until timestamptz,
    refused_code varchar CHECK (
        refused_code IN (
            'empty_file', 'size_mismatch', 'content_mismatch', 'image_too_large', 'header_too_long', 'checksum_mismatch'
        )
    ),
    deleting_at timestamptz,
    incoming_due_at timestamptz DEFAULT now(),
    CONSTRAINT image_attempt_is_whole CHECK (num_nulls(attempt, attempt_kind, attempt_until) IN (0, 3)),
    CONSTRAINT image_media_is_whole CHECK (num_nulls(media_key, media_byte_size, width, height) IN (0, 4)),
    CONSTRAINT image_linked_is_final CHECK (
        linked_at IS NULL
        OR (
            media_key IS NOT NULL AND byte_size = media_byte_size
            AND attempt IS NULL AND refused_code IS NULL AND deleting_at IS NULL
        )
    )
);

CREATE INDEX image_user_id ON image (user_id);
-- The sweep's: it reads the oldest pending rows, however many linked ones there are.
CREATE INDEX image_pending_created_at ON image (created_at) WHERE linked_at IS NULL;
-- The sweep's too: a linked row is in it only until its incoming key has been emptied for good.
CREATE INDEX image_linked_incoming_due ON image (linked_at) WHERE linked_at IS NOT NULL AND incoming_due_at IS NOT NULL;

COMMENT ON TABLE image IS 'An image: a row and, once uploaded, an object. Pending, linked, or deleting.';
COMMENT ON COLUMN image.id IS 'UUID version 7; the incoming key is incoming/ and this.';
COMMENT ON COLUMN image.path IS 'What the image is for, and so what it may be linked to: user-profile, competition or post.';
COMMENT ON COLUMN image.format IS 'The declared media type: image/jpeg, image/png or image/webp.';
COMMENT ON COLUMN image.created_at IS 'When the row was made; the age of a pending image counts from here.';
COMMENT ON COLUMN image.linked_at IS 'When it was linked; null while pending. An image is linked once in its life.';
COMMENT ON COLUMN image.user_id IS 'The owner.';
COMMENT ON COLUMN image.byte_size IS 'Length in bytes: the declared one, or null, while pending; the real one once linked.';
COMMENT ON COLUMN image.checksum_sha256 IS 'The declared SHA-256, 32 bytes, or null.';
COMMENT ON COLUMN image.width IS 'Pixels from left to right of what is under the media key.';
COMMENT ON COLUMN image.height IS 'Pixels from top to bottom of what is under the media key.';
COMMENT ON COLUMN image.media_key IS 'The server-only key of its bytes, under media/; null until verified bytes are there.';
COMMENT ON COLUMN image.media_byte_size IS 'Length in bytes of what is under the media key; apart from byte_size, because another upload before the link may be of another length where none was declared.';
COMMENT ON COLUMN image.attempt IS 'The running try to bring verified bytes to a media key: a lease, or null.';
COMMENT ON COLUMN image.attempt_kind IS 'Which try runs: link or upload.';
COMMENT ON COLUMN image.attempt_until IS 'When the lease ends by itself.';
COMMENT ON COLUMN image.refused_code IS 'Why a body was refused for its content: the code that link answers.';
COMMENT ON COLUMN image.deleting_at IS 'Tombstone: when a sweep last took the row in order to delete its objects and then it.';
COMMENT ON COLUMN image.incoming_due_at IS 'Once linked: from when a sweep may empty the incoming key, to which forms can write for some time after the link. A sweep that takes the row puts it off; null when that is done, once and for all.';
