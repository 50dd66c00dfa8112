//! The statuses of errors, as the description shows them.

use serde_json::{Value, json};

use crate::failover::FailoverError;
use crate::http::errors::ApiError;
use crate::http::limits::BODY_LIMIT;
use crate::ids::{GroupId, InvalidId, NamespaceId, NamespacePath, TenantId};
use crate::store::StoreError;

/// The statuses of errors, for the description of the API: each operation says which of them it
/// has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// 400
    BadRequest,
    /// 401
    NotAuthenticated,
    /// 403
    NotAllowed,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    BodyTooSlow,
    /// 409
    Conflict,
    /// 413
    BodyTooLarge,
    /// 415
    NotJson,
    /// 429
    TooManyRequests,
    /// 500
    Defect,
    /// 503
    Unavailable,
}

impl Refusal {
    /// All of them.
    pub const ALL: [Refusal; 12] = [
        Refusal::BadRequest,
        Refusal::NotAuthenticated,
        Refusal::NotAllowed,
        Refusal::NotFound,
        Refusal::MethodNotAllowed,
        Refusal::BodyTooSlow,
        Refusal::Conflict,
        Refusal::BodyTooLarge,
        Refusal::NotJson,
        Refusal::TooManyRequests,
        Refusal::Defect,
        Refusal::Unavailable,
    ];

    /// Its name in the description.
    pub fn name(self) -> String {
        format!("{self:?}")
    }

    /// The status.
    pub fn status(self) -> u16 {
        self.example().status().as_u16()
    }

    /// When it is answered.
    pub fn description(self) -> &'static str {
        match self {
            Refusal::BadRequest => "The request cannot be understood.",
            Refusal::NotAuthenticated => "Nobody knows who is asking.",
            Refusal::NotAllowed => "Who is asking may not do this there, whether or not there is anything.",
            Refusal::NotFound => "There is no such thing.",
            Refusal::MethodNotAllowed => "The path does not have this method.",
            Refusal::BodyTooSlow => "The body takes too long to come.",
            Refusal::Conflict => "It conflicts with what exists.",
            Refusal::BodyTooLarge => "The body is longer than 64 KiB.",
            Refusal::NotJson => "The body is not JSON.",
            Refusal::TooManyRequests => "The caller or the tenant is over its rate.",
            Refusal::Defect => "A defect of the service. The cause is in its log under the OperationId.",
            Refusal::Unavailable => {
                "The database cannot be reached in time, others changed the same rows for too long, or too much waits already. Nothing was changed, or the change is whole."
            }
        }
    }

    /// The headers that it has, by their names in the description.
    pub fn headers(self) -> &'static [&'static str] {
        match self {
            Refusal::NotAuthenticated => &["WWW-Authenticate"],
            Refusal::MethodNotAllowed => &["Allow"],
            Refusal::TooManyRequests | Refusal::Unavailable => &["Retry-After"],
            _ => &[],
        }
    }

    /// An error that is answered so.
    fn example(self) -> ApiError {
        const VALID: &str = "an id of a few letters is valid";
        let group = || GroupId::parse("pump").expect(VALID);
        let parent = || NamespacePath {
            tenant: TenantId::parse("plant").expect(VALID),
            namespace: NamespaceId::parse("line1").expect(VALID),
        };
        match self {
            Refusal::BadRequest => ApiError::bad_id("groupid", InvalidId::OuterWhiteSpace),
            Refusal::NotAuthenticated => ApiError::NotAuthenticated {
                reason: "the request carries no credentials".to_owned(),
                challenge: "Bearer realm=\"client-failover\"".to_owned(),
            },
            Refusal::NotAllowed => ApiError::NotAllowed {
                reason: "'adapter-7' is not 'admin' in namespace 'line1' of tenant 'plant'.".to_owned(),
            },
            Refusal::NotFound => FailoverError::NoSuchGroup { parent: parent(), group: group() }.into(),
            Refusal::MethodNotAllowed => ApiError::MethodNotAllowed { allow: "GET, POST".to_owned() },
            Refusal::BodyTooSlow => ApiError::BodyTooSlow,
            Refusal::Conflict => FailoverError::GroupDiffers(group()).into(),
            Refusal::BodyTooLarge => ApiError::BodyTooLarge { limit: BODY_LIMIT },
            Refusal::NotJson => ApiError::NotJson { found: "text/plain".to_owned() },
            Refusal::TooManyRequests => {
                ApiError::TooManyRequests { reason: "this identity has sent as many requests as it may in a second" }
            }
            Refusal::Defect => FailoverError::Store(StoreError::Inconsistent(String::new())).into(),
            Refusal::Unavailable => FailoverError::Store(StoreError::Unavailable(String::new())).into(),
        }
    }

    /// The body of such an error.
    pub fn example_body(self) -> Value {
        let (error, reason, resolution) = self.example().texts();
        json!({
            "OperationId": super::AN_OPERATION_ID,
            "Error": error,
            "Reason": reason,
            "Resolution": resolution,
        })
    }
}
