//! The one error body of every answer, and the only place where an error becomes a status.

use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{ALLOW, RETRY_AFTER, WWW_AUTHENTICATE};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use client_failover_wire::ErrorBody;

use super::limits::MAX_TARGET_BYTES;
use crate::access::Denied;
use crate::access::api_keys::issue::IssueError;
use crate::access::bearer::sign_in::SignInError;
use crate::access::writes::TooManyWrites;
use crate::arbitration::Unwishable;
use crate::failover::FailoverError;
use crate::ids::InvalidId;
use crate::store::StoreError;

/// How long a caller is asked to wait after a 503, in seconds. Short: a heartbeat has half a
/// timeout to arrive.
const RETRY_AFTER_S: &str = "1";

/// Why a request is answered with an error.
#[derive(Debug)]
pub enum ApiError {
    /// The request cannot be understood: what, and what to do about it.
    BadRequest {
        /// What is wrong, with the names and values.
        reason: String,
        /// What to send instead.
        resolution: &'static str,
    },
    /// No such path.
    NoSuchRoute {
        /// The path.
        path: String,
    },
    /// A path without that method.
    MethodNotAllowed {
        /// The methods that it has.
        allow: String,
    },
    /// The body is too long.
    BodyTooLarge {
        /// The most bytes that it may have.
        limit: usize,
    },
    /// The body is not JSON.
    NotJson {
        /// What it says it is.
        found: String,
    },
    /// The service is not ready.
    NotReady {
        /// Why.
        reason: String,
        /// Whether a stranger asks, who is not told why.
        is_for_stranger: bool,
    },
    /// Nobody knows who is asking.
    NotAuthenticated {
        /// Why, without the credential.
        reason: String,
        /// Which credentials there are.
        challenge: String,
    },
    /// Who is asking cannot be found out now.
    CannotAuthenticate {
        /// Why.
        reason: &'static str,
    },
    /// Who is asking may not do this there, whatever there is.
    NotAllowed {
        /// What they lack.
        reason: String,
    },
    /// Who is asking may not, by what they have been granted.
    Denied(Denied),
    /// The name by which the service was asked for is none of its own.
    HostNotAllowed {
        /// The name, with its port.
        host: String,
    },
    /// Too many changes of one caller or of one tenant.
    TooManyWrites(TooManyWrites),
    /// Too many requests of one identity.
    TooManyRequests {
        /// Of what.
        reason: &'static str,
    },
    /// The body takes too long to come.
    BodyTooSlow,
    /// There are as many connections as there may be, of all or of one address.
    NoPlace,
    /// The body breaks off, or is not framed as HTTP has it.
    BodyBroken {
        /// How.
        cause: String,
    },
    /// Nobody was signed in on the page.
    SignIn(SignInError),
    /// A key was not made or revoked.
    Keys(IssueError),
    /// A use case refused.
    Failover(FailoverError),
    /// What was to be answered cannot be written, which is our own fault.
    Defect {
        /// What is wrong.
        cause: String,
    },
    /// The framework refused before the request reached us.
    Framework(StatusCode),
}

impl ApiError {
    /// A property of the body or a parameter that is not as it must be.
    pub fn bad(reason: impl Into<String>, resolution: &'static str) -> ApiError {
        ApiError::BadRequest { reason: reason.into(), resolution }
    }

    /// Nothing is served where a request asks.
    pub fn no_such_route(request: &HttpRequest) -> ApiError {
        ApiError::NoSuchRoute { path: request.path().chars().take(200).collect() }
    }

    /// A name that is not one.
    pub fn bad_id(what: &str, wrong: InvalidId) -> ApiError {
        ApiError::bad(
            format!("{what} is not valid: {wrong}"),
            "Use 1 to 260 characters, with no control character, '/' or '\\', no white space at the ends, and not '.' or '..'.",
        )
    }

    /// What it is answered with.
    pub fn status(&self) -> StatusCode {
        match self {
            ApiError::BadRequest { .. } => StatusCode::BAD_REQUEST,
            ApiError::NoSuchRoute { .. } => StatusCode::NOT_FOUND,
            ApiError::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            ApiError::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            ApiError::NotJson { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ApiError::NotReady { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::NotAuthenticated { .. } => StatusCode::UNAUTHORIZED,
            ApiError::CannotAuthenticate { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::NotAllowed { .. } | ApiError::Denied(_) | ApiError::HostNotAllowed { .. } => {
                StatusCode::FORBIDDEN
            }
            ApiError::TooManyRequests { .. } | ApiError::TooManyWrites(_) => StatusCode::TOO_MANY_REQUESTS,
            ApiError::NoPlace => StatusCode::SERVICE_UNAVAILABLE,
            ApiError::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            ApiError::BodyBroken { .. } => StatusCode::BAD_REQUEST,
            ApiError::Defect { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            ApiError::Framework(status) => *status,
            ApiError::SignIn(error) => match error {
                SignInError::NotOffered => StatusCode::NOT_FOUND,
                SignInError::Refused(_) => StatusCode::BAD_REQUEST,
                SignInError::Away(_) => StatusCode::SERVICE_UNAVAILABLE,
                SignInError::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            },
            ApiError::Keys(error) => match error {
                IssueError::Wanted(_) => StatusCode::BAD_REQUEST,
                IssueError::NoSuchKey(_) => StatusCode::NOT_FOUND,
                IssueError::TooMany(_) => StatusCode::CONFLICT,
                IssueError::Denied(_) => StatusCode::FORBIDDEN,
                IssueError::NoSecret => StatusCode::INTERNAL_SERVER_ERROR,
                IssueError::Store(error) => store_status(error),
            },
            ApiError::Failover(error) => match error {
                FailoverError::NoSuchGroup { .. } | FailoverError::NoSuchSession { .. } => StatusCode::NOT_FOUND,
                FailoverError::GroupDiffers(_)
                | FailoverError::SessionDiffers { .. }
                | FailoverError::TooManySessions { .. }
                | FailoverError::TooManyGroups { .. }
                | FailoverError::TooManySessionsOfTenant { .. }
                | FailoverError::GroupIsLive { .. }
                | FailoverError::CannotSwitchOver { .. } => StatusCode::CONFLICT,
                FailoverError::HiddenCharacter { .. } => StatusCode::BAD_REQUEST,
                FailoverError::Denied(_) => StatusCode::FORBIDDEN,
                FailoverError::Overloaded(_)
                | FailoverError::TooManyStreams { .. }
                | FailoverError::SaidInAnotherHistory(_) => StatusCode::SERVICE_UNAVAILABLE,
                FailoverError::Store(error) => store_status(error),
            },
        }
    }

    /// What kind, what exactly, and what to do.
    pub fn texts(&self) -> (&'static str, String, &'static str) {
        match self {
            ApiError::BadRequest { reason, resolution } => {
                ("The request cannot be understood.", reason.clone(), resolution)
            }
            ApiError::NoSuchRoute { path } => {
                ("There is no such path.", format!("Nothing is served at '{path}'."), where_it_is(path))
            }
            ApiError::MethodNotAllowed { allow } => (
                "The path does not have this method.",
                format!("It has {allow}."),
                "Use one of the methods in the Allow header.",
            ),
            ApiError::BodyTooLarge { limit } => {
                ("The body is too large.", format!("It is longer than {limit} bytes."), "Send a shorter body.")
            }
            ApiError::NotJson { found } => (
                "The body is not JSON.",
                format!("It is declared as '{found}'."),
                "Send JSON in UTF-8, uncompressed, with the header Content-Type: application/json.",
            ),
            ApiError::NotReady { reason, is_for_stranger } => (
                "The service is not ready.",
                match is_for_stranger {
                    true => "It cannot serve requests now.".to_owned(),
                    false => reason.clone(),
                },
                "Try again after the time in the Retry-After header.",
            ),
            ApiError::NotAuthenticated { reason, .. } => (
                "The caller is not known.",
                format!("{}.", capital(reason)),
                "Send valid credentials of a kind that the header WWW-Authenticate names.",
            ),
            ApiError::CannotAuthenticate { reason } => (
                "The caller cannot be recognised now.",
                format!("{}.", capital(reason)),
                "Try again after the time in the Retry-After header.",
            ),
            ApiError::NotAllowed { reason } => (NOT_ALLOWED, reason.clone(), HAVE_IT_GRANTED),
            ApiError::Denied(denied) => denied_texts(denied),
            ApiError::HostNotAllowed { host } => (
                "The service has no such name.",
                format!("It was asked for as '{host}'."),
                "Ask for it by a name of its own, or add this one to its setting allowed-hosts.",
            ),
            ApiError::TooManyWrites(too_many) => (
                "There are too many changes.",
                format!("{}.", capital(&too_many.to_string())),
                "Try again after the time in the Retry-After header, change less, or raise the service's caller-write-rates or tenant-write-rates.",
            ),
            ApiError::TooManyRequests { reason } => (
                "There are too many requests.",
                format!("{}.", capital(reason)),
                "Try again after the time in the Retry-After header.",
            ),
            ApiError::BodyTooSlow => (
                "The body takes too long.",
                "It was not there as a whole in time.".to_owned(),
                "Send the request again, on a better connection.",
            ),
            ApiError::NoPlace => (
                "There are too many connections.",
                "As many are open as there may be, of all callers or of this address.".to_owned(),
                "Try again after the time in the Retry-After header, or close connections that are not needed.",
            ),
            ApiError::BodyBroken { cause } => {
                ("The body is not whole.", format!("The body could not be read: {cause}."), "Send the whole body.")
            }
            ApiError::Defect { .. } => defect_texts(),
            ApiError::Framework(status) => refused_unread(*status),
            ApiError::SignIn(error) => sign_in_texts(error),
            ApiError::Keys(error) => key_texts(error),
            ApiError::Failover(error) => failover_texts(error),
        }
    }

    /// What goes to the log where the fault is not the caller's.
    pub fn cause(&self) -> String {
        match self {
            ApiError::Failover(error) => error.to_string(),
            ApiError::Keys(error) => error.to_string(),
            ApiError::NotReady { reason, .. } => reason.clone(),
            ApiError::Defect { cause } => format!("the answer cannot be written: {cause}"),
            other => other.texts().1,
        }
    }
}

fn store_status(error: &StoreError) -> StatusCode {
    match error {
        StoreError::Unavailable(_) | StoreError::Contended { .. } => StatusCode::SERVICE_UNAVAILABLE,
        StoreError::Inconsistent(_) | StoreError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn sign_in_texts(error: &SignInError) -> (&'static str, String, &'static str) {
    let what_helps = match error {
        SignInError::NotOffered => "Use credentials of another kind, or give the service an oidc-page-client-id.",
        SignInError::Refused(_) => "Sign in again. If that does not help, ask whoever runs the issuer.",
        SignInError::Away(_) | SignInError::TooMany(_) => "Try again after the time in the Retry-After header.",
    };
    ("Nobody was signed in.", format!("{}.", capital(&error.to_string())), what_helps)
}

fn key_texts(error: &IssueError) -> (&'static str, String, &'static str) {
    let reason = format!("{}.", capital(&error.to_string()));
    match error {
        IssueError::Wanted(_) => ("The key cannot be made.", reason, "Correct what the reason names."),
        IssueError::NoSecret => ("The key cannot be made.", reason, "Report it together with the OperationId."),
        IssueError::NoSuchKey(_) => ("The key does not exist.", reason, "Use a number that the list of keys has."),
        IssueError::TooMany(_) => ("The tenant has too many keys.", reason, "Revoke keys that are no longer used."),
        IssueError::Denied(denied) => denied_texts(denied),
        IssueError::Store(error) => store_texts(error),
    }
}

const NOT_ALLOWED: &str = "The caller is not allowed to do this.";
const HAVE_IT_GRANTED: &str = "Use credentials that have the role there, or have it granted.";

fn denied_texts(denied: &Denied) -> (&'static str, String, &'static str) {
    let reason = format!("{}.", capital(&denied.to_string()));
    match denied {
        Denied::NotGranted { .. } | Denied::MoreThanTheyHave { .. } | Denied::KeysAreNoWayIn => {
            (NOT_ALLOWED, reason, HAVE_IT_GRANTED)
        }
        Denied::NotThisGroup { identity } => {
            (NOT_ALLOWED, format!("'{identity}' may create groups here, but none of this Id."), HAVE_IT_GRANTED)
        }
        Denied::OnlyAdminsChangeGroups(_) => {
            (NOT_ALLOWED, reason, "Leave the group as it is, or use credentials with the role 'admin'.")
        }
        Denied::SessionOfAnother { .. } => (
            "The client session belongs to another.",
            reason,
            "Register a client session of your own, under another Id.",
        ),
    }
}

/// What is wrong with a request that was refused before anything was done for it.
fn refused_unread(status: StatusCode) -> (&'static str, String, &'static str) {
    const SHORTER: &str = "Send a shorter request.";
    match status {
        StatusCode::URI_TOO_LONG => (
            "The target of the request is too long.",
            format!("The target of the request is longer than {MAX_TARGET_BYTES} bytes."),
            SHORTER,
        ),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => (
            "The head of the request is too large.",
            "The line of the request and its headers are longer than 128 KiB together.".to_owned(),
            SHORTER,
        ),
        StatusCode::REQUEST_TIMEOUT => (
            "The head of the request takes too long.",
            "It was not there as a whole in time.".to_owned(),
            "Send the request again, on a better connection.",
        ),
        _ => (
            "The request was refused.",
            "It is not well-formed HTTP/1.1, or not of a kind that is served here.".to_owned(),
            "Correct the request.",
        ),
    }
}

fn failover_texts(error: &FailoverError) -> (&'static str, String, &'static str) {
    let reason = sentence(error);
    match error {
        FailoverError::NoSuchGroup { .. } => {
            ("The group does not exist.", reason, "Stop acting. Create the group, then register the client session.")
        }
        FailoverError::NoSuchSession { .. } => {
            ("The client session does not exist.", reason, "Stop acting, then register the client session again.")
        }
        FailoverError::GroupDiffers(group) => (
            "The group exists.",
            format!("Group '{group}' exists with another Name, Description or FailoverTimeout."),
            "Use PUT to change a group's configuration, or another Id for another group.",
        ),
        FailoverError::SessionDiffers { group, session } => (
            "The client session exists.",
            format!("Client session '{session}' exists in group '{group}' with another Name."),
            "Use another Id, or delete the client session first.",
        ),
        FailoverError::TooManySessions { .. } => (
            "The group is full.",
            reason,
            "Delete client sessions that are no longer used (client-failover sessions prune), register with the same Id at each start, or raise the service's session limit.",
        ),
        FailoverError::TooManySessionsOfTenant { .. } => (
            "The tenant is full.",
            reason,
            "Delete client sessions that are no longer used, or raise the service's limit of sessions per tenant.",
        ),
        FailoverError::TooManyGroups { .. } => (
            "The tenant is full.",
            reason,
            "Delete groups that are no longer used, or raise the service's group limit.",
        ),
        FailoverError::HiddenCharacter { .. } => (
            "The request cannot be understood.",
            reason,
            "Use a name without characters that nobody can see or that change the order of the others.",
        ),
        FailoverError::Denied(denied) => denied_texts(denied),
        FailoverError::GroupIsLive { .. } => {
            ("The group is in use.", reason, "Stop its clients and wait for one failover timeout, or add ?force=true.")
        }
        FailoverError::CannotSwitchOver { why, .. } => {
            ("The switch-over would not come about.", reason, what_helps(*why))
        }
        FailoverError::SaidInAnotherHistory(_) => (
            "The database has changed.",
            reason,
            "Send the next heartbeat after the time in the Retry-After header, and go on acting until the last lease has run out.",
        ),
        FailoverError::Overloaded(_) => {
            ("The service is overloaded.", reason, "Try again after the time in the Retry-After header.")
        }
        FailoverError::TooManyStreams { .. } => (
            "Too many streams of events are open.",
            reason,
            "Close streams that are not needed, try again after the time in the Retry-After header, or raise the service's limit.",
        ),
        FailoverError::Store(error) => store_texts(error),
    }
}

/// What lets a switch-over come about.
fn what_helps(why: Unwishable) -> &'static str {
    match why {
        Unwishable::NotLive => {
            "Start its client, or switch over to another. To have it be Primary when it comes, force it."
        }
        Unwishable::IsExcluded => "End its exclusion first, or switch over to another.",
        Unwishable::AnotherIsForced(_) | Unwishable::IsForced => "Withdraw that wish first.",
        Unwishable::NoPrimary => "Name the client session that is to be Primary.",
        Unwishable::NobodyElse => "Start another client, or end the exclusion of one that is live.",
    }
}

fn store_texts(error: &StoreError) -> (&'static str, String, &'static str) {
    match error {
        StoreError::Unavailable(_) => (
            "The database cannot be reached in time.",
            "Nothing was changed, or the change is whole.".to_owned(),
            "Try again after the time in the Retry-After header.",
        ),
        StoreError::Contended { .. } => (
            "Too many changes of the same group at once.",
            "Nothing was changed: other requests for the group came between for as long as there was time.".to_owned(),
            "Try again after the time in the Retry-After header.",
        ),
        StoreError::Inconsistent(_) | StoreError::Failed { .. } => defect_texts(),
    }
}

fn defect_texts() -> (&'static str, String, &'static str) {
    (
        "The service has a defect.",
        "The request could not be carried out. Its cause is in the service's log.".to_owned(),
        "Report it together with the OperationId.",
    )
}

/// An error's text as a sentence.
fn sentence(error: &FailoverError) -> String {
    format!("{}.", capital(&error.to_string()))
}

fn capital(text: &str) -> String {
    let mut rest = text.chars();
    let first = rest.next().map(|c| c.to_uppercase().collect::<String>()).unwrap_or_default();
    format!("{first}{}", rest.as_str())
}

impl From<FailoverError> for ApiError {
    fn from(error: FailoverError) -> ApiError {
        ApiError::Failover(error)
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> ApiError {
        ApiError::Denied(denied)
    }
}

impl From<SignInError> for ApiError {
    fn from(error: SignInError) -> ApiError {
        ApiError::SignIn(error)
    }
}

impl From<IssueError> for ApiError {
    fn from(error: IssueError) -> ApiError {
        ApiError::Keys(error)
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause())
    }
}

impl std::error::Error for ApiError {}

impl ApiError {
    /// The whole answer.
    pub fn to_response(&self, operation_id: &str) -> HttpResponse {
        let status = self.status();
        let mut response = HttpResponse::build(status);
        if let ApiError::TooManyWrites(too_many) = self {
            let seconds = too_many.wait.as_secs_f64().ceil().max(1.0);
            response.insert_header((RETRY_AFTER, seconds.to_string()));
        } else if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            response.insert_header((RETRY_AFTER, RETRY_AFTER_S));
        }
        if let ApiError::MethodNotAllowed { allow } = self {
            response.insert_header((ALLOW, allow.as_str()));
        }
        if let ApiError::NotAuthenticated { challenge, .. } = self {
            response.insert_header((WWW_AUTHENTICATE, challenge.as_str()));
        }
        if matches!(self, ApiError::BodyTooSlow | ApiError::BodyTooLarge { .. } | ApiError::BodyBroken { .. }) {
            // The next request would be looked for in the middle of this one.
            response.force_close();
        }
        response.content_type("application/json").body(self.body(operation_id))
    }

    /// The body alone.
    pub fn body(&self, operation_id: &str) -> String {
        let (error, reason, resolution) = self.texts();
        // A structure of texts can always be written.
        let body = ErrorBody {
            operation_id: operation_id.into(),
            error: error.into(),
            reason: reason.into(),
            resolution: resolution.into(),
        };
        serde_json::to_string(&body).unwrap_or_default()
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    /// Without its body, which needs the operation id: the middleware around everything writes it.
    fn error_response(&self) -> HttpResponse {
        HttpResponse::new(self.status())
    }
}

/// Where that is served which somebody asks for at a path at which nothing is.
fn where_it_is(path: &str) -> &'static str {
    let path = path.to_ascii_lowercase();
    if path.starts_with("/api/v1/configuration/") {
        "The endpoint of an adapter is /api/v1/clientfailover on the premises, or \
         /api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover."
    } else if path.contains("/accesscontrol") {
        "There are no lists of access control: who may do what is said by the roles of callers (auth, and the settings beside it)."
    } else if path.ends_with("/.well-known/openid-configuration") {
        "There is no issuer of tokens here (oidc-issuer). An adapter can sign in by Basic, with the name of an API key as the user and the key as the password."
    } else {
        "Groups are at /api/v1/tenants/{tenantId}/namespaces/{namespaceId}/clientfailover/groups."
    }
}
