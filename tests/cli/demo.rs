//! The demo, run as a newcomer runs it.

use crate::support::program::{program, run};

#[tokio::test]
async fn the_demo_shows_two_takeovers_and_that_the_promise_held() {
    let mut command = program();
    command.args(["demo", "--plain", "--timeout", "1s"]);
    // As in an image without certificate authorities.
    command.env("SSL_CERT_FILE", "/nonexistent/file").env("SSL_CERT_DIR", "/nonexistent/dir");
    let output = run(command).await.ok();
    for said in ["is killed", "0 overlaps", "Each grant has the next term: 1, 2, 3.", "The promise held."] {
        assert!(output.contains(said), "'{said}' is not in\n{output}");
    }
    // Whichever standby is the next to heartbeat after the lapse.
    let took_over = ["B", "C"]
        .map(|standby| output.contains(&format!("A → {standby}")) && output.contains(&format!("{standby} → A")));
    assert!(took_over[0] != took_over[1], "{output}");
}
