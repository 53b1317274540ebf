//! What a Go module is, from its files, and the Dockerfile that builds and runs it. Pure.

use super::facts::{Tree, sources};

/// The oldest Go that still gets security fixes: a newer one builds what an older one did.
/// <https://go.dev/doc/devel/release>
const OLDEST: (u32, u32) = (1, 26);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Go {
    /// The path of its main package: `.`, `./cmd/api`.
    pub package: String,
    /// `1.26`: what go.mod asks for, or the oldest that is cared for.
    pub version: String,
    /// Its dependencies are in the repository.
    pub vendored: bool,
}

pub fn read(tree: &Tree, notes: &mut Vec<String>) -> Go {
    let module = tree.get("go.mod").map(String::as_str).unwrap_or_default();
    let asked = |start: &str| {
        let version = module.lines().find_map(|line| line.trim().strip_prefix(start))?;
        let mut parts = version.trim().split(['.', 'r']).map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??))
    };
    let (major, minor) = asked("go ").max(asked("toolchain go")).unwrap_or(OLDEST).max(OLDEST);
    let mains: Vec<(&str, &str)> =
        sources(tree).filter(|(path, text)| path.ends_with(".go") && is_main(text)).collect();
    let mut packages: Vec<String> = mains
        .iter()
        .map(|(path, _)| {
            path.rsplit_once('/').map_or(".".to_string(), |(folder, _)| format!("./{folder}"))
        })
        .collect();
    packages.dedup();
    let module_name =
        module.lines().find_map(|line| line.strip_prefix("module ")).unwrap_or_default().trim();
    let own = module_name.rsplit('/').next().unwrap_or_default();
    let serves = |package: &String| {
        mains.iter().any(|(path, text)| {
            text.contains("ListenAndServe")
                && path.starts_with(&format!("{}/", package.trim_start_matches("./")))
        })
    };
    // The root's, the one of the module's name, the one that listens.
    packages.sort_by_key(|package| {
        (package != ".", !package.ends_with(&format!("/{own}")), !serves(package), package.clone())
    });
    if packages.is_empty() {
        notes.push(
            "no source is `package main`: correct the package that the Dockerfile builds".into(),
        );
    }
    if let [taken, others @ ..] = packages.as_slice()
        && !others.is_empty()
    {
        notes.push(format!(
            "the image runs {taken}; there are also {}: correct the Dockerfile if it is another",
            others.join(", ")
        ));
    }
    if sources(tree).any(|(_, text)| text.lines().any(|line| line.trim() == "import \"C\"")) {
        notes.push("a source uses cgo, and the Dockerfile builds without: CGO_ENABLED=1 wants a C compiler, and a base with a C library".into());
    }
    Go {
        package: packages.first().cloned().unwrap_or_else(|| ".".into()),
        version: format!("{major}.{minor}"),
        vendored: tree.contains_key("vendor/modules.txt"),
    }
}

/// Whether a source is of a program, and of one that is built by default.
fn is_main(text: &str) -> bool {
    let ignored = text
        .lines()
        .any(|line| line.starts_with("//go:build ignore") || line.starts_with("// +build ignore"));
    !ignored && text.lines().any(|line| line.trim() == "package main")
}

pub fn image(go: &Go, port: u16, base: &str) -> String {
    let Go { package, vendored, .. } = go;
    let download = match vendored {
        true => "",
        false => {
            "COPY go.* ./
RUN --mount=type=cache,target=/go/pkg/mod \\
    go mod download
"
        }
    };
    format!(
        "
# build: one static program.
FROM {base} AS build
WORKDIR /src
{download}COPY . .
ENV CGO_ENABLED=0
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \\
    go build -trimpath -ldflags=\"-s -w\" -o /service {package}

# runtime: the program, and the certificates that it needs to call others.
FROM scratch AS runtime
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /service /service
ENV PORT={port}
USER 10001:10001
EXPOSE {port}
CMD [\"/service\"]
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_says_version_and_main_package() {
        let main = "package main\n";
        let cases: &[(&[(&str, &str)], &str, &str, usize)] = &[
            (
                &[("go.mod", "module x\n\ngo 1.27.1\n"), ("cmd/api/main.go", main)],
                "./cmd/api",
                "1.27",
                0,
            ),
            (
                &[("go.mod", "module x\ngo 1.21\n"), ("main.go", main), ("cmd/tool/main.go", main)],
                ".",
                "1.26",
                1,
            ),
            (
                &[("go.mod", "module x\ngo 1.26\ntoolchain go1.28.2\n"), ("main.go", main)],
                ".",
                "1.28",
                0,
            ),
            (
                &[
                    ("go.mod", "module o/api\ngo 1.27rc1\n"),
                    ("cmd/a/m.go", main),
                    ("cmd/api/m.go", main),
                ],
                "./cmd/api",
                "1.27",
                1,
            ),
            (
                &[
                    ("go.mod", "module x\ngo 1.26"),
                    ("cmd/a/m.go", main),
                    ("cmd/b/m.go", "package main\nhttp.ListenAndServe()"),
                ],
                "./cmd/b",
                "1.26",
                1,
            ),
            (
                &[("go.mod", "module x\ngo 1.26"), ("gen.go", "//go:build ignore\npackage main\n")],
                ".",
                "1.26",
                1,
            ),
            (
                &[("go.mod", "module x\ngo 1.26"), ("main.go", "package main\nimport \"C\"\n")],
                ".",
                "1.26",
                1,
            ),
        ];
        for (files, package, version, count) in cases {
            let tree =
                files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
            let mut notes = Vec::new();
            let go = read(&tree, &mut notes);
            assert_eq!(
                (go.package.as_str(), go.version.as_str(), notes.len()),
                (*package, *version, *count),
                "{files:?} {notes:?}"
            );
        }
    }
}
