//! Rules for secrets that would stay in an image. Pure.

use super::facts::{DockerfileFacts, Said};
use crate::redact::{is_secret_name, is_stand_in, is_switch};

pub fn find_secrets_in_image(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in facts.all(&["ARG", "ENV", "LABEL"]) {
        for (name, value) in one.pairs() {
            // An ARG gets its value at the build, where `docker history` shows it, also in the
            // place of a stand-in; an ENV without value is none.
            let has_value = match (one.keyword.as_str(), value.as_deref()) {
                ("ARG", value) => !value.is_some_and(is_switch),
                (_, value) => value.is_some_and(|value| !value.is_empty() && !is_stand_in(value)),
            };
            if is_secret_name(&name) && has_value {
                let fix = format!(
                    "for the build: `build-secrets: ['id={0},env={name}']` in service.yaml and \
                     `RUN --mount=type=secret,id={0} …`; \
                     for the running service: `secrets: {{{name}: …}}` in service.yaml",
                    name.to_lowercase()
                );
                said.push((
                    one.line,
                    format!("{} {name} stays readable in the image's history", one.keyword),
                    fix,
                ));
            }
        }
    }
    said
}

/// Whether a file of this path holds a secret, as far as its name says. Also asked by the image
/// contract.
pub fn is_secret_file(path: &str) -> bool {
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or(path);
    let sample =
        [".example", ".sample", ".template", ".dist"].iter().any(|end| name.ends_with(end));
    let names = [
        ".env",
        ".npmrc",
        ".pypirc",
        ".netrc",
        ".git-credentials",
        ".dockercfg",
        "id_rsa",
        "id_dsa",
        "id_ecdsa",
        "id_ed25519",
        "credentials.json",
        "service-account.json",
    ];
    let ends = [".p12", ".pfx", ".jks", ".kdbx"];
    let below = path.ends_with(".aws/credentials")
        || path.ends_with(".docker/config.json")
        || path.ends_with(".kube/config");
    !sample
        && (names.contains(&name)
            || name.starts_with(".env.")
            || ends.iter().any(|end| name.ends_with(end))
            || below
            || name.ends_with("-key.pem")
            || name == "key.pem"
            || name == "private.pem")
}

pub fn find_copied_secrets(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let mut said = Vec::new();
    for one in facts.all(&["COPY", "ADD"]) {
        for source in one.sources().into_iter().filter(|source| {
            is_secret_file(source) || source.trim_end_matches('/').ends_with(".git")
        }) {
            said.push((
                one.line,
                format!(
                    "{source} stays in a layer, also when it is deleted \
                later"
                ),
                "take it as a build secret: `RUN --mount=type=secret,id=…`; .git is not \
                needed: VERSION and REVISION are build arguments"
                    .into(),
            ));
        }
    }
    said
}
