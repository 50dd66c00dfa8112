//! What to do about a connection that cannot be had, where the error itself does not say it.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};

/// An error of a connection, with what can be done about it.
pub fn explained(error: &sqlx::Error) -> String {
    match advice(error) {
        Some(advice) => format!("{error}: {advice}"),
        None => error.to_string(),
    }
}

fn advice(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Database(said) => of_server(&said.code().unwrap_or_default(), said.message()),
        sqlx::Error::Tls(cause) => of_tls(cause.as_ref()),
        sqlx::Error::Io(cause) => of_tls(cause.get_ref()?),
        _ => None,
    }
}

fn of_tls(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    let Some(error) = find_rustls(cause) else {
        let no_tls = cause.to_string().contains("does not support TLS");
        return no_tls.then_some(
            "the server speaks no TLS, which sslmode in the URL (or PGSSLMODE) asks for: turn it on there (ssl = on), or give sslmode=disable where the line is safe",
        );
    };
    Some(match error {
        rustls::Error::InvalidCertificate(fault) => of_certificate(fault),
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown,
        ) => {
            "the server refuses our certificate, or wants one: give one of its authority as sslcert and sslkey in the URL"
        }
        rustls::Error::AlertReceived(_) => {
            "the server broke off TLS: its log says why; TLS 1.2 is the oldest that is spoken here"
        }
        rustls::Error::InvalidMessage(_) => "what answers at that port speaks no TLS: look at host and port",
        rustls::Error::PeerIncompatible(_) => {
            "the server's TLS is too old: TLS 1.2 is the oldest that is spoken here (ssl_min_protocol_version, and its certificate's kind of key)"
        }
        _ => return None,
    })
}

fn of_certificate(fault: &CertificateError) -> &'static str {
    match fault {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired: renew it, and have the server reload it"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet: look at the clocks of both machines"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "the server's certificate is for another name: connect by one that it has, or give sslmode=verify-ca in the URL"
        }
        // A bad signature is that of an authority with the same name and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is of an authority that is not believed: give that as sslrootcert in the URL (or PGSSLROOTCERT)"
        }
        CertificateError::Revoked => "the server's certificate was revoked: it needs another",
        _ => {
            "the server's certificate cannot be read here; one of version 1 (old self-signed ones are) never can. Give the server one of version 3 with its name in it, or, where the line is safe, sslmode=disable in the URL"
        }
    }
}

/// What a server says while a connection is opened: invalid_authorization_specification covers most
/// of it.
fn of_server(code: &str, message: &str) -> Option<&'static str> {
    match code {
        "28000" if message.contains("valid client certificate") => {
            Some("give a certificate of the server's authority as sslcert and sslkey in the URL")
        }
        "28000" if message.contains("no encryption") => Some(
            "the server takes no connection like this without TLS: give sslmode=require in the URL, or a line in its pg_hba.conf",
        ),
        "28000" if message.contains("no pg_hba.conf entry") => {
            Some("the server's pg_hba.conf has no line for this account, database and address")
        }
        "28P01" => Some(
            "the password in the URL, in PGPASSWORD, or in the file of database-password-file is not this account's",
        ),
        "3D000" => Some("create it: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"),
        _ => None,
    }
}

/// The TLS library's own error, however deep it is wrapped.
fn find_rustls<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An error of input and output hides what it holds from its source.
        next = match error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}
