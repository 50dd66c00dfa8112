//! The library for clients (`crates/client`) with a service over real sockets: what its users are
//! promised.

mod agent;
mod conformance;
mod examples;
mod member;

#[test]
fn the_page_for_clients_has_the_program_that_is_compiled() {
    const PAGE: &str = include_str!("../../docs/clients.md");
    const PROGRAM: &str = include_str!("../../crates/client/examples/sender.rs");
    let shown = PAGE.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).expect("it is there");
    let (_, program) = PROGRAM.split_once("\n\n").expect("a sentence before it");
    assert_eq!(shown, program);
}
