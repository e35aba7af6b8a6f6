-- The only names of objects that may still be in the store: let a sweep work it off first.
DROP TABLE image_attempt;
