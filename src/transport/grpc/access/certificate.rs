//! What op-dbus needs to know of a certificate: which names it bears and when it holds. Whether it is
//! genuine is rustls's to verify.

use std::time::SystemTime;

use x509_cert::Certificate as Parsed;
use x509_cert::crl::CertificateList;
use x509_cert::der::Decode as _;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::call::CertificateName;

/// A certificate.
#[derive(Debug)]
pub(in crate::transport::grpc) struct Certificate {
    names: Vec<CertificateName>,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Certificate {
    /// Reads one in DER.
    ///
    /// # Errors
    /// A text if it is none.
    pub(in crate::transport::grpc) fn read(der: &[u8]) -> Result<Self, String> {
        let broken = |error| format!("is no X.509 certificate: {error}");
        let certificate = Parsed::from_der(der).map_err(broken)?.tbs_certificate;
        let names = certificate.get::<SubjectAltName>().map_err(broken)?;
        let names = names.map_or_else(Vec::new, |(_, names)| names.0);
        Ok(Self {
            names: names.into_iter().filter_map(name).collect(),
            not_before: certificate.validity.not_before.to_system_time(),
            not_after: certificate.validity.not_after.to_system_time(),
        })
    }

    /// The names that a user can be found by.
    pub(in crate::transport::grpc) fn names(&self) -> &[CertificateName] {
        &self.names
    }

    /// Checks that it holds now.
    ///
    /// # Errors
    /// What is wrong with its time.
    pub(in crate::transport::grpc) fn holds(&self) -> Result<(), &'static str> {
        let now = SystemTime::now();
        match () {
            () if now < self.not_before => Err("is not valid yet"),
            () if now > self.not_after => Err("has expired"),
            () => Ok(()),
        }
    }
}

/// Checks a list of revoked certificates in DER: that it is one, and that its issuer does not have to have
/// followed it up with another by now. Whose it is, is rustls's to verify.
///
/// # Errors
/// A text if it is none, or if it is out of date.
pub(super) fn check_revocations(der: &[u8]) -> Result<(), String> {
    let list = CertificateList::from_der(der);
    let list = list.map_err(|error| format!("is no list of revoked certificates: {error}"))?;
    let list = list.tbs_cert_list;
    let now = SystemTime::now();
    match list.next_update {
        _ if now < list.this_update.to_system_time() => Err("is not valid yet".to_owned()),
        Some(next) if now <= next.to_system_time() => Ok(()),
        Some(_) => Err("is out of date; its issuer has a newer one".to_owned()),
        None => Err("does not say until when it holds (nextUpdate)".to_owned()),
    }
}

/// A name of a kind that rules know, unless it has characters that no such name has.
#[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds of names find no user")]
fn name(name: GeneralName) -> Option<CertificateName> {
    let text = |text: &str| {
        let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| text.to_owned())
    };
    match name {
        GeneralName::DnsName(name) => text(name.as_str()).map(CertificateName::Dns),
        GeneralName::UniformResourceIdentifier(name) => {
            text(name.as_str()).map(CertificateName::Uri)
        }
        _ => None,
    }
}
