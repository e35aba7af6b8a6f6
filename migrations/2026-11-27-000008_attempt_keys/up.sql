-- Reconcile asks for the keys that it found in the bucket.
-- Servers go on while the index is built. That takes a statement outside of a transaction, and so a migration of its own.

CREATE INDEX CONCURRENTLY image_attempt_key ON image_attempt (key);
