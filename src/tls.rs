//! TLS for those who connect to the service: a certificate that is reread when it changes, and the verification of
//! client certificates. Connections that are open keep what they began with.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio::time::Instant;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::auth::unix_now;
use crate::metrics;

/// How often the files are looked at for changes.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// How long before its end a certificate is warned about, and how often.
const WARNED_BEFORE_S: i64 = 30 * 24 * 3_600;
const WARNED_EVERY: Duration = Duration::from_secs(24 * 3_600);

/// The files.
#[derive(Clone, Debug)]
pub struct TlsOptions {
    /// The service's certificate and those between it and its authority (PEM).
    pub certificate: PathBuf,
    /// Its private key (PEM).
    pub key: PathBuf,
    /// The authority of client certificates (PEM), where there are to be any.
    pub client_ca: Option<PathBuf>,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS with {}: {wrong}", path.display())]
pub struct TlsError {
    path: PathBuf,
    wrong: String,
}

/// TLS as the settings want it. Shared by all workers.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    certificate: Arc<CurrentCertificate>,
    provider: Arc<CryptoProvider>,
}

#[derive(Debug)]
struct CurrentCertificate {
    key: RwLock<Arc<CertifiedKey>>,
    expires_at: AtomicI64,
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Tls {
    /// Reads the files.
    pub fn open(options: &TlsOptions) -> Result<Tls, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (key, expires_at) = load(options, &provider)?;
        let certificate =
            Arc::new(CurrentCertificate { key: RwLock::new(Arc::new(key)), expires_at: AtomicI64::new(expires_at) });
        Ok(Tls { options: options.clone(), certificate, provider })
    }

    /// When the certificate in use ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.certificate.expires_at.load(Ordering::Relaxed)
    }

    /// What a server needs. Client certificates are verified where they are shown, and not demanded: probes of a
    /// load balancer have none, and who may do what is decided for each request.
    pub fn server_config(&self) -> Result<ServerConfig, TlsError> {
        let fault = |wrong: String| TlsError { path: self.options.certificate.clone(), wrong };
        let config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|error| fault(error.to_string()))?;
        let config = match &self.options.client_ca {
            None => config.with_no_client_auth(),
            Some(path) => {
                let fault = |wrong: String| TlsError { path: path.clone(), wrong };
                let mut roots = RootCertStore::empty();
                for root in read_certificates(path)? {
                    roots.add(root).map_err(|error| fault(error.to_string()))?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), self.provider.clone())
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| fault(error.to_string()))?;
                config.with_client_cert_verifier(verifier)
            }
        };
        Ok(config.with_cert_resolver(self.certificate.clone()))
    }

    /// Follows changes of the files for ever, and warns before the certificate ends.
    pub async fn keep_up(&self) {
        let mut in_force = versions(&self.options);
        let mut said = String::new();
        let mut warned_at: Option<Instant> = None;
        metrics::certificate_expires_at(self.expires_at());
        loop {
            if warned_at.is_none_or(|at| at.elapsed() >= WARNED_EVERY) {
                self.warn_before_the_end();
                warned_at = Some(Instant::now());
            }
            tokio::time::sleep(LOOKED_AT_EVERY).await;
            let found = versions(&self.options);
            if found == in_force {
                continue;
            }
            // A pair that does not fit is half of a change: it is tried again until it does.
            match load(&self.options, &self.provider) {
                Ok((key, expires_at)) => {
                    *self.certificate.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
                    self.certificate.expires_at.store(expires_at, Ordering::Relaxed);
                    metrics::certificate_expires_at(expires_at);
                    tracing::info!(file = %self.options.certificate.display(), "certificate reread");
                    in_force = found;
                    said.clear();
                    warned_at = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::error!("{error}; the certificate before stays in force");
                        said = error;
                    }
                }
            }
        }
    }

    fn warn_before_the_end(&self) {
        let left_s = self.expires_at() - unix_now();
        let file = self.options.certificate.display();
        match left_s {
            ..0 => tracing::error!(%file, "the certificate has expired"),
            0..WARNED_BEFORE_S => tracing::warn!(%file, days_left = left_s / 86_400, "the certificate ends soon"),
            _ => {}
        }
    }
}

/// By what changes of the two files are noticed.
fn versions(options: &TlsOptions) -> [Option<(Option<SystemTime>, u64, u64)>; 2] {
    [&options.certificate, &options.key].map(|path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok(), metadata.len(), std::os::unix::fs::MetadataExt::ino(&metadata)))
    })
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |wrong: String| TlsError { path: path.to_owned(), wrong };
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| fault(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(fault("it holds no certificate in PEM".to_owned())),
        false => Ok(certificates),
    }
}

/// The certificate with its key, and when it ends.
fn load(options: &TlsOptions, provider: &CryptoProvider) -> Result<(CertifiedKey, i64), TlsError> {
    let chain = read_certificates(&options.certificate)?;
    let fault = |wrong: String| TlsError { path: options.certificate.clone(), wrong };
    let expires_at = match X509Certificate::from_der(&chain[0]) {
        Ok((_, certificate)) => certificate.validity().not_after.timestamp(),
        Err(error) => return Err(fault(error.to_string())),
    };
    let key = PrivateKeyDer::from_pem_file(&options.key)
        .map_err(|error| TlsError { path: options.key.clone(), wrong: error.to_string() })?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| fault(format!("with the key in {}: {error}", options.key.display())))?;
    Ok((key, expires_at))
}
