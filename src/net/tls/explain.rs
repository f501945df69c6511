//! TLS failures in one sentence each.

use rustls::{AlertDescription, CertificateError, Error};

/// What went wrong between us and `peer`; `offered` when we had a client certificate to show.
pub(crate) fn failure(error: &Error, peer: &str, offered: bool) -> String {
    match error {
        Error::InvalidCertificate(reason) => certificate(reason, peer),
        Error::AlertReceived(alert) => alert_received(*alert, peer, offered),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            format!("{peer} does not speak TLS")
        }
        Error::PeerIncompatible(_) => format!("{peer} supports no TLS version or cipher that we do"),
        Error::NoCertificatesPresented => format!("{peer} showed no certificate"),
        other => format!("TLS with {peer} failed: {other}"),
    }
}

fn certificate(reason: &CertificateError, peer: &str) -> String {
    let fault = match reason {
        CertificateError::UnknownIssuer => {
            "is signed by an authority that is not trusted; add that authority to the CA bundle"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "is not valid yet; check the clocks"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "is not valid for this host name"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "is not meant for servers"
        }
        CertificateError::Revoked => "has been revoked",
        CertificateError::BadSignature => "carries a wrong signature",
        CertificateError::BadEncoding => "is malformed",
        // webpki's word for it; its type is not at hand here.
        CertificateError::Other(other) if other.0.to_string().contains("CaUsedAsEndEntity") => {
            "is signed by itself; if you trust it, add it to the CA bundle"
        }
        other => return format!("the certificate of {peer} was not accepted: {other}"),
    };
    format!("the certificate of {peer} {fault}")
}

fn alert_received(alert: AlertDescription, peer: &str, offered: bool) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::CertificateRequired => format!("{peer} requires a client certificate"),
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA
        | Alert::AccessDenied
        | Alert::DecryptError => {
            if offered {
                format!("{peer} rejected the client certificate ({alert:?})")
            } else {
                format!("{peer} requires a client certificate ({alert:?})")
            }
        }
        Alert::ProtocolVersion => format!("{peer} supports neither TLS 1.2 nor TLS 1.3"),
        Alert::UnrecognisedName => format!("{peer} does not serve this host name over TLS"),
        Alert::NoApplicationProtocol => format!("{peer} does not offer HTTP/1.1 over TLS"),
        Alert::HandshakeFailure if !offered => {
            format!("{peer} refused the TLS handshake; it may require a client certificate")
        }
        other => format!("{peer} refused the TLS handshake ({other:?})"),
    }
}
