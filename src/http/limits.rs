//! How large a request may be.

/// The longest target, in bytes: four ids of the greatest length, percent-encoded, and a query.
pub const MAX_TARGET_BYTES: usize = 16 * 1024;

/// The most bytes that a body may have.
pub const BODY_LIMIT: usize = 64 * 1024;
