-- Two comments repeated the values of a CHECK and of the domain, so each new value had to change them and schema.rs, too.

COMMENT ON COLUMN image.path IS 'What the image is for, and so what it may be linked to.';
COMMENT ON COLUMN image.format IS 'The declared media type.';
