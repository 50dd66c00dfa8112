//! The names in a path: tenant, namespace, group, client session. Parsed once at the door; inside,
//! a name is valid by its type.

use uuid::Uuid;

/// The longest name, in characters.
pub const MAX_CHARS: usize = 260;

/// What stands for all tenants where one could stand, and so is no tenant's name.
pub const EVERY_TENANT: &str = "*";

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Longer than [`MAX_CHARS`].
    #[error("it is longer than {MAX_CHARS} characters")]
    TooLong,
    /// A control character, `/` or `\`.
    #[error("it holds a control character, a slash or a backslash")]
    ForbiddenCharacter,
    /// White space at an end.
    #[error("it begins or ends with white space")]
    OuterWhiteSpace,
    /// `.` or `..`, which clients and proxies take for a step in the path.
    #[error("'.' and '..' are not names")]
    Dots,
    /// `*` for a tenant: in a grant it means all of them.
    #[error("'*' is no tenant's name: where callers are given tenants it means all of them")]
    EveryTenant,
    /// Not UTF-8 after percent-decoding.
    #[error("it is not valid percent-encoded UTF-8")]
    NotUtf8,
}

fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    if text.chars().count() > MAX_CHARS {
        return Err(InvalidId::TooLong);
    }
    if text.chars().any(|c| c.is_control() || c == '/' || c == '\\') {
        return Err(InvalidId::ForbiddenCharacter);
    }
    if text.trim() != text {
        return Err(InvalidId::OuterWhiteSpace);
    }
    if text == "." || text == ".." {
        return Err(InvalidId::Dots);
    }
    Ok(())
}

/// The first character of a name that nobody can see or that changes the order of the others, so
/// that two names look alike and are not, or a name looks like another. No new thing is given such
/// a name; what has one keeps it.
pub fn hidden_character(name: &str) -> Option<char> {
    name.chars().find(|character| HIDDEN.iter().any(|(first, last)| (*first..=*last).contains(character)))
}

/// Characters of no width, marks of direction, fillers, and what only machines read. Marks that
/// choose between forms of the character before (U+FE00 and U+E0100 and following) are none: people
/// type them with symbols and in names.
pub const HIDDEN: [(char, char); 16] = [
    ('\u{00ad}', '\u{00ad}'),
    ('\u{034f}', '\u{034f}'),
    ('\u{061c}', '\u{061c}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e007f}'),
];

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $more:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// A valid name, or what is wrong with it.
            pub fn parse(text: impl Into<String>) -> Result<$name, InvalidId> {
                let text = text.into();
                let more: fn(&str) -> Result<(), InvalidId> = $more;
                check(&text).and_then(|()| more(&text)).map(|()| $name(text))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(
    /// A tenant; exists as soon as it is used.
    TenantId,
    |text| match text {
        EVERY_TENANT => Err(InvalidId::EveryTenant),
        _ => Ok(()),
    }
);
id!(
    /// A namespace of a tenant; exists as soon as it is used.
    NamespaceId,
    |_| Ok(())
);
id!(
    /// A failover group of a namespace.
    GroupId,
    |_| Ok(())
);
id!(
    /// A client session of a group.
    SessionId,
    |_| Ok(())
);

impl GroupId {
    /// A new name, for a group that was posted without one.
    pub fn generate() -> GroupId {
        GroupId(Uuid::new_v4().to_string())
    }
}

impl SessionId {
    /// A new name, for a session that was registered without one.
    pub fn generate() -> SessionId {
        SessionId(Uuid::new_v4().to_string())
    }
}

/// A tenant's namespace: where groups are.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NamespacePath {
    /// The tenant.
    pub tenant: TenantId,
    /// The namespace.
    pub namespace: NamespaceId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_refused_for_each_thing_that_can_be_wrong_with_it() {
        let at_limit = "é".repeat(MAX_CHARS);
        assert_eq!(GroupId::parse(at_limit.clone()).map(|id| id.to_string()), Ok(at_limit));
        for (text, wrong) in [
            (String::new(), InvalidId::Empty),
            ("é".repeat(MAX_CHARS + 1), InvalidId::TooLong),
            ("a\u{7}b".into(), InvalidId::ForbiddenCharacter),
            ("a/b".into(), InvalidId::ForbiddenCharacter),
            ("a\\b".into(), InvalidId::ForbiddenCharacter),
            (" a".into(), InvalidId::OuterWhiteSpace),
            ("a\u{a0}".into(), InvalidId::OuterWhiteSpace),
            (".".into(), InvalidId::Dots),
            ("..".into(), InvalidId::Dots),
        ] {
            assert_eq!(GroupId::parse(text.clone()), Err(wrong), "{text:?}");
        }
        for hidden in ["a\u{200b}b", "\u{202e}a", "a\u{2066}", "\u{feff}a", "pump\u{ad}", "a\u{e0041}"] {
            assert!(hidden_character(hidden).is_some(), "{hidden:?}");
            // What is stored can be named.
            assert!(GroupId::parse(hidden).is_ok(), "{hidden:?}");
        }
        for seen in ["pump", "Größe", "насос", "泵 1", "a\u{0301}", "❤\u{fe0f}", "مضخة"] {
            assert_eq!(hidden_character(seen), None, "{seen}");
        }
        assert_eq!(TenantId::parse("*"), Err(InvalidId::EveryTenant));
        assert!(TenantId::parse("* ").is_err() && TenantId::parse("a*").is_ok() && GroupId::parse("*").is_ok());
    }
}
