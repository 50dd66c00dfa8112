//! Errors as they are told.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The body of every error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "Error"))]
pub struct ErrorBody<'a> {
    /// The request's id, which is also in the header Operation-Id and in the service's log.
    #[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{32}$")))]
    pub operation_id: Cow<'a, str>,
    /// What kind of error it is.
    pub error: Cow<'a, str>,
    /// What exactly is wrong, with the names and values.
    pub reason: Cow<'a, str>,
    /// What to do about it.
    pub resolution: Cow<'a, str>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_as_it_was_written_and_what_lacks_a_part_is_none_of_ours() {
        let body = ErrorBody {
            operation_id: "0af7651916cd43dd8448eb211c80319c".into(),
            error: "The group does not exist.".into(),
            reason: "There is no group 'pump'.".into(),
            resolution: "Create it.".into(),
        };
        let text = serde_json::to_string(&body).expect("texts can be written");
        assert!(text.starts_with(r#"{"OperationId":"0af7"#), "{text}");
        assert_eq!(serde_json::from_str::<ErrorBody<'_>>(&text).expect("it is one"), body);
        assert!(serde_json::from_str::<ErrorBody<'_>>(r#"{"Error": "upstream connect error"}"#).is_err());
    }
}
