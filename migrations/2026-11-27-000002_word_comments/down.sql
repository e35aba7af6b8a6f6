COMMENT ON COLUMN image.path IS 'What the image is for, and so what it may be linked to: user-profile, competition or post.';
COMMENT ON COLUMN image.format IS 'The declared media type: image/jpeg, image/png or image/webp.';
