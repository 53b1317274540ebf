//! The one comment of a pull request that tells what the pipeline found, kept up to date in place.
//!
//! Each step has a section of it. Steps of several jobs write at the same time, and GitHub has no
//! condition for that: so who writes looks again whether the own section is there.

use std::time::Duration;

use http::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::client::ApiCall;
use super::repository::Repository;
use crate::error::Result;
use crate::report::markdown;
use crate::retry::policy::random_share;

/// Pages of a hundred comments that are looked through for ours.
const PAGES: usize = 10;
/// How often another job may write over our section.
const ROUNDS: u32 = 5;
/// The longest section, in bytes: GitHub takes 65,536 characters for the whole.
/// <https://docs.github.com/en/rest/issues/comments>
const SECTION: usize = 8_000;

/// After a write, another job's may still come that knew nothing of it.
const SETTLE: Duration = Duration::from_millis(1500);

/// The comment's parts: a mark by which it is found again, and sections by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// What the comment is of: the path of service.yaml.
    of: String,
    sections: Vec<(String, String)>,
}

impl Body {
    pub fn new(of: &str) -> Body {
        Body { of: of.to_string(), sections: Vec::new() }
    }

    /// Reads a comment. `None` if it is none of ours.
    pub fn parse(of: &str, text: &str) -> Option<Body> {
        let text = text.replace("\r\n", "\n");
        let rest = text.strip_prefix(&mark(of))?;
        let mut body = Body::new(of);
        for part in rest.split("<!-- section ").skip(1) {
            let (name, content) = part.split_once(" -->\n")?;
            body.sections.push((name.to_string(), content.trim_end().to_string()));
        }
        Some(body)
    }

    /// Puts a section in its place: the steps in their order, environments by name.
    pub fn set(&mut self, name: &str, content: &str) {
        // Nothing that a section says is one of our marks.
        let content = content.trim_end().replace("<!--", "&lt;!--");
        let content =
            markdown::cut_text(&content, SECTION, "\n_The rest is in the job's summary._");
        self.put(name, content);
    }

    fn put(&mut self, name: &str, content: String) {
        self.sections.retain(|(known, _)| known != name);
        self.sections.push((name.to_string(), content));
        self.sections.sort_by_key(|(name, _)| (rank(name), name.clone()));
    }

    /// Takes over the sections of a comment that another job made at the same moment.
    fn merge(&mut self, younger: &Body) {
        for (name, content) in &younger.sections {
            self.put(name, content.clone());
        }
    }

    pub fn render(&self) -> String {
        let sections = self.sections.iter();
        let shown = sections.map(|(name, content)| format!("<!-- section {name} -->\n{content}\n"));
        mark(&self.of) + &shown.collect::<Vec<String>>().join("\n")
    }
}

fn mark(of: &str) -> String {
    format!("<!-- clinicult/cicd {of} -->\n")
}

fn rank(section: &str) -> usize {
    let steps = ["check", "version", "test", "build-image", "deploy"];
    let step = section.split(' ').next().unwrap_or_default();
    steps.iter().position(|known| *known == step).unwrap_or(steps.len())
}

/// What became of a comment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commented {
    Written,
    /// It says so already.
    Unchanged,
    /// The token may not comment.
    Denied,
}

#[derive(Deserialize)]
struct Comment {
    id: u64,
    body: Option<String>,
    user: Option<User>,
}

#[derive(Deserialize)]
struct User {
    r#type: String,
}

impl Repository {
    /// Says `content` in the section `name` of our comment on a pull request.
    /// <https://docs.github.com/en/rest/issues/comments>
    ///
    /// # Errors
    /// If GitHub does not answer. That the token may not comment is no error.
    pub async fn comment(
        &self,
        number: u64,
        of: &str,
        name: &str,
        content: &str,
    ) -> Result<Commented> {
        let attempt = format!("comment on pull request {number} of {}", self.slug());
        let mut ended = Commented::Unchanged;
        for _ in 0..ROUNDS {
            let mut found = self.find_comments(number, of, &attempt).await?.into_iter();
            let oldest = found.next();
            let mut body = oldest.as_ref().map_or_else(|| Body::new(of), |(_, body)| body.clone());
            let younger: Vec<(u64, Body)> = found.collect();
            younger.iter().for_each(|(_, younger)| body.merge(younger));
            body.set(name, content);
            let is_said = oldest.as_ref().is_some_and(|(_, oldest)| *oldest == body);
            if is_said && younger.is_empty() {
                return Ok(ended);
            }
            if !is_said {
                let id = oldest.map(|(id, _)| id);
                if !self.write_comment(number, id, &body, &attempt).await? {
                    return Ok(Commented::Denied);
                }
                ended = Commented::Written;
            }
            for (id, _) in &younger {
                self.delete_comment(*id, &attempt).await?;
            }
            // Who wrote at the same moment from an older reading has overwritten us by then.
            tokio::time::sleep(SETTLE.mul_f64(0.5 + random_share())).await;
        }
        Ok(ended)
    }

    /// Writes a comment anew, or a new one. Returns whether the token may.
    async fn write_comment(
        &self,
        number: u64,
        id: Option<u64>,
        body: &Body,
        attempt: &str,
    ) -> Result<bool> {
        let sent = json!({ "body": body.render() });
        let number = number.to_string();
        let (method, url) = match id {
            Some(id) => (Method::PATCH, self.url(&["issues", "comments", &id.to_string()], &[])),
            None => (Method::POST, self.url(&["issues", &number, "comments"], &[])),
        };
        let call = ApiCall::write(method, url, &sent, attempt);
        match self.client.send::<IgnoredAny>(&call).await? {
            Ok(_) => Ok(true),
            Err(refusal) if matches!(refusal.status, 403 | 404) => Ok(false),
            Err(refusal) => Err(refusal.into_error(attempt)),
        }
    }

    /// Deletes one of two comments. Another job may have done so already.
    async fn delete_comment(&self, id: u64, attempt: &str) -> Result<()> {
        let url = self.url(&["issues", "comments", &id.to_string()], &[]);
        let call = ApiCall { method: Method::DELETE, ..ApiCall::get(url, attempt) };
        match self.client.send_for_text(&call).await? {
            Ok(_) => Ok(()),
            Err(refusal) if matches!(refusal.status, 403 | 404) => Ok(()),
            Err(refusal) => Err(refusal.into_error(attempt)),
        }
    }

    /// Our comments, the oldest first: those that a bot wrote and that begin with our mark, which
    /// anybody could copy. There are two where two jobs made the first one at the same moment.
    async fn find_comments(
        &self,
        number: u64,
        of: &str,
        attempt: &str,
    ) -> Result<Vec<(u64, Body)>> {
        let number = number.to_string();
        let url = self.url(&["issues", &number, "comments"], &[("per_page", "100")]);
        let found: Vec<Comment> = self.client.list(url, PAGES, attempt).await?;
        let is_bot =
            |comment: &Comment| comment.user.as_ref().is_some_and(|user| user.r#type == "Bot");
        let ours = found.into_iter().filter(is_bot);
        let mut parsed: Vec<(u64, Body)> = ours
            .filter_map(|comment| Some((comment.id, Body::parse(of, comment.body.as_deref()?)?)))
            .collect();
        parsed.sort_by_key(|(id, _)| *id);
        Ok(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_keep_their_places() {
        let mut body = Body::new("service.yaml");
        for (name, content) in [
            ("deploy staging", "as it is\n"),
            ("version", "1.4.0"),
            ("deploy production", "changes"),
            ("build-image", "84 MB\n\nwell"),
            ("version", "1.5.0"),
        ] {
            body.set(name, content);
        }
        let text = body.render();
        let order: Vec<usize> = ["1.5.0", "84 MB", "changes", "as it is"]
            .map(|part| text.find(part).expect(part))
            .to_vec();
        assert!(order.is_sorted() && !text.contains("1.4.0"), "{text}");
        // GitHub gives line ends of its own back.
        let read = Body::parse("service.yaml", &text.replace('\n', "\r\n")).expect("ours");
        assert_eq!(read, body);
        assert_eq!(Body::parse("services/a/service.yaml", &text), None);
        assert_eq!(Body::parse("service.yaml", &format!("I say: {text}")), None);
    }

    #[test]
    fn a_long_section_is_cut() {
        let mut body = Body::new("service.yaml");
        for name in
            ["check", "version", "build-image", "deploy a", "deploy b", "deploy c", "deploy d"]
        {
            body.set(name, &format!("```diff\n{}", "ä\n".repeat(100_000)));
        }
        let text = body.render();
        assert!(text.chars().count() < 65_536);
        assert_eq!(text.matches("```").count(), 14);
    }
}
