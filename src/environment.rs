//! What is in the environment and must not reach us.

/// Settings of a database's session that were meant for others in the same shell. Ours must be the
/// ones that the service relies on; further ones are given in the URL. sqlx has no other way to
/// leave this variable aside. To be called first of all, before there is a second thread.
#[allow(unsafe_code, reason = "the environment has no safe way to lose a variable")]
pub fn forget_session_settings() {
    // SAFETY: this is the first thing that a program of ours does, and it has no other thread yet.
    unsafe { std::env::remove_var("PGOPTIONS") }
}
