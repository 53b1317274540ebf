//! The rules about secrets in an image: its layers, configuration and history. Pure. What is told
//! names the place and the kind, never the value.

use super::facts::Image;
use super::ruling::{Breach, Ruling};
use super::secrets;
use crate::redact::{is_secret_name, is_stand_in};

/// As much of a step as is shown.
const STEP: usize = 60;

/// `secret-files`
pub fn judge_files(images: &[Image]) -> Ruling {
    let mut said: Vec<Breach> = Vec::new();
    let mut say = |evidence: String, fix: String| {
        // The images of several platforms have much in common.
        if said.iter().all(|said| said.evidence != evidence) {
            said.push(Breach { evidence, fix, ..Breach::default() });
        }
    };
    for image in images {
        for (at, layer) in image.layers.iter().enumerate() {
            for found in &layer.content.found {
                let later = image.layers.iter().skip(at + 1).any(|layer| {
                    layer.content.deleted.iter().any(|gone| {
                        found.path == *gone
                            || found
                                .path
                                .strip_prefix(gone)
                                .is_some_and(|rest| rest.starts_with('/'))
                    })
                });
                let still = if later {
                    "; a later layer deletes it, and it stays readable in this one"
                } else {
                    ""
                };
                say(
                    format!(
                        "/{} is {} ({}){still}",
                        found.path,
                        found.kind,
                        describe_layer(image, at)
                    ),
                    explain_fix(&found.path, found.kind),
                );
            }
            if let Some(why) = &layer.content.cut {
                say(
                    format!("{} could not be looked at whole: {why}", describe_layer(image, at)),
                    "build fewer or smaller files into one layer; if it has to be so: `contract: \
                     {rules: {secret-files: warn}}`"
                        .into(),
                );
            }
        }
    }
    Ruling::by(said)
}

fn explain_fix(path: &str, kind: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    if kind == secrets::REPOSITORY {
        return "add `.git` to .dockerignore; VERSION and REVISION are build arguments".into();
    }
    format!(
        "add `**/{name}` to .dockerignore, and replace the secret: who has the image has it; a \
         build takes one by `RUN --mount=type=secret,id=…`, a \
         running service by `secrets` in service.yaml"
    )
}

/// A layer in words: `layer 3 of 7, COPY . .`.
pub fn describe_layer(image: &Image, at: usize) -> String {
    let step = image.layers.get(at).map_or("", |layer| layer.created_by.as_str());
    let step = step.split("# buildkit").next().unwrap_or(step).trim();
    let keyword = step.split_whitespace().next().unwrap_or_default();
    // What a step runs may hold what must not be shown.
    let step = match keyword {
        "COPY" | "ADD" if secrets::in_text(step.as_bytes()).is_none() => step,
        "" => "",
        _ if keyword.bytes().all(|byte| byte.is_ascii_uppercase()) => keyword,
        _ => "",
    };
    let step: String = step.chars().take(STEP).collect();
    let comma = if step.is_empty() { "" } else { ", " };
    format!("layer {} of {}{comma}{step}", at + 1, image.layers.len())
}

/// `secret-variables`
pub fn judge_variables(images: &[Image]) -> Ruling {
    let mut said: Vec<Breach> = Vec::new();
    let mut say = |evidence: String, name: &str| {
        if said.iter().all(|said| said.evidence != evidence) {
            let fix = format!(
                "remove it and replace the secret: who has the image has it; for the build \
                 `build-secrets: ['id={0},env={1}']` in service.yaml and \
                 `RUN --mount=type=secret,id={0} …`, for the running service `secrets: {{{1}: …}}`",
                name.to_lowercase(),
                name
            );
            said.push(Breach { evidence, fix, ..Breach::default() });
        }
    };
    for image in images {
        let mut known: Vec<&str> = Vec::new();
        for (place, pairs) in [("ENV", &image.env), ("LABEL", &image.labels)] {
            for (name, value) in pairs {
                if let Some(kind) = find_secret(name, value) {
                    known.push(name);
                    say(format!("{place} {name} holds {kind}"), name);
                }
            }
        }
        for step in &image.history {
            let keyword = step.split_whitespace().next().unwrap_or_default();
            let pairs = list_assignments(step);
            let named: Vec<_> = pairs
                .iter()
                .filter_map(|(name, value)| Some((*name, find_secret(name, value)?)))
                .collect();
            for (name, kind) in named.iter().filter(|(name, _)| !known.contains(name)) {
                say(format!("the history shows {name} of a build step, which holds {kind}"), name);
            }
            if let (true, Some(kind)) = (named.is_empty(), secrets::in_text(step.as_bytes())) {
                let keyword = if keyword.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    keyword
                } else {
                    "RUN"
                };
                say(format!("the history shows {kind} in a {keyword} step"), "TOKEN");
            }
        }
        if let Some(kind) = secrets::in_text(image.command.join(" ").as_bytes()) {
            say(format!("CMD or ENTRYPOINT holds {kind}"), "TOKEN");
        }
    }
    Ruling::by(said)
}

/// The secret that a variable holds, by its name and its value.
fn find_secret(name: &str, value: &str) -> Option<&'static str> {
    // `$(cat /run/secrets/x)` and `${TOKEN}` are no values.
    if value.is_empty() || value.starts_with(['$', '`']) {
        return None;
    }
    if let Some(kind) = secrets::in_text(value.as_bytes()) {
        return Some(kind);
    }
    if has_password(value) {
        return Some("a URL with a password");
    }
    (is_secret_name(name) && !is_stand_in(value)).then_some("a value")
}

/// `postgres://user:password@host`, but for a host that is the container itself.
fn has_password(value: &str) -> bool {
    let Some((_, rest)) = value.split_once("://") else { return false };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let Some((user, host)) = authority.rsplit_once('@') else { return false };
    let password = user.split_once(':').map_or("", |(_, password)| password);
    let here = ["localhost", "127.0.0.1", "[::1]"].iter().any(|here| host.starts_with(here));
    !password.is_empty() && !password.starts_with(['$', '{', '<']) && !here
}

/// The assignments in a step of the history: of ARG, ENV and LABEL all, of what a shell runs only
/// those in capitals, as the rest is code in any language.
fn list_assignments(step: &str) -> Vec<(&str, &str)> {
    let declares =
        ["ARG", "ENV", "LABEL"].iter().any(|keyword| step.trim_start().starts_with(keyword));
    step.split_whitespace()
        .filter_map(|word| word.trim_matches(['"', '\'', ';']).split_once('='))
        .map(|(name, value)| (name, value.trim_matches(['"', '\''])))
        .filter(|(name, _)| {
            let is_name = name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
            let capitals = name.bytes().all(|byte| !byte.is_ascii_lowercase());
            !name.is_empty() && is_name && (declares || capitals)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::facts::Stored;
    use super::super::layers::{Found, Layer};
    use super::*;

    fn evidence(ruling: &Ruling) -> Vec<String> {
        match ruling {
            Ruling::Broken(said) => said.iter().map(|said| said.evidence.clone()).collect(),
            _ => vec![],
        }
    }

    #[test]
    fn variables_with_values_are_told_and_never_shown() {
        let pair = |name: &str, value: &str| (name.to_string(), value.to_string());
        let cases: &[(Image, &[&str])] = &[
            (
                Image { env: vec![pair("API_TOKEN", "hunter2")], ..Image::default() },
                &["ENV API_TOKEN holds a value"],
            ),
            (Image { env: vec![pair("API_TOKEN", "")], ..Image::default() }, &[]),
            (Image { env: vec![pair("TOKEN_BUCKET_SIZE", "4096")], ..Image::default() }, &[]),
            (Image { env: vec![pair("PASSWORD_RESET", "true")], ..Image::default() }, &[]),
            (
                Image {
                    env: vec![pair("SECRET_KEY", "dummy-for-collectstatic")],
                    ..Image::default()
                },
                &[],
            ),
            (
                Image {
                    history: vec![
                        "RUN /bin/sh -c SECRET_KEY=dummy python manage.py collectstatic".into(),
                    ],
                    ..Image::default()
                },
                &[],
            ),
            (
                Image {
                    env: vec![pair("GPG_KEY", "7169605F62C751356D054A26A821E680E5FA6305")],
                    ..Image::default()
                },
                &[],
            ),
            (Image { env: vec![pair("TOKEN_FILE", "/run/secrets/x")], ..Image::default() }, &[]),
            (
                Image {
                    env: vec![pair("DATABASE_URL", "postgres://me:hunter2@db/x")],
                    ..Image::default()
                },
                &["ENV DATABASE_URL holds a URL with a password"],
            ),
            (
                Image {
                    env: vec![pair("DATABASE_URL", "postgres://me:hunter2@localhost/x")],
                    ..Image::default()
                },
                &[],
            ),
            (
                Image { labels: vec![pair("password", "hunter2")], ..Image::default() },
                &["LABEL password holds a value"],
            ),
            (
                Image {
                    env: vec![pair("TOKEN", "hunter2")],
                    history: vec!["ENV TOKEN=hunter2".into()],
                    ..Image::default()
                },
                &["ENV TOKEN holds a value"],
            ),
            (
                Image {
                    history: vec!["RUN |1 NPM_TOKEN=hunter2 /bin/sh -c npm ci # buildkit".into()],
                    ..Image::default()
                },
                &["the history shows NPM_TOKEN of a build step, which holds a value"],
            ),
            (
                Image {
                    history: vec!["ARG NPM_TOKEN".into(), "RUN /bin/sh -c token=find() x".into()],
                    ..Image::default()
                },
                &[],
            ),
            (
                Image {
                    history: vec!["RUN /bin/sh -c TOKEN=\"$(cat /run/secrets/t)\" npm ci".into()],
                    ..Image::default()
                },
                &[],
            ),
            (
                Image {
                    history: vec![format!(
                        "RUN /bin/sh -c curl -H 'token {}{}'",
                        "ghp_", "aB3dE5gH7jK9mN1pQ4rS6tU8vW0xY2zAbC4d"
                    )],
                    ..Image::default()
                },
                &["the history shows a GitHub token in a RUN step"],
            ),
        ];
        for (image, expected) in cases {
            let ruling = judge_variables(std::slice::from_ref(image));
            assert_eq!(evidence(&ruling), *expected, "{image:?}");
            assert!(!format!("{ruling:?}").contains("hunter2"));
        }
    }

    #[test]
    fn files_are_told_with_their_layer_and_what_deletes_them() {
        let stored = |created_by: &str, content: Layer| Stored {
            size: 1,
            created_by: created_by.into(),
            content,
        };
        let found = Layer {
            found: vec![Found { path: "app/.env".into(), kind: "an environment file" }],
            ..Layer::default()
        };
        let deletes = Layer { deleted: ["app".to_string()].into(), ..Layer::default() };
        let cut = Layer { cut: Some("it has too much".into()), ..Layer::default() };
        let of =
            |layers: Vec<Stored>| evidence(&judge_files(&[Image { layers, ..Image::default() }]));
        assert_eq!(
            of(vec![
                stored("COPY . /app # buildkit", found.clone()),
                stored("RUN /bin/sh -c x", deletes.clone())
            ]),
            ["/app/.env is an environment file (layer 1 of 2, COPY . /app); a later layer \
                 deletes it, and it stays readable in this one"]
        );
        assert_eq!(
            of(vec![stored("", deletes), stored("RUN /bin/sh -c TOKEN=x y", found)]),
            ["/app/.env is an environment file (layer 2 of 2, RUN)"]
        );
        assert_eq!(
            of(vec![stored("", cut)]),
            ["layer 1 of 1 could not be looked at whole: it has too much"]
        );
        assert_eq!(judge_files(&[Image::default()]), Ruling::Kept);
    }
}
