//! The role of a client session, as a number and as a name.

/// What a client session is told to do. How it is decided is the service's own business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Role {
    /// Stands by.
    Secondary,
    /// Acts.
    Primary,
    /// Was chosen to take over and waits until the Primary has stopped.
    PendingPrimary,
}

impl Role {
    /// All of them, by their numbers.
    pub const ALL: [Role; 3] = [Role::Secondary, Role::Primary, Role::PendingPrimary];

    /// The role of that number, if it is one.
    pub fn from_number(number: i64) -> Option<Role> {
        usize::try_from(number).ok().and_then(|place| Role::ALL.get(place).copied())
    }

    /// Its number in bodies and in the header [`FAILOVER_ROLE`](crate::headers::FAILOVER_ROLE).
    pub fn number(self) -> i64 {
        match self {
            Role::Secondary => 0,
            Role::Primary => 1,
            Role::PendingPrimary => 2,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Role::Secondary => "Secondary",
            Role::Primary => "Primary",
            Role::PendingPrimary => "PendingPrimary",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_role_is_found_by_its_number_and_no_other_number_is_one() {
        for role in Role::ALL {
            assert_eq!(Role::from_number(role.number()), Some(role));
        }
        for number in [-1, 3, i64::MIN, i64::MAX] {
            assert_eq!(Role::from_number(number), None, "{number}");
        }
    }
}
