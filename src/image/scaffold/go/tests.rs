//! Go modules of many shapes, and what is found in them.

use super::*;

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
}

#[test]
fn the_module_says_version_and_main_package() {
    struct Case {
        files: &'static [(&'static str, &'static str)],
        package: &'static str,
        version: &'static str,
        is_guess: bool,
    }
    let main = "package main\n";
    let serving = "package main\nfunc main() { http.ListenAndServe(\":1234\", nil) }\n";
    let cases = [
        Case {
            files: &[("go.mod", "module x\n\ngo 1.27.1\n"), ("cmd/api/main.go", "package main\n")],
            package: "./cmd/api",
            version: "1.27",
            is_guess: false,
        },
        Case {
            files: &[
                ("go.mod", "module x\ngo 1.21\n"),
                ("main.go", "package main\n"),
                ("cmd/tool/main.go", "package main\n"),
            ],
            package: ".",
            version: "1.26",
            is_guess: false,
        },
        Case {
            files: &[
                ("go.mod", "module x\ngo 1.26\ntoolchain go1.28.2\n"),
                ("main.go", "package main\n"),
            ],
            package: ".",
            version: "1.28",
            is_guess: false,
        },
        Case {
            files: &[
                ("go.mod", "module o/api/v2\ngo 1.27rc1\n"),
                ("cmd/a/m.go", "package main\n"),
                ("cmd/api/m.go", "package main\n"),
            ],
            package: "./cmd/api",
            version: "1.27",
            is_guess: false,
        },
        Case {
            files: &[
                ("go.mod", "module x\ngo 1.26"),
                ("cmd/a/m.go", "package main\n"),
                (
                    "cmd/b/m.go",
                    "package main\nfunc main() { http.ListenAndServe(\":1234\", nil) }\n",
                ),
            ],
            package: "./cmd/b",
            version: "1.26",
            is_guess: false,
        },
        Case {
            files: &[
                ("go.mod", "module x\ngo 1.26"),
                ("cmd/a/m.go", "package main\n"),
                ("cmd/b/m.go", "package main\n"),
            ],
            package: "./cmd/a",
            version: "1.26",
            is_guess: true,
        },
    ];
    assert!(serving.starts_with(main));
    for Case { files, package, version, is_guess } in cases {
        let (go, _) = read_project(&tree(files), &[], &mut Vec::new()).expect("a program");
        assert_eq!(
            (go.package.value.as_str(), go.version.as_str(), go.package.is_guess()),
            (package, version, is_guess),
            "{files:?}"
        );
    }
}

#[test]
fn what_cannot_be_built_is_refused() {
    let module = "module x\ngo 1.26\n";
    let cases: &[&[(&str, &str)]] = &[
        &[("go.mod", module), ("gen.go", "//go:build ignore\npackage main\n")],
        &[("go.mod", module), ("main.go", "package main\n\nimport \"C\"\n")],
        &[
            ("go.mod", "module x\nrequire github.com/mattn/go-sqlite3 v1.14.0\n"),
            ("main.go", "package main\n"),
        ],
        &[("go.mod", "module x\nreplace a => ../a\n"), ("main.go", "package main\n")],
    ];
    for files in cases {
        read_project(&tree(files), &[], &mut Vec::new()).expect_err("it is refused");
    }
    let member = tree(&[
        ("go.mod", "module o/mono/api\nrequire o/mono/lib v0.0.0\n"),
        ("main.go", "package main\n"),
    ]);
    let work = "go 1.26\n\nuse (\n\t./api // x\n\t./lib\n)\n";
    let above = Above {
        path: "..".into(),
        below: "api".into(),
        files: tree(&[("go.work", work)]),
        ..Above::default()
    };
    read_project(&member, std::slice::from_ref(&above), &mut Vec::new()).expect_err("it needs lib");
    let alone = tree(&[("go.mod", "module o/mono/api\n"), ("main.go", "package main\n")]);
    read_project(&alone, &[above], &mut Vec::new()).expect("it needs nobody");
}

#[test]
fn dependencies_come_in_the_way_the_repository_has_them() {
    let download = |files: &[(&str, &str)]| {
        let mut files = files.to_vec();
        files.push(("main.go", "package main\n"));
        read_project(&tree(&files), &[], &mut Vec::new()).expect("a program").0.download
    };
    assert_eq!(download(&[("go.mod", "module x\n")]), Download::ByModule(vec![]));
    assert_eq!(
        download(&[("go.mod", "module x\nreplace a v1 => ./lib/a // x\n")]),
        Download::ByModule(vec!["lib/a".into()])
    );
    assert_eq!(
        download(&[("go.mod", "module x\n"), ("go.work", "use .\n")]),
        Download::WithSources
    );
    assert_eq!(
        download(&[("go.mod", "module x\n"), ("vendor/modules.txt", "")]),
        Download::Vendored
    );
}

#[test]
fn the_sources_say_health_mode_and_port() {
    struct Case {
        text: &'static str,
        health: Option<&'static str>,
        mode: Option<(&'static str, &'static str)>,
        port: Option<u16>,
    }
    let case = |text, health, mode, port| Case { text, health, mode, port };
    let cases = [
        case("", None, None, None),
        case("// \"/healthz\" os.Getenv(\"APP_ENV\") :8080", None, None, None),
        case(
            "func f() { http.HandleFunc(\"/health\", h); os.Getenv(\"APP_ENV\") }",
            Some("/health"),
            Some(("APP_ENV", "debug")),
            None,
        ),
        case(
            "func f() { if os.Getenv(\"ENVIRONMENT\") == \"development\" {} }",
            None,
            Some(("ENVIRONMENT", "development")),
            None,
        ),
        case(
            "type C struct { AppEnv string `env:\"APP_ENV\"` }\nfunc f(c C) { switch c.AppEnv { \
             case \"dev\", \"prod\": } }",
            None,
            Some(("APP_ENV", "dev")),
            None,
        ),
        case("func f() { http.ListenAndServe(\":8080\", nil) }", None, None, Some(8080)),
        case("var s = http.Server{Addr: \"0.0.0.0:9090\"}", None, None, Some(9090)),
        case("var p = env(\"PORT\", \"3000\")", None, None, Some(3000)),
        case(
            "func f() { p := flag.Int(\"port\", 9898, \"x\"); \
             http.ListenAndServe(fmt.Sprintf(\":%d\", *p), nil) }",
            None,
            None,
            Some(9898),
        ),
        case(
            "func f() { port := os.Getenv(\"PORT\"); if port == \"\" { port = \"7070\" }; \
             http.ListenAndServe(\":\"+port, nil) }",
            None,
            None,
            Some(7070),
        ),
        case(
            "type C struct { Port int `env:\"PORT\" envDefault:\"6060\"` }",
            None,
            None,
            Some(6060),
        ),
        case("func f() { viper.SetDefault(\"metrics_port\", 9100) }", None, None, None),
    ];
    for Case { text, health, mode, port } in cases {
        let files = tree(&[
            ("go.mod", "module x\ngo 1.26\n"),
            ("main.go", &format!("package main\n{text}\n")),
        ]);
        let found = read_sources(&files);
        assert_eq!(found.health.map(|fact| fact.value).as_deref(), health, "{text}");
        assert_eq!(found.port.map(|fact| fact.value), port, "{text}");
        let seen = found.mode.map(|fact| (fact.value.variable, fact.value.debug));
        let seen = seen.as_ref().map(|(variable, debug)| (variable.as_str(), debug.as_str()));
        assert_eq!(seen, mode, "{text}");
    }
}

#[test]
fn files_beside_the_program_are_copied() {
    let files = tree(&[
        ("go.mod", "module x\n"),
        (
            "main.go",
            "package main\n\nimport \"templates/x\"\n\n//go:embed public\nvar public embed.FS\n\n\
             func main() {\n\ttemplate.ParseGlob(\"templates/*\")\n\thttp.Dir(\"./assets\")\n\
             \tmigrate(\"file://migrations\")\n\thttp.Handle(\"/static/\", \
             x)\n\topen(\"uploads/x\")\n\
             \tsub(public, \"public/a\")\n\ttime.LoadLocation(\"Europe/Berlin\")\n}\n",
        ),
        ("templates/a.html", ""),
        ("assets/a.css", ""),
        ("migrations/1.sql", ""),
        ("static/a.css", ""),
        ("public/a", ""),
        ("uploads/x", ""),
    ]);
    let mut notes = Vec::new();
    let (go, _) = read_project(&files, &[], &mut notes).expect("a program");
    let names: Vec<&str> = go.files.iter().map(|file| file.value.as_str()).collect();
    assert_eq!(names, ["templates", "assets", "migrations"]);
    assert!(notes.iter().any(|note| note.contains("static")), "{notes:?}");
    assert!(notes.iter().any(|note| note.contains("uploads, which")), "{notes:?}");
    let image = write_image(&go, 8000, "golang:1.26");
    assert!(image.contains("COPY --from=build /src/templates templates\n"), "{image}");
    assert!(image.contains("-tags timetzdata"), "{image}");
}
