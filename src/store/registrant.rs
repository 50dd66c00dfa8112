//! Who registered a session.

/// Who registered a session, as somebody sees it who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registrant {
    /// They did.
    Caller,
    /// Somebody else did.
    Another,
    /// That was not noted.
    NotKnown,
}

impl Registrant {
    /// Who is noted as the registrant, as somebody sees it.
    pub(super) fn seen_by(registrant: Option<&str>, identity: &str) -> Registrant {
        match registrant {
            Some(registrant) if registrant == identity => Registrant::Caller,
            Some(registrant) if !is_key_without_number(registrant) => Registrant::Another,
            Some(_) | None => Registrant::NotKnown,
        }
    }
}

/// Whether a replica of a former version has noted it, by the name of a key: which key that was
/// cannot be told.
fn is_key_without_number(registrant: &str) -> bool {
    registrant.strip_prefix("key:").is_some_and(|rest| {
        let number = rest.split_once(':').map_or("", |(number, _)| number);
        number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit())
    })
}
