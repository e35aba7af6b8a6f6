//! Who may act: roles and status, as the `user` table spells them.

use crate::words;

words!(
    /// What a user may do.
    Role {
        /// May do everything.
        Admin = "ADMIN",
        /// Runs competitions.
        Host = "HOST",
        /// An ordinary member.
        User = "USER",
        /// Signed in, not yet registered: may do nothing here.
        TemporaryUser = "TEMPORARY_USER",
    }
);

words!(
    /// Whether a user may act at all.
    UserStatus {
        /// May act.
        Active = "ACTIVE",
        /// May not.
        Inactive = "INACTIVE",
    }
);

impl Role {
    /// The roles of a registered user.
    pub const REGISTERED: &'static [Self] = &[Self::Admin, Self::Host, Self::User];
    /// The roles that run competitions.
    pub const COMPETITION: &'static [Self] = &[Self::Admin, Self::Host];
}
