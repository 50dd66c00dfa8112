//! The ids of requests, by which they are found in the log, in traces and in the audit trail.

use std::sync::Arc;

use actix_web::http::header::HeaderMap;

/// The ids of a request. 32 hexadecimal digits each.
pub struct OperationId {
    /// Our own, which nobody else can choose.
    pub own: Arc<str>,
    /// The trace id of a well-formed `traceparent`: the caller's word.
    pub claimed: Option<Arc<str>>,
}

impl OperationId {
    /// Those of a request with these headers.
    pub fn of(headers: &HeaderMap) -> OperationId {
        OperationId { own: generate().into(), claimed: claimed_trace_id(headers).map(Into::into) }
    }

    /// The one that its caller finds it by, in the answer and in the log.
    pub fn answered(&self) -> &str {
        self.claimed.as_deref().unwrap_or(&self.own)
    }
}

fn claimed_trace_id(headers: &HeaderMap) -> Option<String> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.split('-');
    let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let well_formed = hex(version, 2)
        && version != "ff"
        && hex(trace, 32)
        && trace.bytes().any(|b| b != b'0')
        && hex(parent, 16)
        && parent.bytes().any(|b| b != b'0')
        && hex(flags, 2)
        && (version != "00" || parts.next().is_none());
    well_formed.then(|| trace.to_owned())
}

/// A new one. Only to find a request again: it need not be hard to guess, and must not cost a
/// system call per heartbeat.
pub fn generate() -> String {
    format!("{:032x}", fastrand::u128(1..))
}
