//! How a receiver knows that a message is ours, and new: a signature over its id, its time and its
//! body, as <https://www.standardwebhooks.com> has it, so that libraries for many languages check
//! it.

use aws_lc_rs::hmac::{Context, HMAC_SHA256, Key};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// What a secret begins with whose key is written in Base64.
const IN_BASE64: &str = "whsec_";

/// The shortest key: with less it could be guessed.
const MIN_BYTES: usize = 16;

/// The secrets that messages are signed with: while one replaces another, both.
pub struct Secrets(Vec<Key>);

impl Secrets {
    /// One a line.
    pub fn read(text: &str) -> Result<Secrets, String> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let key = |line: &str| {
            let bytes = match line.strip_prefix(IN_BASE64) {
                Some(coded) => STANDARD.decode(coded).map_err(|_| format!("what follows {IN_BASE64} is not Base64"))?,
                None => line.as_bytes().to_vec(),
            };
            match bytes.len() {
                MIN_BYTES.. => Ok(Key::new(HMAC_SHA256, &bytes)),
                _ => Err(format!("a secret is shorter than {MIN_BYTES} bytes")),
            }
        };
        let keys: Vec<Key> = lines.map(key).collect::<Result<_, String>>()?;
        if keys.is_empty() { Err("it is empty".to_owned()) } else { Ok(Secrets(keys)) }
    }

    /// The signature by each of them.
    pub fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let by = |key: &Key| {
            let mut context = Context::with_key(key);
            for part in [id, ".", &timestamp.to_string(), ".", body] {
                context.update(part.as_bytes());
            }
            format!("v1,{}", STANDARD.encode(context.sign()))
        };
        self.0.iter().map(by).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        let secrets = Secrets::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").expect("it is one");
        let signed = secrets.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn while_one_secret_replaces_another_both_sign() {
        let both = Secrets::read("a-secret-of-letters\r\n\nanother-one-of-them\n").expect("they are two");
        let signed = both.sign("a", 1, "b");
        let alone = Secrets::read("another-one-of-them").expect("it is one").sign("a", 1, "b");
        assert!(signed.ends_with(&format!(" {alone}")) && signed.matches("v1,").count() == 2, "{signed}");
    }

    #[test]
    fn what_could_be_guessed_is_no_secret() {
        for text in ["", "\n", "too-short", "whsec_AAAA", "whsec_no base64 at all, nowhere"] {
            assert!(Secrets::read(text).is_err(), "{text:?}");
        }
    }
}
