//! Rules for the images that a Dockerfile begins with. Pure.

use super::facts::{DockerfileFacts, Said};

/// The stages that begin with an image, not with a stage before them.
fn list_images(facts: &DockerfileFacts<'_>) -> Vec<(u64, String)> {
    let stages = facts.dockerfile.stages();
    let names: Vec<&str> = stages.iter().filter_map(|stage| stage.name.as_deref()).collect();
    stages
        .iter()
        .filter(|stage| {
            stage.base != "scratch"
                && !names.contains(&stage.base.as_str())
                && !stage.base.is_empty()
        })
        .map(|stage| (stage.from.line, stage.base.clone()))
        .collect()
}

/// An image's name without its registry's host and `library/`, and its tag.
fn split_image(image: &str) -> (String, String) {
    let image = image.split('@').next().unwrap_or(image);
    let (name, tag) = match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, ""),
    };
    let name = match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => rest,
        _ => name,
    };
    let name = name.trim_start_matches("docker/library/").trim_start_matches("library/");
    (name.to_string(), tag.to_string())
}

/// Why nobody should build on an image any more, whatever its version: its author gave it up.
pub fn explain_deprecated(image: &str) -> Option<(String, String)> {
    let (name, _) = split_image(image);
    match name.as_str() {
        name if name.starts_with("tiangolo/") => Some((
            format!("{name} is deprecated by its author"),
            "build on python:3.13-slim and run uvicorn itself: `cicd init --force` writes it, \
             with the same variables"
                .into(),
        )),
        "centos" => Some(("centos is not published any more".into(), "FROM almalinux:10".into())),
        "openjdk" | "java" => Some((
            format!("{name} is deprecated by its author"),
            "FROM \
                eclipse-temurin:25-jre"
                .into(),
        )),
        _ => None,
    }
}

/// What gets no security fixes any more, as of November 2026. <https://endoflife.date>
fn explain_ended(image: &str) -> Option<(String, String)> {
    let (name, tag) = split_image(image);
    let old = ["jessie", "stretch", "buster", "bullseye"];
    if let Some(release) = old.iter().find(|release| tag.split('-').any(|part| part == **release)) {
        return Some((format!("Debian {release}"), "take the same image on trixie".into()));
    }
    let mut parts = tag.split(['.', '-']).map(str::parse::<u32>);
    let major = parts.next()?.ok()?;
    // `python:3` is the newest one.
    let minor = parts.next().and_then(Result::ok).unwrap_or(u32::MAX);
    let (what, fix) = match (name.as_str(), major, minor) {
        ("python", ..=2, _) | ("python", 3, ..=10) => ("Python", "FROM python:3.13-slim"),
        ("node", ..=21 | 23, _) => ("Node", "FROM node:24-slim"),
        ("golang", 1, ..=25) => ("Go", "FROM golang:1.27"),
        ("ubuntu", ..=20, _) => ("Ubuntu", "FROM ubuntu:24.04"),
        ("alpine", ..=2, _) | ("alpine", 3, ..=20) => ("Alpine", "FROM alpine:3.23"),
        _ => return None,
    };
    Some((format!("{what} {}", tag.split('-').next().unwrap_or(&tag)), fix.into()))
}

pub fn find_deprecated_bases(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let found = list_images(facts).into_iter();
    found
        .filter_map(|(line, image)| {
            explain_deprecated(&image).map(|(message, fix)| (line, message, fix))
        })
        .collect()
}

pub fn find_ended_bases(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let found = list_images(facts).into_iter();
    found
        .filter_map(|(line, image)| {
            explain_ended(&image)
                .map(|(what, fix)| (line, format!("{what} gets no security fixes any more"), fix))
        })
        .collect()
}

pub fn find_unpinned_bases(facts: &DockerfileFacts<'_>) -> Vec<Said> {
    let unpinned = list_images(facts).into_iter().filter(|(_, image)| !image.contains("@sha256:"));
    unpinned
        .map(|(line, image)| {
            let (_, tag) = split_image(&image);
            let message = match tag.as_str() {
                "" | "latest" => format!(
                    "{image} is another image every few weeks, and another \
                 version some day"
                ),
                _ => format!(
                    "{image} is another image every few weeks: the same commit does not \
                    make the same image"
                ),
            };
            (
                line,
                message,
                format!(
                    "pin its digest, and let Dependabot keep it fresh: FROM \
                {image}@sha256:… (`docker buildx imagetools inspect {image}` says it)"
                ),
            )
        })
        .collect()
}
