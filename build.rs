//! Rebuilds when a migration changes: they are embedded in the binary by a macro that cargo cannot
//! see through.

fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
