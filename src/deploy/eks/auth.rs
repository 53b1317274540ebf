//! Into the cluster: what EKS says of it, and the bearer token that its API server takes. The only
//! file here that calls AWS.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sdk_eks::error::ProvideErrorMetadata;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use tokio::sync::watch;

use crate::aws::{Session, allow_statement};
use crate::config::platform;
use crate::error::{Code, Error, Result, chain};
use crate::inside;

/// EKS takes a token for 15 minutes after its signing, whatever the URL in it says.
const REFRESH_AFTER: Duration = Duration::from_secs(10 * 60);
/// How long the URL in the token is good for by itself. EKS asks for 0 to 900 s; the least that
/// allows for a clock that is off.
const EXPIRES: Duration = Duration::from_secs(60);
/// A signed header, so that a token for one cluster is none for another.
const CLUSTER_HEADER: &str = "x-k8s-aws-id";

/// Where a cluster's API server is, and how to trust it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    pub name: String,
    pub region: String,
    /// `https://…`
    pub endpoint: String,
    /// PEM.
    pub ca: Vec<u8>,
    /// The name in the server's certificate, where it is reached under another one (a tunnel).
    pub server_name: Option<String>,
    pub proxy: Option<String>,
    /// The endpoint can be reached from inside the VPC only.
    pub private: bool,
}

/// Asks EKS for the cluster, and lets platform.yaml's `eks: {endpoint, ca, proxy}` override what it
/// says.
/// <https://docs.aws.amazon.com/eks/latest/APIReference/API_DescribeCluster.html>
///
/// # Errors
/// Refused when there is no such cluster, it is not ready, or the session may not ask. Bad input
/// when `ca` cannot be read.
pub async fn find_cluster(
    session: &Session,
    region: &str,
    wanted: &platform::Eks,
) -> Result<Cluster> {
    let ca = match &wanted.ca {
        Some(file) => Some(inside::read_named(file).map(String::into_bytes).map_err(|denied| {
            denied
                .into_error("read", file)
                .fix("`eks.ca` in platform.yaml names the API server's CA, a PEM file")
        })?),
        None => None,
    };
    let client = aws_sdk_eks::Client::new(session.config());
    let answer = client.describe_cluster().name(&wanted.cluster).send().await;
    let cluster = match answer {
        Ok(answer) => answer.cluster,
        Err(error) => {
            let code = error.code().unwrap_or_default().to_string();
            let why = error
                .message()
                .map_or_else(|| chain(&error), |message| format!("{code}: {message}"));
            if let ("AccessDeniedException", Some(endpoint), Some(ca)) =
                (code.as_str(), &wanted.endpoint, &ca)
            {
                // All that DescribeCluster would say is in platform.yaml already.
                return Ok(Cluster {
                    name: wanted.cluster.clone(),
                    region: region.to_string(),
                    endpoint: endpoint.to_string(),
                    ca: ca.clone(),
                    server_name: None,
                    proxy: wanted.proxy.clone(),
                    private: false,
                });
            }
            let others = if code == "ResourceNotFoundException" {
                cluster_names(&client).await
            } else {
                None
            };
            if why.contains("no providers in chain") {
                return Err(no_credentials(&why));
            }
            return Err(not_described(&wanted.cluster, region, &code, &why, others));
        }
    };
    let cluster = cluster.ok_or_else(|| {
        Error::unexpected("cannot find the EKS cluster: DescribeCluster answers without one")
    })?;
    let status = cluster.status().map(|status| status.as_str().to_string()).unwrap_or_default();
    // An update leaves the API server where it is.
    if !matches!(status.as_str(), "ACTIVE" | "UPDATING") {
        return Err(Error::refused(format!(
            "cannot use the EKS cluster {} in {region}: it is {status}",
            wanted.cluster
        ))
        .fix(format!(
            "wait for it: aws eks wait cluster-active --name {} --region {region}",
            wanted.cluster
        )));
    }
    let described = cluster.endpoint().unwrap_or_default().to_string();
    let endpoint = wanted.endpoint.as_ref().map_or(described.clone(), ToString::to_string);
    crate::http::parse_safe("the API server's endpoint", &endpoint)?;
    let ca = match ca {
        Some(ca) => ca,
        None => {
            let data = cluster.certificate_authority().and_then(|ca| ca.data()).unwrap_or_default();
            BASE64_STANDARD.decode(data).map_err(|error| {
                Error::unexpected(format!(
                    "cannot read the CA of the EKS cluster {}: it is not base64",
                    wanted.cluster
                ))
                .why(error)
            })?
        }
    };
    Ok(Cluster {
        name: wanted.cluster.clone(),
        region: region.to_string(),
        server_name: (host(&endpoint) != host(&described)).then(|| host(&described)).flatten(),
        endpoint,
        ca,
        proxy: wanted.proxy.clone(),
        private: cluster
            .resources_vpc_config()
            .is_some_and(|vpc| !vpc.endpoint_public_access() && vpc.endpoint_private_access()),
    })
}

fn host(endpoint: &str) -> Option<String> {
    url::Url::parse(endpoint).ok()?.host_str().map(str::to_string)
}

/// The clusters there are, when the session may list them.
async fn cluster_names(client: &aws_sdk_eks::Client) -> Option<Vec<String>> {
    client.list_clusters().send().await.ok().map(|answer| answer.clusters().to_vec())
}

/// Why there is no answer from DescribeCluster, with the fix.
fn not_described(
    name: &str,
    region: &str,
    code: &str,
    why: &str,
    others: Option<Vec<String>>,
) -> Error {
    let refused = |message: String| Error::refused(message).why(why);
    match code {
        "ResourceNotFoundException" => {
            let known = match others {
                Some(names) if names.is_empty() => "this account has no cluster there".to_string(),
                Some(names) => format!("there are: {}", names.join(", ")),
                None => "list them with `aws eks list-clusters`".to_string(),
            };
            refused(format!("cannot find the EKS cluster {name} in {region}: there is none"))
                .fix(format!("correct `eks.cluster` or `region` in platform.yaml; {known}"))
        }
        "AccessDeniedException" | "UnauthorizedOperation" => {
            let cluster = format!("arn:aws:eks:{region}:*:cluster/{name}");
            refused(format!("cannot describe the EKS cluster {name}: access denied"))
                .code(Code::AccessDenied)
                .fix(format!(
                    "add to the role's policy: {}",
                    allow_statement(&["eks:DescribeCluster"], &cluster)
                ))
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "ExpiredTokenException" => {
            refused(format!("cannot describe the EKS cluster {name}: AWS refuses the credentials"))
                .code(Code::AccessDenied)
                .fix("log in again, or give the environment a `role` in platform.yaml")
        }
        "" => refused(format!("cannot reach EKS in {region}"))
            .fix("see that the network lets eks.REGION.amazonaws.com through, and that there are AWS credentials"),
        _ => refused(format!("cannot describe the EKS cluster {name}: {code}"))
            .fix("see what AWS says, then run it again"),
    }
}

/// A bearer token of EKS. It is a credential: it lives in memory and is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// For the `Authorization` header.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}

/// Makes tokens, and keeps one until it is ten minutes old.
pub struct Minter {
    config: SdkConfig,
    region: String,
    cluster: String,
    kept: watch::Sender<Option<(SystemTime, Token)>>,
}

impl Minter {
    pub fn new(session: &Session, cluster: &Cluster) -> Minter {
        Minter {
            config: session.config().clone(),
            region: cluster.region.clone(),
            cluster: cluster.name.clone(),
            kept: watch::Sender::new(None),
        }
    }

    /// A token that is good for at least the next five minutes.
    ///
    /// # Errors
    /// Refused when the session has no credentials.
    pub async fn token(&self) -> Result<Token> {
        let now = now();
        let fresh = |(signed, _): &(SystemTime, Token)| {
            now.duration_since(*signed).is_ok_and(|age| age < REFRESH_AFTER)
        };
        if let Some((_, token)) = self.kept.borrow().as_ref().filter(|kept| fresh(kept)) {
            return Ok(token.clone());
        }
        let provider = self
            .config
            .credentials_provider()
            .ok_or_else(|| no_credentials("the session has none"))?;
        let credentials =
            provider.provide_credentials().await.map_err(|error| no_credentials(&chain(&error)))?;
        let token = signed(credentials, &self.region, &self.cluster, now)?;
        self.kept.send_replace(Some((now, token.clone())));
        Ok(token)
    }

    /// After the API server refused a token: the next one is a new one.
    pub fn forget(&self) {
        self.kept.send_replace(None);
    }
}

fn no_credentials(why: &str) -> Error {
    Error::refused("cannot enter the cluster: there are no AWS credentials").why(why).fix(
        "give the environment a `role` in platform.yaml and the job `id-token: write`; outside \
             of a workflow log in with the AWS CLI",
    )
}

/// The token: `k8s-aws-v1.` and, base64url without padding, the URL of an STS GetCallerIdentity
/// that is signed but not sent.
///
/// The URL is always that of the region's own STS endpoint, whatever endpoint this session uses for
/// its own calls: the cluster's authenticator takes no other host, and no parameter beside these.
/// <https://github.com/kubernetes-sigs/aws-iam-authenticator#api-authorization-from-outside-a-cluster>
fn signed(
    credentials: aws_credential_types::Credentials,
    region: &str,
    cluster: &str,
    now: SystemTime,
) -> Result<Token> {
    let suffix = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
    let url = format!("https://sts.{region}.{suffix}/?Action=GetCallerIdentity&Version=2011-06-15");
    let wrong = |why: &dyn std::error::Error| {
        Error::unexpected("cannot sign the cluster's token").why(chain(why))
    };

    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(EXPIRES);
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|error| wrong(&error))?
        .into();
    let headers = std::iter::once((CLUSTER_HEADER, cluster));
    let request = SignableRequest::new("GET", url.as_str(), headers, SignableBody::Bytes(&[]))
        .map_err(|error| wrong(&error))?;
    let (instructions, _) = sign(request, &parameters).map_err(|error| wrong(&error))?.into_parts();
    let mut signed = http::Request::builder().uri(&url).body(()).map_err(|error| wrong(&error))?;
    instructions.apply_to_request_http1x(&mut signed);
    Ok(Token(format!("k8s-aws-v1.{}", BASE64_URL_SAFE_NO_PAD.encode(signed.uri().to_string()))))
}

#[expect(clippy::disallowed_methods, reason = "a signature carries the time, and a token its age")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;

    /// What is in a token: the host, and the parameters of the URL by name.
    fn opened(token: &Token) -> (String, Vec<(String, String)>) {
        let encoded = token.0.strip_prefix("k8s-aws-v1.").expect("the prefix");
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(encoded).expect("base64url without padding");
        let url = url::Url::parse(std::str::from_utf8(&bytes).expect("text")).expect("a URL");
        assert_eq!((url.scheme(), url.path()), ("https", "/"));
        (url.host_str().expect("a host").to_string(), url.query_pairs().into_owned().collect())
    }

    fn time() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000)
    }

    #[test]
    fn a_token_holds_what_the_authenticator_wants_and_nothing_else() {
        let credentials = Credentials::new(
            "AKIDEXAMPLE",
            "secret-key",
            Some("session/+token=".into()),
            None,
            "test",
        );
        let token = signed(credentials, "eu-west-1", "clinicult-staging", time()).expect("a token");
        let (host, parameters) = opened(&token);
        assert_eq!(host, "sts.eu-west-1.amazonaws.com");
        let get = |name: &str| {
            parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
        };
        let mut names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        let allowed = [
            "Action",
            "Version",
            "X-Amz-Algorithm",
            "X-Amz-Credential",
            "X-Amz-Date",
            "X-Amz-Expires",
            "X-Amz-Security-Token",
            "X-Amz-Signature",
            "X-Amz-SignedHeaders",
        ];
        assert_eq!(names, allowed);
        assert_eq!(get("Action"), Some("GetCallerIdentity"));
        assert_eq!(get("Version"), Some("2011-06-15"));
        assert_eq!(get("X-Amz-Expires"), Some("60"));
        assert_eq!(get("X-Amz-SignedHeaders"), Some("host;x-k8s-aws-id"));
        assert_eq!(
            get("X-Amz-Credential"),
            Some("AKIDEXAMPLE/20260921/eu-west-1/sts/aws4_request")
        );
        assert_eq!(get("X-Amz-Security-Token"), Some("session/+token="));
        assert!(token.0.len() < 4096);
        assert_eq!(format!("{token:?}"), "Token(***)");
    }

    #[test]
    fn the_signature_is_that_of_the_aws_cli() {
        // Made by botocore's own signer (SigV4QueryAuth) for the same key, time, region and header.
        let credentials = Credentials::new("AKIDEXAMPLE", "secret-key", None, None, "test");
        let token = signed(credentials, "eu-west-1", "clinicult-staging", time()).expect("a token");
        let (_, parameters) = opened(&token);
        let signature = parameters
            .iter()
            .find(|(key, _)| key == "X-Amz-Signature")
            .map(|(_, value)| value.as_str());
        assert_eq!(
            signature,
            Some("fc9251e1ae96396fc1145d1ec0d463731f42ed65fc2efa5f190a8c101d59efbd")
        );
    }

    #[test]
    fn china_has_hosts_of_its_own() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret-key", None, None, "test");
        let token = signed(credentials, "cn-north-1", "c", time()).expect("a token");
        assert_eq!(opened(&token).0, "sts.cn-north-1.amazonaws.com.cn");
    }

    #[test]
    fn a_cluster_that_is_not_described_names_the_fix() {
        let names = |names: &[&str]| Some(names.iter().map(|name| name.to_string()).collect());
        let cases = [
            ("ResourceNotFoundException", names(&["a", "b"]), "there are: a, b"),
            ("ResourceNotFoundException", names(&[]), "this account has no cluster"),
            ("ResourceNotFoundException", None, "aws eks list-clusters"),
            ("AccessDeniedException", None, "arn:aws:eks:eu-west-1:*:cluster/c"),
            ("ExpiredTokenException", None, "log in again"),
            ("", None, "network"),
        ];
        for (code, others, fix) in cases {
            let error = not_described("c", "eu-west-1", code, "why", others);
            assert_eq!(error.kind, crate::error::Kind::Refused, "{code}");
            assert!(error.advice().contains(fix), "{code}: {error:?}");
        }
    }
}
