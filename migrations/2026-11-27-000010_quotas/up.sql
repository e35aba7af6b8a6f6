-- A user may have only so many pending images, and create only so many bytes in 24 hours. The statement that creates an image asks this
-- function. A count in that statement itself would be wrong: it would not see the rows that others commit while it waits for the user's
-- lock. A VOLATILE function sees them, because each of its statements takes a new snapshot.
--
-- An image whose own upload has failed is marked for the sweep at once, and such rows do not count. Every other image counts as 64 KiB at
-- least: so the count of a day reads max_bytes / 64 KiB rows at most, and its cost does not grow with what a user has.

-- image_user_id_deleting_at_created_at begins with the same column.
DROP INDEX image_user_id;

CREATE FUNCTION image_quota_wait(
    owner uuid, new_bytes bigint,
    max_pending bigint, pending_for interval,
    max_bytes bigint, unknown_bytes bigint,
    OUT pending_wait bigint, OUT bytes_wait bigint
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    IF max_pending = 0 AND max_bytes = 0 THEN
        RETURN;
    END IF;
    -- Until the caller's transaction ends, nobody else creates an image for this user.
    PERFORM 1 FROM "user" WHERE id = owner FOR NO KEY UPDATE;
    IF max_pending > 0 THEN
        -- The image that must go first, if the newest ones take all places.
        SELECT ceil(extract(epoch FROM created_at + pending_for - now())) INTO pending_wait
        FROM image
        WHERE user_id = owner AND linked_at IS NULL AND deleting_at IS NULL AND created_at > now() - pending_for
        ORDER BY created_at DESC
        OFFSET max_pending - 1 LIMIT 1;
    END IF;
    IF max_bytes > 0 THEN
        -- The newest image that does not fit in beside the new one and those after it.
        SELECT ceil(extract(epoch FROM created_at + interval '24 hours' - now())) INTO bytes_wait
        FROM (
            SELECT
                created_at,
                sum(greatest(coalesce(byte_size, media_byte_size, unknown_bytes), 65536))
                    OVER (ORDER BY created_at DESC) AS total
            FROM (
                -- There is no room for as many as these. deleting_at is null in all of them, and is in the order for the index.
                SELECT created_at, byte_size, media_byte_size
                FROM image
                WHERE user_id = owner AND deleting_at IS NULL AND created_at > now() - interval '24 hours'
                ORDER BY deleting_at DESC, created_at DESC
                LIMIT max_bytes / 65536 + 1
            ) AS newest
        ) AS day
        WHERE total + greatest(new_bytes, 65536) > max_bytes
        ORDER BY created_at DESC
        LIMIT 1;
    END IF;
END
$$;

COMMENT ON COLUMN image.deleting_at IS 'Tombstone: when its own upload failed, or when a sweep last took the row in order to delete its objects and then it.';
COMMENT ON FUNCTION image_quota_wait IS 'How many seconds a user must wait until they may create an image of new_bytes: for a place among the pending images, and for bytes of the last 24 hours, where each image counts as 65536 at least. Null where there is room. It locks the user''s row; a maximum of 0 is no maximum.';
