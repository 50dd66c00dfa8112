//! Tests that need a tool say so, and are *ignored* where it is missing, with the reason:
//!
//! ```ignore
//! #[needs("haproxy")]
//! #[tokio::test]
//! async fn two_replicas_stand_behind_it() {}
//! ```
//!
//! Where CI is set nothing is skipped for want of a tool: such a test fails. It fails as well where
//! somebody runs it although it is ignored. Tools are looked for when this is built (`build.rs`),
//! in the folders of `API_TOOLS` and of the path: a test cannot be ignored once it runs.

mod missing;
mod table;

use proc_macro::{Delimiter, Group, TokenStream, TokenTree};

/// Names what a test needs: programs of the table in `src/table.rs`, and `root`.
#[proc_macro_attribute]
pub fn needs(names: TokenStream, test: TokenStream) -> TokenStream {
    let mut needed = Vec::new();
    for token in names {
        match token {
            TokenTree::Literal(name) => needed.push(name.to_string().trim_matches('"').to_owned()),
            TokenTree::Punct(comma) if comma.as_char() == ',' => {}
            other => return error(&format!("`{other}` is no name of a tool")),
        }
    }
    if let Some(unknown) = needed.iter().find(|name| !missing::is_known(name)) {
        return error(&format!("`{unknown}` is not in crates/workshop/src/table.rs"));
    }
    let Some(missing) = missing::of(&needed) else { return test };
    let mut tokens: Vec<TokenTree> = test.into_iter().collect();
    let Some(TokenTree::Group(body)) = tokens.pop() else { return error("a test is a function") };
    // Not known to be true, so that what follows is not unreachable.
    let check = parse(&format!("if ::std::hint::black_box(true) {{ panic!({:?}) }}", missing.reason));
    let mut checked = Group::new(Delimiter::Brace, check.into_iter().chain(body.stream()).collect());
    checked.set_span(body.span());
    let ignored =
        if missing.is_skipped { parse(&format!("#[ignore = {:?}]", missing.reason)) } else { TokenStream::new() };
    ignored.into_iter().chain(tokens).chain([TokenTree::Group(checked)]).collect()
}

fn error(why: &str) -> TokenStream {
    parse(&format!("compile_error!({why:?});"))
}

fn parse(code: &str) -> TokenStream {
    code.parse().expect("it is written here, and is Rust")
}
