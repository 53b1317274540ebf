//! Reads of EC2 and IAM by AWS's Query protocol. Their SDKs take longer to build than all others
//! here together, and four reads are needed of them.
//!
//! <https://docs.aws.amazon.com/IAM/latest/APIReference/CommonParameters.html>

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_credential_types::provider::ProvideCredentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use reqwest::Url;
use reqwest::header::CONTENT_TYPE;
use url::form_urlencoded;
use xmlparser::{ElementEnd, Token, Tokenizer};

use super::Session;
use super::call::{Answer, Fault};
use super::policy::partition;
use crate::error::{Error, chain};
use crate::http;
use crate::xml::unescape;

/// A preflight does not wait: from a network without a way to IAM there is no answer.
const TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_ANSWER: usize = 1 << 20;
const FORM: &str = "application/x-www-form-urlencoded";

/// Sends one session's reads.
pub struct QueryApi {
    config: SdkConfig,
}

/// Where a service is asked, and what its requests are signed for.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint {
    url: String,
    region: String,
    version: &'static str,
}

impl QueryApi {
    pub fn new(session: &Session) -> QueryApi {
        QueryApi { config: session.config().clone() }
    }

    /// Asks once. `action` is the IAM action of the call: `iam:GetRole`.
    ///
    /// # Errors
    /// As AWS says; lost when nobody answers.
    pub async fn ask(&self, action: &str, parameters: &[(String, &str)]) -> Result<Leaves, Fault> {
        let lost =
            |error: &(dyn std::error::Error + 'static)| Fault::unheard(Answer::Lost, chain(error));
        let (service, name) = action.split_once(':').unwrap_or_default();
        let region = self.config.region().map(ToString::to_string).unwrap_or_default();
        let endpoint = find_endpoint(service, &region, self.config.endpoint_url());
        let url = Url::parse(&endpoint.url).map_err(|error| lost(&error))?;
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("Action", name).append_pair("Version", endpoint.version);
        let body = form.extend_pairs(parameters).finish();

        let provider = self.config.credentials_provider();
        let provider = provider.ok_or_else(|| no_credentials("there is no provider"))?;
        let credentials =
            provider.provide_credentials().await.map_err(|error| no_credentials(&chain(&error)))?;
        let identity = credentials.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&endpoint.region)
            .name(service)
            .time(now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| lost(&error))?
            .into();
        let headers = std::iter::once((CONTENT_TYPE.as_str(), FORM));
        let bytes = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", url.as_str(), headers, bytes);
        let signed = sign(request.map_err(|error| lost(&error))?, &parameters);
        let (instructions, _) = signed.map_err(|error| lost(&error))?.into_parts();

        let client = http::start_client_to(&url).timeout(TIMEOUT).build();
        let client = client.map_err(|error| lost(&error))?;
        let mut request = client.post(url).header(CONTENT_TYPE, FORM).body(body);
        for (name, value) in instructions.headers() {
            request = request.header(name, value);
        }
        let answer = request.send().await.map_err(|error| lost(&error))?;
        let status = answer.status().as_u16();
        let body = http::read_body(answer, LONGEST_ANSWER).await;
        let body = body.map_err(|_| Fault::unreadable(Error::unexpected("cannot read it")))?;
        let leaves = Leaves::read(&String::from_utf8_lossy(&body));
        match status {
            200..300 => Ok(leaves),
            _ => Err(Fault::answered(status, leaves.text("Error/Code"), leaves.text("Message"))),
        }
    }
}

fn no_credentials(why: &str) -> Fault {
    Fault::unheard(Answer::Refused, format!("no credentials: {why}"))
}

/// IAM is one for all regions of a partition.
/// <https://docs.aws.amazon.com/general/latest/gr/iam-service.html>
fn find_endpoint(service: &str, region: &str, set: Option<&str>) -> Endpoint {
    let partition = partition(region);
    let suffix = if partition == "aws-cn" { "amazonaws.com.cn" } else { "amazonaws.com" };
    let (host, signed, version) = match (service, partition) {
        ("iam", "aws-cn") => ("iam.cn-north-1".to_string(), "cn-north-1", "2010-05-08"),
        ("iam", "aws-us-gov") => ("iam.us-gov".to_string(), "us-gov-west-1", "2010-05-08"),
        ("iam", _) => ("iam".to_string(), "us-east-1", "2010-05-08"),
        _ => (format!("{service}.{region}"), region, "2016-11-15"),
    };
    let url = set.map_or_else(|| format!("https://{host}.{suffix}/"), str::to_string);
    Endpoint { url, region: signed.to_string(), version }
}

/// The texts of an answer in XML, each with the names of the elements around it, below the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaves(Vec<(String, String)>);

impl Leaves {
    fn read(xml: &str) -> Leaves {
        let (mut path, mut leaves): (Vec<&str>, Vec<(String, String)>) = (Vec::new(), Vec::new());
        for token in Tokenizer::from(xml).map_while(Result::ok) {
            match token {
                Token::ElementStart { local, .. } => path.push(local.as_str()),
                Token::ElementEnd { end: ElementEnd::Close(..) | ElementEnd::Empty, .. } => {
                    path.pop();
                }
                Token::Text { text } if !text.trim().is_empty() => {
                    let below = path.get(1..).unwrap_or_default();
                    leaves.push((below.join("/"), unescape(text.trim())));
                }
                _ => {}
            }
        }
        Leaves(leaves)
    }

    /// Every text whose path ends so: `subnetSet/item/subnetId`.
    pub fn texts(&self, end: &str) -> Vec<&str> {
        let ends = |path: &str| {
            let before = path.strip_suffix(end);
            before.is_some_and(|before| before.is_empty() || before.ends_with('/'))
        };
        let found = self.0.iter().filter(|(path, _)| ends(path));
        found.map(|(_, text)| text.as_str()).collect()
    }

    /// The first such text, or none.
    pub fn text(&self, end: &str) -> &str {
        self.texts(end).first().copied().unwrap_or_default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a signature carries the time")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_its_texts_by_their_paths() {
        let xml = "<?xml version=\"1.0\"?>\n<R xmlns=\"x\"><set><item><id>a</id><none/><groups>\
                   <item><id>inner</id></item></groups></item><item>\n <id>b&amp;&quot;</id></item>\
                   </set></R>";
        let leaves = Leaves::read(xml);
        assert_eq!(leaves.texts("set/item/id"), ["a", "b&\""]);
        assert_eq!(leaves.text("groups/item/id"), "inner");
        assert_eq!(leaves.text("d"), "", "a part of a name is no name");
        let error = "<Response><Errors><Error><Code>C</Code><Message>m</Message></Error></Errors></Response>";
        let leaves = Leaves::read(error);
        assert_eq!((leaves.text("Error/Code"), leaves.text("Message")), ("C", "m"));
    }

    #[test]
    fn each_partition_has_its_endpoints() {
        let cases = [
            ("ec2", "eu-west-1", "https://ec2.eu-west-1.amazonaws.com/", "eu-west-1"),
            ("ec2", "cn-north-1", "https://ec2.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
            ("iam", "eu-west-1", "https://iam.amazonaws.com/", "us-east-1"),
            ("iam", "cn-northwest-1", "https://iam.cn-north-1.amazonaws.com.cn/", "cn-north-1"),
            ("iam", "us-gov-east-1", "https://iam.us-gov.amazonaws.com/", "us-gov-west-1"),
        ];
        for (service, region, url, signed) in cases {
            let endpoint = find_endpoint(service, region, None);
            assert_eq!((endpoint.url.as_str(), endpoint.region.as_str()), (url, signed));
        }
        assert_eq!(find_endpoint("iam", "r", Some("http://localhost:1")).url, "http://localhost:1");
    }
}
