//! The values below `image` in service.yaml: how it is built, and what the build may reach. Pure.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

text_value!(
    /// A host as a build's steps know it.
    HostName,
    "^[A-Za-z0-9]([-._A-Za-z0-9]*[A-Za-z0-9])?$",
    |text| {
        let ends = |c: char| c.is_ascii_alphanumeric();
        let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
        if !letters || !text.starts_with(ends) || !text.ends_with(ends) {
            return Err(format!("`{text}` is no host name: letters, digits, `-` and `.`"));
        }
        Ok(())
    }
);

text_value!(
    /// Where a host is: an IP address, or `host-gateway` for the machine that builds.
    HostAddress,
    "^(host-gateway|[0-9A-Fa-f:.]+)$",
    |text| match text == "host-gateway" || text.parse::<core::net::IpAddr>().is_ok() {
        true => Ok(()),
        false => Err(format!("`{text}` is no address: write 10.0.0.7, or host-gateway for the machine that builds")),
    }
);

text_value!(
    /// The key of a label: `org.example.team`.
    LabelName,
    "^[A-Za-z0-9]([-._/A-Za-z0-9]*[A-Za-z0-9])?$",
    |text| {
        let ends = |c: char| c.is_ascii_alphanumeric();
        let letters = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/".contains(c));
        if !letters || !text.starts_with(ends) || !text.ends_with(ends) {
            return Err(format!("`{text}` cannot name a label: letters, digits, `.`, `-`, `_` and `/`, like org.example.team"));
        }
        // The push compares them with the commit, and a label of one's own would say something
        // else.
        if let Some(name) = text.strip_prefix("org.opencontainers.image.")
            && ["version", "revision", "created", "source"].contains(&name)
        {
            return Err(format!("`{text}` is set from the commit"));
        }
        Ok(())
    }
);

text_value!(
    /// An image by its name: `HOST/NAME:TAG@sha256:…`.
    ImageName,
    "^[A-Za-z0-9][-._/:@A-Za-z0-9]*$",
    |text| {
        let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:@".contains(c));
        match plain && text.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            true => Ok(()),
            false => Err(format!("`{text}` is no image: write it as in FROM, best with its digest: NAME@sha256:…")),
        }
    }
);

text_value!(
    /// Where a named build context is: a folder, or one of BuildKit's sources.
    BuildContext,
    "\\S",
    |text| {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let known = ["docker-image", "oci-layout", "https", "http", "git", "ssh"];
        if text.trim().is_empty() || text.chars().any(char::is_control) {
            return Err("a build context is a folder, or docker-image://NAME@sha256:…".into());
        }
        match scheme.is_none_or(|scheme| known.contains(&scheme)) {
            true => Ok(()),
            false => Err(format!("`{text}` is no build context: a folder, or one of {}://…", known.join("://…, "))),
        }
    }
);

/// BuildKit's image for a builder in a container of its own, which an engine needs whose store
/// writes no layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BuilderImage {
    /// No such builder: what that engine builds is taken out of it and packed.
    Off,
    /// `NAME@sha256:…`: the builder sees the sources and the build secrets, so that it is never
    /// somebody's latest.
    Pinned(String),
}

impl BuilderImage {
    /// The index of v0.31.2 for all its platforms, as other public repositories pin and record it.
    pub const DEFAULT: &str = "moby/buildkit:v0.31.2@sha256:2f5adac4ecd194d9f8c10b7b5d7bceb5186853db1b26e5abd3a657af0b7e26ec";

    /// Whether nobody asked for another one.
    pub fn is_default(&self) -> bool {
        *self == BuilderImage::default()
    }
}

impl Default for BuilderImage {
    fn default() -> Self {
        BuilderImage::Pinned(BuilderImage::DEFAULT.into())
    }
}

impl TryFrom<String> for BuilderImage {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(BuilderImage::Off);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:[]".contains(c);
        let pinned = text.split_once("@sha256:").is_some_and(|(name, hex)| {
            !name.is_empty()
                && name.chars().all(plain)
                && hex.len() == 64
                && hex.bytes().all(|b| b.is_ascii_hexdigit())
        });
        match pinned {
            true => Ok(BuilderImage::Pinned(text)),
            false => Err(format!(
                "`{text}` is no builder image: write NAME@sha256:… with its whole digest, or off"
            )),
        }
    }
}

/// Where a build's steps are kept from one run to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum Cache {
    /// GitHub's cache inside GitHub Actions; elsewhere what the engine itself keeps.
    #[default]
    Auto,
    /// Nowhere but in the engine.
    Off,
    /// GitHub's cache.
    Gha,
    /// `registry:HOST/NAME:TAG`: in a repository whose tags may be moved; never the image's own.
    Registry { reference: String },
    /// `local:FOLDER`, relative to service.yaml.
    Local { folder: String },
}

impl TryFrom<String> for Cache {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |why: &str| {
            Err(format!(
                "`{text}` is no cache: {why}write auto, off, gha, registry:HOST/NAME:TAG or local:FOLDER"
            ))
        };
        match text.split_once(':') {
            None if text == "auto" => Ok(Cache::Auto),
            None if text == "off" => Ok(Cache::Off),
            None if text == "gha" => Ok(Cache::Gha),
            Some(("registry", reference)) => {
                let plain = |c: char| c.is_ascii_alphanumeric() || "-._/:[]".contains(c);
                let name = reference
                    .split_once('/')
                    .is_some_and(|(host, name)| !host.is_empty() && !name.is_empty());
                match name && reference.chars().all(plain) {
                    true => Ok(Cache::Registry { reference: reference.to_string() }),
                    // By digest nothing could be written.
                    false => wrong("a registry's is HOST/NAME:TAG; "),
                }
            }
            Some(("local", folder))
                if !folder.trim().is_empty() && !folder.chars().any(char::is_control) =>
            {
                Ok(Cache::Local { folder: folder.to_string() })
            }
            _ => wrong(""),
        }
    }
}

impl From<Cache> for String {
    fn from(cache: Cache) -> String {
        match cache {
            Cache::Auto => "auto".into(),
            Cache::Off => "off".into(),
            Cache::Gha => "gha".into(),
            Cache::Registry { reference } => format!("registry:{reference}"),
            Cache::Local { folder } => format!("local:{folder}"),
        }
    }
}

impl JsonSchema for Cache {
    fn schema_name() -> Cow<'static, str> {
        "Cache".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^(auto|off|gha|registry:[^/]+/.+|local:.+)$" })
    }
}
