// @generated automatically by Diesel CLI.

diesel::table! {
    /// A competition, which may have a poster.
    competition (id) {
        /// Identifier.
        id -> Uuid,
        /// What it is called.
        title -> Varchar,
        /// Who runs it: besides an ADMIN the only one who may set its poster.
        host_user_id -> Uuid,
        /// When the row was made.
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Which image is or was which competition's poster; one live row per competition. The sweep deletes the others after a time.
    competition_poster_image (id) {
        /// Identifier.
        id -> Uuid,
        /// Whose poster.
        competition_id -> Uuid,
        /// The image; an image is linked once in its life.
        image_id -> Uuid,
        /// When it was linked.
        created_at -> Timestamptz,
        /// When it was replaced; null while live.
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// An image: a row and, once uploaded, an object. Pending, linked, or deleting.
    image (id) {
        /// UUID version 7; the incoming key is incoming/ and this.
        id -> Uuid,
        /// What the image is for, and so what it may be linked to.
        path -> Varchar,
        /// The declared media type.
        format -> Varchar,
        /// When the row was made; the age of a pending image counts from here.
        created_at -> Timestamptz,
        /// When it was linked; null while pending. An image is linked once in its life.
        linked_at -> Nullable<Timestamptz>,
        /// The owner.
        user_id -> Uuid,
        /// Length in bytes: the declared one, or null, while pending; the real one once linked.
        byte_size -> Nullable<Int8>,
        /// The declared SHA-256, 32 bytes, or null.
        checksum_sha256 -> Nullable<Bytea>,
        /// Pixels from left to right of what is under the media key.
        width -> Nullable<Int4>,
        /// Pixels from top to bottom of what is under the media key.
        height -> Nullable<Int4>,
        /// The key of its bytes; null until verified bytes are there. Without a version it is under media/, where only servers write. With one it is the incoming key.
        media_key -> Nullable<Varchar>,
        /// Length in bytes of what is under the media key; apart from byte_size, because another upload before the link may be of another length where none was declared.
        media_byte_size -> Nullable<Int8>,
        /// The running try to bring verified bytes to a media key: a lease, or null.
        attempt -> Nullable<Uuid>,
        /// Which try runs: link or upload.
        attempt_kind -> Nullable<Varchar>,
        /// When the lease ends by itself.
        attempt_until -> Nullable<Timestamptz>,
        /// Why a body was refused for its content: the code that link answers.
        refused_code -> Nullable<Varchar>,
        /// Tombstone: when its own upload failed, or when a sweep last took the row in order to delete its objects and then it.
        deleting_at -> Nullable<Timestamptz>,
        /// Once linked: from when a sweep may empty the incoming key, to which forms can write for some time after the link. A sweep that takes the row puts it off; null when that is done, once and for all.
        incoming_due_at -> Nullable<Timestamptz>,
        /// The id of the version that was verified and is served, where the link pinned a version and made no copy.
        media_version -> Nullable<Varchar>,
    }
}

diesel::table! {
    /// Media keys that an attempt writes, or may have written, and that no image names. A commit moves the key from here to the image in one statement.
    image_attempt (id) {
        /// The attempt, or a new id for a key that its image named before: it was replaced, or the image was swept.
        id -> Uuid,
        /// The image that the bytes are for; it may be gone.
        image_id -> Uuid,
        /// The media key, in this row from before its first byte until its object is deleted.
        key -> Varchar,
        /// When the last write to the key is over, so that a sweep may delete its object and then this row. A sweep that takes the row puts it off.
        until -> Timestamptz,
    }
}

diesel::table! {
    /// A post, which may have images.
    post (id) {
        /// Identifier.
        id -> Uuid,
        /// Who wrote it.
        user_id -> Uuid,
        /// Title.
        title -> Varchar,
        /// Text.
        content -> Varchar,
        /// When the row was made.
        created_at -> Timestamptz,
        /// When it was deleted; null while live. The sweep deletes the row after a time.
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::table! {
    /// Which images a post has, in which order.
    post_image (id) {
        /// Identifier.
        id -> Uuid,
        /// Whose image.
        post_id -> Uuid,
        /// The image; an image is linked once in its life.
        image_id -> Uuid,
        /// Place in the post, from 0.
        sequence -> Int4,
        /// When it was linked.
        created_at -> Timestamptz,
    }
}

diesel::table! {
    /// Who may act: the owners of images.
    user (id) {
        /// The subject of a token.
        id -> Uuid,
        /// ADMIN, HOST, USER or TEMPORARY_USER (signed in, not yet registered: may do nothing here).
        role -> Varchar,
        /// Which social network vouches for the user.
        sns_auth_provider -> Nullable<Varchar>,
        /// The user's id at that network.
        sns_id -> Nullable<Varchar>,
        /// E-mail address.
        email -> Nullable<Varchar>,
        /// Full name.
        name -> Nullable<Varchar>,
        /// Telephone number.
        phone_number -> Nullable<Varchar>,
        /// The name that others see.
        nickname -> Nullable<Varchar>,
        /// Gender, as the user states it.
        gender -> Nullable<Varchar>,
        /// Date of birth, as the user states it.
        birth -> Nullable<Varchar>,
        /// Belt rank.
        belt -> Nullable<Varchar>,
        /// Where the live profile image is in the bucket: its media key, and with a version also ?versionId= and the version; null without one.
        profile_image_url_key -> Nullable<Varchar>,
        /// ACTIVE or INACTIVE; only ACTIVE users may act.
        status -> Varchar,
        /// When the row was made.
        created_at -> Timestamptz,
        /// When the row last changed.
        updated_at -> Timestamptz,
    }
}

diesel::table! {
    /// Which image is or was whose profile image; one live row per user. The sweep deletes the others after a time.
    user_profile_image (id) {
        /// Identifier.
        id -> Uuid,
        /// Whose profile.
        user_id -> Uuid,
        /// The image; an image is linked once in its life.
        image_id -> Uuid,
        /// When it was linked.
        created_at -> Timestamptz,
        /// When it was replaced or deleted; null while live.
        deleted_at -> Nullable<Timestamptz>,
    }
}

diesel::joinable!(competition -> user (host_user_id));
diesel::joinable!(competition_poster_image -> competition (competition_id));
diesel::joinable!(competition_poster_image -> image (image_id));
diesel::joinable!(image -> user (user_id));
diesel::joinable!(post -> user (user_id));
diesel::joinable!(post_image -> image (image_id));
diesel::joinable!(post_image -> post (post_id));
diesel::joinable!(user_profile_image -> image (image_id));
diesel::joinable!(user_profile_image -> user (user_id));

diesel::allow_tables_to_appear_in_same_query!(
    competition,
    competition_poster_image,
    image,
    image_attempt,
    post,
    post_image,
    user,
    user_profile_image,
);
