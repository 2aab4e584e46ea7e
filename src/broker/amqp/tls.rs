//! TLS with a server that is checked, or with any: the library knows no connection that is not checked.

use std::path::Path;
use std::sync::Arc;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig, RustlsConnector};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::options::Certificates;
use crate::broker::BrokerError;

/// With a server for which somebody vouches.
///
/// # Errors
/// [`BrokerError::Refused`] when a file can't be read.
pub(super) fn checked(files: &Certificates) -> Result<OwnedTLSConfig, BrokerError> {
    let read = |path: &Path| std::fs::read_to_string(path).map_err(|error| unusable(path, error));
    let identity = match (&files.own, &files.key) {
        (Some(own), Some(key)) => Some(OwnedIdentity::PKCS8 {
            pem: read(own)?.into_bytes(),
            key: read(key)?.into_bytes(),
        }),
        _ => None,
    };
    Ok(OwnedTLSConfig {
        identity,
        cert_chain: files.ca.as_deref().map(read).transpose()?,
    })
}

/// With whatever server answers.
///
/// # Errors
/// [`BrokerError::Refused`] when our own certificate can't be used.
pub(super) fn unchecked(files: &Certificates) -> Result<RustlsConnector, BrokerError> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BrokerError::Refused(format!("TLS can't be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Unchecked(algorithms)));
    let (Some(own), Some(key)) = (&files.own, &files.key) else {
        return Ok(config.with_no_client_auth().into());
    };
    let certificates = CertificateDer::pem_file_iter(own).and_then(Iterator::collect);
    let certificates = certificates.map_err(|error| unusable(own, error))?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, error))?;
    let config = config.with_client_auth_cert(certificates, secret);
    Ok(config.map_err(|error| unusable(own, error))?.into())
}

fn unusable(path: &Path, error: impl std::fmt::Display) -> BrokerError {
    let path = path.display();
    BrokerError::Refused(format!("cannot use the certificate `{path}`: {error}"))
}

/// Takes every server for the right one.
#[derive(Debug)]
struct Unchecked(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Unchecked {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
