//! TLS for those who connect to the service: a certificate, and the authority and revocations of
//! client certificates, all reread when they change. A connection keeps the certificate that it
//! began with; whether its client's is still good is asked again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, ServerConfig};
use tokio::time::Instant;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use crate::access::unix_now;
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
    /// What that authority and those beneath it have revoked (PEM, or one list in DER).
    pub client_crl: Option<PathBuf>,
}

/// The files cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("TLS with {}: {wrong}", path.display())]
pub struct TlsError {
    path: PathBuf,
    wrong: String,
}

impl TlsError {
    fn with(path: &Path) -> impl Fn(String) -> TlsError {
        move |wrong| TlsError { path: path.to_owned(), wrong }
    }
}

/// TLS as the settings want it. Shared by all workers.
#[derive(Debug)]
pub struct Tls {
    options: TlsOptions,
    certificate: Arc<CurrentCertificate>,
    trust: Option<Arc<ClientTrust>>,
    config: TlsConfig,
    provider: Arc<CryptoProvider>,
}

/// What a connection begins with: the same for all that begin at one time.
#[derive(Clone, Debug)]
pub struct TlsConfig(Arc<RwLock<Arc<ServerConfig>>>);

impl TlsConfig {
    /// The present one.
    pub fn get(&self) -> Arc<ServerConfig> {
        // Nothing panics while it holds the lock; a poisoned one is as good as new.
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[derive(Debug)]
struct CurrentCertificate {
    key: RwLock<Arc<CertifiedKey>>,
    expires_at: AtomicI64,
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.key.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Which client certificates are good: those of the present authority that are not revoked.
#[derive(Debug)]
pub struct ClientTrust {
    verifier: RwLock<Arc<dyn ClientCertVerifier>>,
    /// Rises with every change.
    generation: AtomicU64,
    /// When the first of the revocation lists is due to be followed by another, in seconds since
    /// 1970; the end of time without.
    crl_due_at: AtomicI64,
}

impl ClientTrust {
    /// Which state of the files it is.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether a client's certificate, with those between it and its authority behind it, is good
    /// now.
    pub fn verifies(&self, chain: &[CertificateDer<'_>]) -> bool {
        let verifier = self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(unix_now().unsigned_abs()));
        let Some((leaf, between)) = chain.split_first() else { return false };
        verifier.verify_client_cert(leaf, between, now).is_ok()
    }
}

impl Tls {
    /// Reads the files.
    pub fn open(options: &TlsOptions) -> Result<Tls, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let (key, expires_at) = load_certificate(options, &provider)?;
        let certificate =
            Arc::new(CurrentCertificate { key: RwLock::new(Arc::new(key)), expires_at: AtomicI64::new(expires_at) });
        let trust = load_trust(options, &provider)?;
        let config = server_config(options, &provider, &certificate, trust.as_ref())?;
        let trust = trust.map(|loaded| {
            Arc::new(ClientTrust {
                verifier: RwLock::new(loaded.verifier),
                generation: AtomicU64::new(1),
                crl_due_at: AtomicI64::new(loaded.crl_due_at),
            })
        });
        let config = TlsConfig(Arc::new(RwLock::new(Arc::new(config))));
        Ok(Tls { options: options.clone(), certificate, trust, config, provider })
    }

    /// When the certificate in use ends, in seconds since 1970.
    pub fn expires_at(&self) -> i64 {
        self.certificate.expires_at.load(Ordering::Relaxed)
    }

    /// What a server needs. Client certificates are verified where they are shown, and not
    /// demanded: probes of a load balancer have none, and who may do what is decided for each
    /// request.
    pub fn config(&self) -> TlsConfig {
        self.config.clone()
    }

    /// Which client certificates are good, where there are to be any.
    pub fn client_trust(&self) -> Option<Arc<ClientTrust>> {
        self.trust.clone()
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
            // A pair that does not fit is half of a change: it is tried again until it does. One
            // thing that is broken does not keep a change of the other out.
            let certificate = if found.pair == in_force.pair {
                Ok(())
            } else {
                self.reread_certificate().map(|()| in_force.pair = found.pair)
            };
            let trust = if found.trust == in_force.trust {
                Ok(())
            } else {
                self.reread_trust().map(|()| in_force.trust = found.trust)
            };
            match certificate.and(trust) {
                Ok(()) => {
                    said.clear();
                    warned_at = None;
                }
                Err(error) => {
                    let error = error.to_string();
                    if error != said {
                        tracing::error!("{error}; what was there before stays in force");
                        said = error;
                    }
                }
            }
        }
    }

    fn reread_certificate(&self) -> Result<(), TlsError> {
        let (key, expires_at) = load_certificate(&self.options, &self.provider)?;
        *self.certificate.key.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
        self.certificate.expires_at.store(expires_at, Ordering::Relaxed);
        metrics::certificate_expires_at(expires_at);
        tracing::info!(file = %self.options.certificate.display(), "certificate reread");
        Ok(())
    }

    fn reread_trust(&self) -> Result<(), TlsError> {
        let loaded = load_trust(&self.options, &self.provider)?;
        // A whole new one: with the one before go its sessions, which could be resumed past the new
        // verifier.
        let config = server_config(&self.options, &self.provider, &self.certificate, loaded.as_ref())?;
        *self.config.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        if let (Some(trust), Some(loaded)) = (&self.trust, loaded) {
            *trust.verifier.write().unwrap_or_else(PoisonError::into_inner) = loaded.verifier;
            trust.crl_due_at.store(loaded.crl_due_at, Ordering::Relaxed);
            // After the verifier: whoever sees the new number asks the new one.
            trust.generation.fetch_add(1, Ordering::AcqRel);
            tracing::info!("authority and revocations of client certificates reread");
        }
        Ok(())
    }

    fn warn_before_the_end(&self) {
        let left_s = self.expires_at() - unix_now();
        let file = self.options.certificate.display();
        match left_s {
            ..0 => tracing::error!(%file, "the certificate has expired"),
            0..WARNED_BEFORE_S => tracing::warn!(%file, days_left = left_s / 86_400, "the certificate ends soon"),
            _ => {}
        }
        let is_due = |trust: &Arc<ClientTrust>| trust.crl_due_at.load(Ordering::Relaxed) < unix_now();
        if let Some(file) = &self.options.client_crl
            && self.trust.as_ref().is_some_and(is_due)
        {
            tracing::warn!(file = %file.display(), "a revocation list is older than its authority means it to be");
        }
    }
}

/// By what changes of the files are noticed.
type Version = Option<(Option<SystemTime>, u64, u64)>;

#[derive(PartialEq, Eq)]
struct Versions {
    pair: [Version; 2],
    trust: [Version; 2],
}

fn versions(options: &TlsOptions) -> Versions {
    let of = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok(), metadata.len(), std::os::unix::fs::MetadataExt::ino(&metadata)))
    };
    Versions {
        pair: [of(&options.certificate), of(&options.key)],
        trust: [&options.client_ca, &options.client_crl].map(|path| path.as_ref().and_then(of)),
    }
}

fn server_config(
    options: &TlsOptions,
    provider: &Arc<CryptoProvider>,
    certificate: &Arc<CurrentCertificate>,
    trust: Option<&LoadedTrust>,
) -> Result<ServerConfig, TlsError> {
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(|error| TlsError::with(&options.certificate)(error.to_string()))?;
    let config = match trust {
        None => config.with_no_client_auth(),
        Some(loaded) => config.with_client_cert_verifier(loaded.verifier.clone()),
    };
    let mut config = config.with_cert_resolver(certificate.clone());
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

struct LoadedTrust {
    verifier: Arc<dyn ClientCertVerifier>,
    crl_due_at: i64,
}

fn load_trust(options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Option<LoadedTrust>, TlsError> {
    let Some(path) = &options.client_ca else { return Ok(None) };
    let fault = TlsError::with(path);
    let mut roots = RootCertStore::empty();
    for root in read_certificates(path)? {
        roots.add(root).map_err(|error| fault(error.to_string()))?;
    }
    let lists = options.client_crl.as_deref().map(read_revocations).transpose()?.unwrap_or_default();
    let due_at = |list: &CertificateRevocationListDer<'_>| {
        let (_, list) = CertificateRevocationList::from_der(list).ok()?;
        Some(list.next_update()?.timestamp())
    };
    let crl_due_at = lists.iter().filter_map(due_at).min().unwrap_or(i64::MAX);
    // Where there are lists, each authority of a chain needs one: what cannot be told counts as
    // revoked. One that is past its time still counts: to refuse everybody because an authority is
    // late would take every Primary away.
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        .with_crls(lists)
        .build()
        .map_err(|error| fault(error.to_string()))?;
    Ok(Some(LoadedTrust { verifier, crl_due_at }))
}

fn read_revocations(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let fault = TlsError::with(path);
    let bytes = fs::read(path).map_err(|error| fault(error.to_string()))?;
    let lists: Vec<_> = CertificateRevocationListDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| fault(error.to_string()))?;
    match lists.is_empty() {
        false => Ok(lists),
        true if CertificateRevocationList::from_der(&bytes).is_ok() => Ok(vec![bytes.into()]),
        true => Err(fault("it holds no certificate revocation list".to_owned())),
    }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = TlsError::with(path);
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))?;
    let certificates: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| fault(error.to_string()))?;
    if certificates.is_empty() { Err(fault("it holds no certificate in PEM".to_owned())) } else { Ok(certificates) }
}

/// The certificate with its key, and when it ends.
fn load_certificate(options: &TlsOptions, provider: &CryptoProvider) -> Result<(CertifiedKey, i64), TlsError> {
    let chain = read_certificates(&options.certificate)?;
    let fault = TlsError::with(&options.certificate);
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
