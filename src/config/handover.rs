//! What of the machine that runs this service.yaml asks for: its files, and variables of its
//! environment. Pure.
//!
//! Whoever can write service.yaml could have them sent away by a step of the build. So there is one
//! list of what is never handed over by its name alone, and one of every path.

use std::path::{Path, PathBuf};

use super::service::{Image, Service};
use super::values::Cache;
use crate::error::{Error, Result};
use crate::inside::What;

/// Beginnings of variables that belong to the runner, to GitHub, to a cloud or to this program.
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
const RESERVED: [&str; 18] = [
    "ACTIONS_",
    "GITHUB_",
    "GH_",
    "INPUT_",
    "RUNNER_",
    "STATE_",
    "CICD_",
    "AWS_",
    "AZURE_",
    "ARM_",
    "GOOGLE_",
    "GCLOUD_",
    "CLOUDSDK_",
    "KUBE",
    "VAULT_",
    "DOCKER_",
    "SSH_",
    "GIT_",
];

/// Whether a variable is handed to a build when service.yaml merely names it: whoever runs the step
/// set it. The others are there for somebody else.
pub fn is_free(variable: &str) -> bool {
    let name = variable.to_ascii_uppercase();
    !RESERVED.iter().any(|beginning| name.starts_with(beginning))
}

/// Where a build secret comes from, and where it may not.
///
/// # Errors
/// Refused, for a variable that nobody handed over: `handed` are the names of those that were.
pub fn refuse_reserved(entry: &str, variable: &str, handed: &[&str]) -> Result<()> {
    if is_free(variable) || handed.contains(&variable) {
        return Ok(());
    }
    Err(Error::refused(format!("cannot hand {variable} to the build: nobody handed it over"))
        .why(format!(
            "image.build-secrets has `{entry}`, and a variable of this name belongs to the runner \
             or to a cloud, not to the build"
        ))
        .fix(format!(
            "name a secret of the build's own: `id=npm,env=NPM_TOKEN`; or hand it over by name: \
             `secrets: {{build-secrets: \"{variable}=${{{{ secrets.NAME }}}}\"}}`"
        )))
}

/// What a build context leaves out stands in such a file.
const IGNORE: &str = ".dockerignore";

/// A path that service.yaml names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Where it stands: `image.context`.
    pub key: String,
    /// Relative to the folder of service.yaml.
    pub path: PathBuf,
    pub what: What,
}

/// Every path of service.yaml that something is read from, or written to.
pub fn list_paths(service: &Service) -> Vec<Named> {
    let named = |key: &str, path: PathBuf, what| Named { key: key.into(), path, what };
    let image = &service.image;
    let dockerfile = image.context.join(&image.dockerfile);
    let mut ignore_beside = dockerfile.clone().into_os_string();
    ignore_beside.push(IGNORE);
    let ignore_beside = PathBuf::from(ignore_beside);
    let mut paths = vec![
        named("image.context", image.context.clone(), What::Folder),
        named("image.dockerfile", dockerfile.clone(), What::File),
        // Read where they are; each may be a link.
        named("image.dockerfile", ignore_beside, What::File),
        named("image.context", image.context.join(IGNORE), What::File),
    ];
    for (name, context) in &image.contexts {
        let path = match context.as_str().split_once("://") {
            None => context.as_str(),
            // `oci-layout://FOLDER`, with a tag or a digest behind it.
            Some(("oci-layout", rest)) => {
                let rest = rest.split_once('@').map_or(rest, |(folder, _)| folder);
                rest.rsplit_once(':').map_or(rest, |(folder, _)| folder)
            }
            Some(("file", path)) => path,
            Some(_) => continue,
        };
        let key = format!("image.contexts.{name}");
        paths.push(named(&key, path.into(), What::Folder));
        paths.push(named(&key, Path::new(path).join(IGNORE), What::File));
    }
    paths.extend(list_secret_files(image));
    if let Cache::Local { folder } = &image.cache {
        paths.push(named("image.cache", folder.into(), What::New));
    }
    let manifests = service.manifests.iter().cloned();
    paths.extend(manifests.map(|path| named("manifests", path, What::Either)));
    paths
}

/// The files of build secrets, and the keys of SSH.
/// <https://docs.docker.com/reference/cli/docker/buildx/build/#secret>
fn list_secret_files(image: &Image) -> Vec<Named> {
    let mut files = Vec::new();
    let mut add = |key: &str, path: &str| {
        files.push(Named { key: key.into(), path: path.into(), what: What::File });
    };
    for entry in &image.build_secrets {
        // A field in quotes may hold a comma; its key stands inside of the quotes.
        let fields = entry.split(',').map(|field| field.trim().trim_matches('"'));
        for (key, value) in fields.filter_map(|field| field.split_once('=')) {
            if matches!(key.trim().to_ascii_lowercase().as_str(), "src" | "source") {
                add("image.build-secrets", value.trim());
            }
        }
    }
    for entry in &image.ssh {
        let paths = entry.split_once('=').map(|(_, paths)| paths);
        paths.into_iter().flat_map(|paths| paths.split(',')).for_each(|path| {
            add("image.ssh", path.trim());
        });
    }
    files
}

/// What is wrong with a path of service.yaml, in its own words.
pub fn explain_denied(named: &Named, file: &Path, denied: crate::inside::Denied) -> Error {
    let fix = format!("see `{}` in {}", named.key, file.display());
    denied.into_error("use", &named.path).fix(fix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_somebody_else_is_handed_over_by_name_only() {
        let reserved = [
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
            "ACTIONS_RUNTIME_TOKEN",
            "GITHUB_TOKEN",
            "github_token",
            "GH_TOKEN",
            "INPUT_GITHUB-TOKEN",
            "INPUT_PLATFORM-TOKEN",
            "RUNNER_TEMP",
            "AWS_SECRET_ACCESS_KEY",
            "CICD_BUILD_SECRETS",
            "GOOGLE_APPLICATION_CREDENTIALS",
            "KUBECONFIG",
            "DOCKER_AUTH_CONFIG",
            "SSH_AUTH_SOCK",
        ];
        for name in reserved {
            assert!(!is_free(name), "{name}");
            let refused = refuse_reserved("id=x", name, &["OTHER"]).expect_err("refused");
            assert_eq!(refused.kind.exit_code(), 3, "{name}");
            assert!(refuse_reserved("id=x", name, &[name]).is_ok(), "{name} was handed over");
        }
        for name in ["NPM_TOKEN", "PIP_INDEX_URL", "DEPLOY_KEY", "SENTRY_AUTH_TOKEN"] {
            assert!(refuse_reserved("id=x", name, &[]).is_ok(), "{name}");
        }
    }

    #[test]
    fn every_path_is_listed() {
        let text = "name: p\nport: 1\nmanifests: [k8s/job.yaml]\nimage:\n  context: ..\n  \
                    dockerfile: api/Dockerfile\n  cache: local:.cache\n  contexts: {a: ../lib, \
                    b: 'docker-image://x@sha256:1', c: 'oci-layout://out:1@sha256:2'}\n  \
                    build-secrets: ['id=a,env=A', 'id=b,src=/x', 'id=c, Source=y', \
                    '\"src=z\",id=d']\n  \
                    ssh: [default, 'k=one,two']\n";
        let service = crate::config::parse(text, Path::new("service.yaml")).expect("a service");
        let found: Vec<String> = list_paths(&service)
            .iter()
            .map(|named| format!("{} {}", named.key, named.path.display()))
            .collect();
        let expected = [
            "image.context ..",
            "image.dockerfile ../api/Dockerfile",
            "image.dockerfile ../api/Dockerfile.dockerignore",
            "image.context ../.dockerignore",
            "image.contexts.a ../lib",
            "image.contexts.a ../lib/.dockerignore",
            "image.contexts.c out",
            "image.contexts.c out/.dockerignore",
            "image.build-secrets /x",
            "image.build-secrets y",
            "image.build-secrets z",
            "image.ssh one",
            "image.ssh two",
            "image.cache .cache",
            "manifests k8s/job.yaml",
        ];
        assert_eq!(found, expected);
    }
}
