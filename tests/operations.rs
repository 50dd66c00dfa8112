//! What docs/operations.md says is true.
