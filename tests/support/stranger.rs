//! Services of others, as far as adapters see them: they answer what a test wants, and tell what
//! they heard.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use client_failover::access::bearer::OidcOptions;
use serde_json::json;

use crate::support::issuer::{SigningKey, TokenIssuer};

/// A status, headers and a body.
pub type Said = (u16, String, String);

/// What an adapter can read as the answer to a heartbeat.
pub const GOOD_ANSWER: &str = r#"{"Role":0,"LastDataProcessedTime":"0001-01-01T00:00:00Z"}"#;

/// The client that [`issuer_of_tokens`] knows; its secret is `correct horse`.
pub const CLIENT_ID: &str = "adapter-7";

/// A service of others, on a port of its own, until the tests end.
pub struct Stranger {
    pub url: String,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Stranger {
    /// Answers each request, given as its method and path, its head and its body.
    pub fn start(answer: impl Fn(&str, &str, &str) -> Said + Send + 'static) -> Stranger {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let noted = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.expect("it is accepted"));
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).expect("it is text") > 0 {}
                let length = |line: &str| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok();
                let mut body = vec![0; head.lines().find_map(length).unwrap_or(0)];
                stream.read_exact(&mut body).expect("it comes");
                let body = String::from_utf8(body).expect("UTF-8");
                let request = head.lines().next().and_then(|line| line.strip_suffix(" HTTP/1.1")).unwrap_or_default();
                noted.lock().expect("nobody panics").push(format!("{request} {body}"));
                let (status, headers, body) = answer(request, &head, &body);
                let end = format!("Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                // Whoever has heard enough may be gone.
                let _ = stream.get_mut().write_all(format!("HTTP/1.1 {status} X\r\n{headers}{end}").as_bytes());
            }
        });
        Stranger { url, heard }
    }

    /// One that answers an adapter well, but for heartbeats of sessions that are registered.
    pub fn answering(heartbeat: impl Fn() -> Said + Send + 'static) -> Stranger {
        Stranger::start(move |request, _, _| match request {
            _ if request.contains("-nobody/") => (404, String::new(), String::new()),
            _ if request.ends_with("/heartbeat") => heartbeat(),
            _ if request.starts_with("DELETE") => (204, String::new(), String::new()),
            _ => (201, String::new(), "{}".to_owned()),
        })
    }

    /// The requests so far, each with its body.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("nobody panics").clone()
    }
}

/// A success with a document.
pub fn json_body(body: &str) -> Said {
    (200, "Content-Type: application/json\r\n".to_owned(), body.to_owned())
}

/// An issuer that hands out tokens.
pub struct IssuerOfTokens {
    pub stranger: Stranger,
    /// The settings of a service that believes it.
    pub options: OidcOptions,
}

/// An issuer that gives [`CLIENT_ID`] tokens by client credentials, for a client in that tenant.
pub async fn issuer_of_tokens(tenant: &'static str) -> IssuerOfTokens {
    let key = SigningKey::ec();
    // It publishes the keys, and knows what a token says.
    let issuer = TokenIssuer::start(vec![key.jwk("k")]).await;
    let options = issuer.options();
    let stranger = Stranger::start(move |request, head, body| {
        let host = head.lines().find_map(|line| line.to_lowercase().strip_prefix("host: ").map(str::to_owned));
        let url = format!("http://{}", host.unwrap_or_default());
        let form = format!(
            "grant_type=client_credentials&client_id={}&client_secret=correct%20horse",
            CLIENT_ID.replace('-', "%2D")
        );
        match request {
            "GET /.well-known/openid-configuration" => {
                let (keys, tokens) = (format!("{}/keys", issuer.url), format!("{url}/connect/token"));
                json_body(&json!({"issuer": url, "jwks_uri": keys, "token_endpoint": tokens}).to_string())
            }
            "POST /connect/token" if body == form => {
                let mut claims = issuer.claims();
                claims["iss"] = url.into();
                claims["tenant"] = tenant.into();
                let token = key.token(&json!({"alg": key.algorithm(), "kid": "k", "typ": "at+jwt"}), &claims);
                json_body(&json!({"access_token": token, "expires_in": 3_600, "token_type": "Bearer"}).to_string())
            }
            _ => (401, String::new(), r#"{"error":"invalid_client"}"#.to_owned()),
        }
    });
    IssuerOfTokens { options: OidcOptions { issuer: stranger.url.clone(), ..options }, stranger }
}
