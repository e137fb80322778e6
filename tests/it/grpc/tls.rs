//! TLS: who a client is by its certificate, what is said to those who cannot be known, what a reload
//! changes, and that handshakes which never end hold nobody up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::call::{Attested, Caller, CertificateName as Name, Identity, Scope};
use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use op_dbus::transport::grpc::NewToken;
use op_dbus::transport::grpc::{
    Access, CertificateRule, ClientCertificates, Config, Rules, TlsRules,
};
use rcgen::date_time_ymd;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tonic::transport::{ClientTlsConfig, Endpoint};
use tonic::{Code, Status};

use super::callers::free_port;
use super::calls::{Heard, listening};
use super::certificates::{Authority, Issued, write};
use super::tokens::{rule, with};
use super::{Client, PING, check_error, config, eventually};

/// A transport on a Unix socket and with TLS.
struct Secured {
    folder: TempDir,
    authority: Authority,
    rules: Rules,
    address: SocketAddr,
    heard: Heard,
}

impl Secured {
    /// With these rules for clients, changed by `change`.
    async fn start(clients: Vec<CertificateRule>, change: impl FnOnce(&mut Rules)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let [certificate, key] = authority.server().write(folder.path(), "server");
        let tls = TlsRules {
            certificate,
            key,
            client_ca: Some(write(folder.path(), "ca.pem", &authority.pem())),
            client_crls: Vec::new(),
            client_certificates: ClientCertificates::Required,
            clients,
            allow_tls12: false,
            handshake_timeout: Duration::from_secs(20),
            max_handshakes: 64,
        };
        let mut rules = Rules { tokens: Vec::new(), tls: Some(tls) };
        change(&mut rules);
        let address = SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")));
        let config = Config {
            tls: Some(address),
            access: Access::load(&rules).unwrap(),
            ..config(&folder.path().join("grpc.sock"))
        };
        let heard = listening(config).await;
        Self { folder, authority, rules, address, heard }
    }

    async fn connect(&self, tls: ClientTlsConfig) -> Result<Client, String> {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        let connecting = endpoint.tls_config(tls).unwrap().connect().await;
        connecting.map(Client).map_err(|error| format!("{error:?}"))
    }

    /// Who the last call was made by.
    fn caller(&self) -> Arc<Caller> {
        Arc::clone(&self.heard.contexts.lock().unwrap().last().unwrap().caller)
    }
}

fn client_rule(name: Name, user: &str) -> CertificateRule {
    CertificateRule { name, user: user.to_owned(), scope: None }
}

fn uri(text: &str) -> Name {
    Name::Uri(text.to_owned())
}

async fn ping(client: &Client) -> Result<PingResponse, Status> {
    client.call(PING, PingRequest::default()).await
}

#[tokio::test]
async fn a_client_is_the_user_of_the_first_rule_that_covers_its_certificate() {
    let scope = Scope::new(&["agents.ping".to_owned()], &[]).unwrap().map(Arc::new);
    let rules = vec![
        CertificateRule {
            scope: scope.clone(),
            ..client_rule(uri("spiffe://example.org/ci/nightly"), "2001")
        },
        client_rule(uri("spiffe://example.org/ci/*"), "2002"),
        client_rule(Name::Dns("Build.example.org".to_owned()), "2003"),
    ];
    let secured = Secured::start(rules, |_| {}).await;
    for (names, uid, known_as) in [
        (vec!["spiffe://example.org/ci/nightly"], 2001, "spiffe://example.org/ci/nightly"),
        (vec!["spiffe://example.org/ci/a/b"], 2002, "spiffe://example.org/ci/a/b"),
        (vec!["other.example.org", "build.example.org"], 2003, "build.example.org"),
        (vec!["build.example.org", "spiffe://example.org/ci/x"], 2002, "spiffe://example.org/ci/x"),
    ] {
        let own = secured.authority.issue(&names, |_| {});
        let client = secured.connect(secured.authority.client(Some(&own))).await.unwrap();
        ping(&client).await.unwrap();
        let caller = secured.caller();
        assert_eq!(caller.identity, Identity::User { uid, gid: None });
        assert_eq!(caller.attested, Attested::Certificate(known_as.into()));
        assert!(!caller.attested.is_local());
        assert!(caller.address.starts_with("tcp:127.0.0.1:"), "{}", caller.address);
        assert_eq!((&caller.groups, caller.pid), (&None, None), "of the far machine nothing");
        assert_eq!(caller.scope, if uid == 2001 { scope.clone() } else { None });
    }
    let addresses = secured.heard.status.report().transports[0].addresses.clone();
    assert!(addresses.contains(&format!("https://{}", secured.address)), "{addresses:?}");
}

#[tokio::test]
async fn a_client_that_cannot_be_known_is_told_why() {
    let rules = vec![client_rule(uri("spiffe://example.org/chat"), "2001")];
    let secured = Secured::start(rules, |_| {}).await;
    let name = ["spiffe://example.org/chat"];
    let authority = &secured.authority;
    let expired = authority.issue(&name, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let early = authority.issue(&name, |params| params.not_before = date_time_ymd(4000, 1, 1));
    let stranger = Authority::new().issue(&name, |_| {});
    for (own, alert) in [
        (Some(&expired), "CertificateExpired"),
        (Some(&early), "CertificateExpired"),
        (Some(&stranger), "UnknownCA"),
        (None, "CertificateRequired"),
    ] {
        // The client has shaken hands before the server has seen its certificate.
        let mut stream = shake(&secured, &TLS13, own).await.unwrap();
        let problem = stream.read(&mut [0; 1]).await.unwrap_err().to_string();
        assert!(problem.contains(alert), "{alert}: {problem}");
        if let Ok(client) = secured.connect(authority.client(own)).await {
            ping(&client).await.unwrap_err();
        }
    }
    let unmapped = authority.issue(&["spiffe://example.org/other"], |_| {});
    let client = secured.connect(authority.client(Some(&unmapped))).await.unwrap();
    let refused = ping(&client).await;
    let text = refused.as_ref().unwrap_err().message().to_owned();
    check_error(refused, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(text.contains("bears no name that [[tls.client]] gives to a user"), "{text}");

    let of_another = Authority::new().client(None);
    let problem = secured.connect(of_another).await.err().unwrap();
    assert!(problem.contains("UnknownIssuer"), "the client does not know the server: {problem}");
    Endpoint::from_shared(format!("http://{}", secured.address)).unwrap().connect().await.ok();
    assert!(secured.heard.contexts.lock().unwrap().is_empty());
}

#[tokio::test]
async fn where_certificates_are_optional_a_token_does() {
    let token = NewToken::make("ci").unwrap();
    let secured = Secured::start(Vec::new(), |rules| {
        rules.tokens = vec![rule("ci", &token)];
        rules.tls.as_mut().unwrap().client_certificates = ClientCertificates::Optional;
    })
    .await;
    let client = secured.connect(secured.authority.client(None)).await.unwrap();
    let refused = ping(&client).await;
    let text = refused.as_ref().unwrap_err().message().to_owned();
    check_error(refused, Code::Unauthenticated, "UNAUTHENTICATED");
    assert!(text.contains("no certificate; send a token"), "{text}");
    let request = with(&token.text, PingRequest::default());
    client.request::<_, PingResponse>(PING, request).await.unwrap();
    assert_eq!(secured.caller().attested, Attested::Token("ci".into()));
    // An authority that signs no client's certificate is not needed.
    let mut rules = secured.rules.clone();
    rules.tls.as_mut().unwrap().client_ca = None;
    secured.heard.server.replace_access(Access::load(&rules).unwrap());
    let client = secured.connect(secured.authority.client(None)).await.unwrap();
    let request = with(&token.text, PingRequest::default());
    client.request::<_, PingResponse>(PING, request).await.unwrap();
}

#[tokio::test]
async fn a_reload_asks_clients_to_be_known_anew() {
    let rules = vec![client_rule(uri("spiffe://example.org/chat"), "2001")];
    let secured = Secured::start(rules, |_| {}).await;
    let own = secured.authority.issue(&["spiffe://example.org/chat"], |_| {});
    let client = secured.connect(secured.authority.client(Some(&own))).await.unwrap();
    ping(&client).await.unwrap();

    // Another certificate of the server, and another user for the client.
    let mut rules = secured.rules.clone();
    let next = Authority::new();
    let tls = rules.tls.as_mut().unwrap();
    [tls.certificate, tls.key] = next.server().write(secured.folder.path(), "next");
    tls.clients[0].user = "2009".to_owned();
    secured.heard.server.replace_access(Access::load(&rules).unwrap());
    eventually("the old connection ends", async || ping(&client).await.is_err()).await;
    let problem = secured.connect(secured.authority.client(Some(&own))).await.err().unwrap();
    assert!(problem.contains("UnknownIssuer"), "{problem}");
    let own_at_next = {
        let tls = next.client(None);
        tls.identity(tonic::transport::Identity::from_pem(&own.certificate, &own.key))
    };
    let client = secured.connect(own_at_next).await.unwrap();
    ping(&client).await.unwrap();
    assert_eq!(secured.caller().uid(), Some(2009));
}

#[tokio::test]
async fn what_is_loaded_is_checked_before_it_is_used() {
    let secured = Secured::start(Vec::new(), |_| {}).await;
    let (folder, authority) = (secured.folder.path(), &secured.authority);
    let check = |setting: &str, problem: &str, change: &dyn Fn(&mut TlsRules)| {
        let mut rules = secured.rules.clone();
        change(rules.tls.as_mut().unwrap());
        let error = Access::load(&rules).unwrap_err();
        assert_eq!(error.fact("field"), Some(setting), "{error}");
        assert!(error.message().contains(problem), "{error}");
    };
    let other = authority.server().write(folder, "other");
    check("tls.key", "does not belong to tls.certificate", &|tls| tls.key = other[1].clone());
    let old =
        authority.issue(&["localhost"], |params| params.not_after = date_time_ymd(2020, 1, 1));
    let old = old.write(folder, "old");
    check("tls.certificate", "has expired", &|tls| [tls.certificate, tls.key] = old.clone());
    let early = authority.issue(&["localhost"], |it| it.not_before = date_time_ymd(4000, 1, 1));
    let early = early.write(folder, "early");
    check("tls.certificate", "is not valid yet", &|tls| [tls.certificate, tls.key] = early.clone());
    let text = write(folder, "text.pem", "no PEM at all");
    check("tls.certificate", "holds no PEM certificate", &|tls| tls.certificate = text.clone());
    check("tls.key", "holds no PEM key", &|tls| tls.key = text.clone());
    check("tls.client_ca", "holds no PEM certificate", &|tls| tls.client_ca = Some(text.clone()));
    check("tls.client_crls", "holds no PEM revocation list", &|tls| {
        tls.client_crls = vec![text.clone()];
    });
    let outdated = write(folder, "outdated.pem", &authority.revoke(&[], 2025));
    check("tls.client_crls", "is out of date", &|tls| tls.client_crls = vec![outdated.clone()]);
    let missing = folder.join("missing.pem");
    check("tls.client_crls", "cannot be read", &|tls| tls.client_crls = vec![missing.clone()]);
    check("tls.certificate", "cannot be read", &|tls| tls.certificate = missing.clone());
    let open = authority.server().write(folder, "open");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&open[1], mode).unwrap();
    check("tls.key", "every user of this machine", &|tls| {
        [tls.certificate, tls.key] = open.clone()
    });
    check("tls.client.user", "root", &|tls| tls.clients = vec![client_rule(uri("a://b"), "0")]);
    check("tls.client.user", "no user", &|tls| {
        tls.clients = vec![client_rule(uri("a://b"), "no-such-user-here")];
    });
}

#[tokio::test]
async fn a_revoked_certificate_is_nobodys_from_the_reload_on() {
    let rules = vec![client_rule(uri("spiffe://example.org/*"), "2001")];
    let secured = Secured::start(rules, |_| {}).await;
    let (folder, authority) = (secured.folder.path(), &secured.authority);
    let [lost, kept] = [7_u64, 8].map(|serial| {
        let name = format!("spiffe://example.org/{serial}");
        authority.issue(&[&name], |params| params.serial_number = Some(serial.into()))
    });
    let client = secured.connect(authority.client(Some(&lost))).await.unwrap();
    ping(&client).await.unwrap();

    let mut rules = secured.rules.clone();
    let list = write(folder, "revoked.pem", &authority.revoke(&[7], 2040));
    rules.tls.as_mut().unwrap().client_crls = vec![list];
    secured.heard.server.replace_access(Access::load(&rules).unwrap());
    eventually("the connection that was there ends", async || ping(&client).await.is_err()).await;
    let mut stream = shake(&secured, &TLS13, Some(&lost)).await.unwrap();
    let problem = stream.read(&mut [0; 1]).await.unwrap_err().to_string();
    assert!(problem.contains("CertificateRevoked"), "{problem}");
    let client = secured.connect(authority.client(Some(&kept))).await.unwrap();
    ping(&client).await.unwrap();

    // A list of somebody else's says nothing of this authority's certificates.
    let list = write(folder, "other.pem", &Authority::new().revoke(&[], 2040));
    rules.tls.as_mut().unwrap().client_crls = vec![list];
    secured.heard.server.replace_access(Access::load(&rules).unwrap());
    eventually("the connection that was there ends", async || ping(&client).await.is_err()).await;
    let mut stream = shake(&secured, &TLS13, Some(&kept)).await.unwrap();
    stream.read(&mut [0; 1]).await.unwrap_err();
}

/// Shakes hands as a client that speaks one version of TLS.
async fn shake(
    secured: &Secured,
    version: &'static SupportedProtocolVersion,
    own: Option<&Issued>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(secured.authority.pem().as_bytes()).unwrap();
    roots.add(root).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let chain = vec![CertificateDer::from_pem_slice(own.certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let stream = TcpStream::connect(secured.address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn the_versions_of_tls_are_those_that_are_configured() {
    for allow_tls12 in [false, true] {
        let secured = Secured::start(Vec::new(), |rules| {
            let tls = rules.tls.as_mut().unwrap();
            tls.allow_tls12 = allow_tls12;
            tls.client_certificates = ClientCertificates::Optional;
        })
        .await;
        let stream = shake(&secured, &TLS13, None).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(b"h2".as_slice()));
        assert_eq!(shake(&secured, &TLS12, None).await.is_ok(), allow_tls12);
    }
}

#[tokio::test]
async fn handshakes_that_never_end_hold_nobody_up() {
    let rules = vec![client_rule(uri("spiffe://example.org/chat"), "2001")];
    let secured = Secured::start(rules, |rules| {
        rules.tls.as_mut().unwrap().handshake_timeout = Duration::from_secs(10);
    })
    .await;
    // Places for handshakes and for connections are so few that any that is held would show.
    let mut half_open = Vec::new();
    for _ in 0..1000 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        half_open.push(socket.connect(secured.address).await.unwrap());
    }
    let path = secured.folder.path().join("grpc.sock");
    Client::unix(&path).await.ping().await;
    let own = secured.authority.issue(&["spiffe://example.org/chat"], |_| {});
    let client = secured.connect(secured.authority.client(Some(&own))).await.unwrap();
    ping(&client).await.unwrap();

    // One address has a quarter of 64; the rest is closed at once, and those after their time.
    let mut closed = 0;
    for stream in &mut half_open {
        let mut byte = [0; 1];
        let reading = tokio::time::timeout(Duration::from_millis(1), stream.read(&mut byte));
        closed += usize::from(matches!(reading.await, Ok(Ok(0) | Err(_))));
    }
    assert!(closed >= 1000 - 16, "{closed}");
    let last = half_open.iter_mut().map(|stream| async { stream.read(&mut [0; 1]).await.is_ok() });
    let ended = tokio::time::timeout(Duration::from_secs(60), futures_util::future::join_all(last));
    assert_eq!(ended.await.unwrap().len(), 1000);
    ping(&client).await.unwrap();
}
