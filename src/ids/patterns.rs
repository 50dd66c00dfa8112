//! Patterns of group ids, by which somebody may be let into some of a namespace's groups.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::MAX_CHARS;

/// What stands for any characters, or none.
const ANY: char = '*';

/// A pattern of group ids: `line-*`. A `*` stands for any characters, everything else for itself,
/// in its case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, Serialize)]
#[serde(transparent)]
pub struct GroupPattern(String);

impl From<String> for GroupPattern {
    fn from(text: String) -> GroupPattern {
        GroupPattern(text)
    }
}

impl GroupPattern {
    /// The pattern as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What makes it one that no group's id fits, if anything.
    pub fn fault(&self) -> Option<&'static str> {
        match &*self.0 {
            "" => Some("a pattern of groups is empty"),
            text if text.chars().count() > MAX_CHARS => Some("a pattern of groups is longer than 260 characters"),
            text if text.chars().any(|c| c.is_control() || c == '/' || c == '\\') => {
                Some("a pattern of groups holds a control character, a slash or a backslash")
            }
            _ => None,
        }
    }

    /// Whether that id fits.
    pub fn fits(&self, id: &str) -> bool {
        let Some((first, rest)) = self.0.split_once(ANY) else { return self.0 == id };
        let (middle, last) = rest.rsplit_once(ANY).unwrap_or(("", rest));
        let Some(mut left) = id.strip_prefix(first).and_then(|left| left.strip_suffix(last)) else { return false };
        // Each part where it is found first: that leaves most for the others.
        middle.split(ANY).all(|part| match left.find(part) {
            Some(at) => {
                left = &left[at + part.len()..];
                true
            }
            None => false,
        })
    }

    /// The same as SQL's LIKE has it.
    fn as_like(&self) -> String {
        let mut like = String::with_capacity(self.0.len() + 2);
        for c in self.0.chars() {
            match c {
                ANY => like.push('%'),
                '%' | '_' | '\\' => like.extend(['\\', c]),
                _ => like.push(c),
            }
        }
        like
    }
}

/// Which groups of a namespace are meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Groups {
    /// All of them.
    #[default]
    All,
    /// Those whose id fits one of these patterns.
    Fitting(Arc<BTreeSet<GroupPattern>>),
}

impl Groups {
    /// Those that fit one of these.
    pub fn fitting(patterns: impl IntoIterator<Item = GroupPattern>) -> Groups {
        Groups::Fitting(Arc::new(patterns.into_iter().collect()))
    }

    /// Whether the group of that id is meant.
    pub fn include(&self, id: &str) -> bool {
        match self {
            Groups::All => true,
            Groups::Fitting(patterns) => patterns.iter().any(|pattern| pattern.fits(id)),
        }
    }

    /// The patterns for SQL's `LIKE ANY`; `None` where all are meant.
    pub fn as_likes(&self) -> Option<Vec<String>> {
        match self {
            Groups::All => None,
            Groups::Fitting(patterns) => Some(patterns.iter().map(GroupPattern::as_like).collect()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> GroupPattern {
        GroupPattern::from(text.to_owned())
    }

    #[test]
    fn a_star_stands_for_any_characters_and_everything_else_for_itself() {
        for (text, fitting, others) in [
            ("pump", vec!["pump"], vec!["pumps", "Pump", "a pump", ""]),
            ("line-*", vec!["line-", "line-7", "line-*"], vec!["line", "aline-7", "LINE-7"]),
            ("*-7", vec!["-7", "line-7", "-7-7"], vec!["line-77", "7"]),
            ("a*b*c", vec!["abc", "a-b-c", "abcbc"], vec!["acb", "ab", "ac"]),
            ("a*a", vec!["aa", "aba"], vec!["a", "ab"]),
            ("*b*", vec!["b", "abc"], vec!["a", ""]),
            ("a**b", vec!["ab", "a*b"], vec!["a"]),
            ("*", vec!["", "x"], vec![]),
            ("50%_.", vec!["50%_."], vec!["500_.", "50%x.", "50%_x"]),
            ("ä*ß", vec!["äß", "äöß"], vec!["ä", "ß"]),
        ] {
            for id in fitting {
                assert!(pattern(text).fits(id), "{text} {id}");
            }
            for id in others {
                assert!(!pattern(text).fits(id), "{text} {id}");
            }
        }
    }

    #[test]
    fn what_means_something_to_like_is_marked_as_meaning_nothing() {
        assert_eq!(pattern("50%_*").as_like(), r"50\%\_%");
    }

    #[test]
    fn a_pattern_that_no_id_fits_is_a_fault() {
        for text in ["", "a/b", "a\\b", "a\nb", &"x".repeat(261)] {
            assert!(pattern(text).fault().is_some(), "{text:?}");
        }
        assert_eq!(pattern("line-*").fault(), None);
    }
}
