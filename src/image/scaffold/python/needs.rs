//! What dependencies of a Python project need that no index of Python has: libraries of the
//! system, a compiler, somebody's own index. Pure.

use super::super::tree::Tree;

/// The packages of Debian that a stage installs, in order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SystemPackages {
    /// For the stage that installs the dependencies.
    pub build: Vec<&'static str>,
    pub runtime: Vec<&'static str>,
}

impl SystemPackages {
    fn add(&mut self, one: &Library) {
        for (own, new) in [(&mut self.build, one.build), (&mut self.runtime, one.runtime)] {
            own.extend(new);
            own.sort_unstable();
            own.dedup();
        }
    }

    /// The instruction that installs them; nothing if there are none.
    pub fn write_install(packages: &[&str]) -> String {
        if packages.is_empty() {
            return String::new();
        }
        format!(
            "# hadolint ignore=DL3008
RUN apt-get update && \\
    apt-get install -y --no-install-recommends {} && \\
    rm -rf /var/lib/apt/lists/*
",
            packages.join(" ")
        )
    }
}

/// A dependency that is compiled when it is installed, or loads a library of the system.
struct Library {
    package: &'static str,
    /// A dependency that brings all of it.
    instead: &'static str,
    build: &'static [&'static str],
    runtime: &'static [&'static str],
}

const LIBRARIES: [Library; 10] = [
    Library {
        package: "psycopg2",
        instead: "psycopg2-binary",
        build: &["gcc", "libc6-dev", "libpq-dev"],
        runtime: &["libpq5"],
    },
    Library { package: "psycopg", instead: "psycopg-binary", build: &[], runtime: &["libpq5"] },
    Library {
        package: "psycopg-c",
        instead: "psycopg-binary",
        build: &["gcc", "libc6-dev", "libpq-dev"],
        runtime: &["libpq5"],
    },
    Library {
        package: "mysqlclient",
        instead: "pymysql",
        build: &["default-libmysqlclient-dev", "gcc", "libc6-dev", "pkg-config"],
        runtime: &["libmariadb3"],
    },
    Library {
        package: "python-ldap",
        instead: "ldap3",
        build: &["gcc", "libc6-dev", "libldap2-dev", "libsasl2-dev"],
        runtime: &["libldap2", "libsasl2-2"],
    },
    Library { package: "uwsgi", instead: "gunicorn", build: &["gcc", "libc6-dev"], runtime: &[] },
    Library {
        package: "weasyprint",
        instead: "",
        build: &[],
        runtime: &["libpango-1.0-0", "libpangoft2-1.0-0"],
    },
    Library { package: "python-magic", instead: "", build: &[], runtime: &["libmagic1"] },
    Library {
        package: "opencv-python",
        instead: "opencv-python-headless",
        build: &[],
        runtime: &["libgl1", "libglib2.0-0"],
    },
    Library {
        package: "pycairo",
        instead: "",
        build: &["gcc", "libc6-dev", "libcairo2-dev", "pkg-config"],
        runtime: &["libcairo2"],
    },
];

/// The names of the dependencies, as an index writes them: of the lock file, else of what is asked
/// for.
pub fn list_names(tree: &Tree, manifests: &[String]) -> Vec<String> {
    let (locks, others): (Vec<&String>, Vec<&String>) =
        manifests.iter().partition(|file| file.ends_with(".lock"));
    let text = |file: &String| tree.get(file).map(String::as_str).unwrap_or_default();
    let locked: Vec<String> = locks
        .into_iter()
        .flat_map(|file| text(file).lines())
        .filter_map(|line| line.strip_prefix("name = \""))
        .filter_map(|rest| rest.split('"').next())
        .map(normalize_name)
        .collect();
    if !locked.is_empty() {
        return locked;
    }
    // A requirement is a word of its own, in quotes in pyproject.toml.
    let words = others.into_iter().flat_map(|file| text(file).lines()).flat_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let parts: Vec<&str> = match line.contains('"') || line.contains('\'') {
            true => line.split(['"', '\'']).skip(1).step_by(2).collect(),
            false => vec![line],
        };
        parts
    });
    words
        .flat_map(|word| {
            let end = |c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c);
            let word = word.trim();
            let name = word.split(end).next().unwrap_or_default();
            let extra = word[name.len()..].strip_prefix('[').and_then(|it| it.split(']').next());
            let extras = extra.map_or(Vec::new(), |extra| extra.split(',').collect());
            // psycopg[binary] brings psycopg-binary.
            let brought = extras.into_iter().map(|extra| format!("{name}-{}", extra.trim()));
            let all: Vec<String> = std::iter::once(name.to_string()).chain(brought).collect();
            all
        })
        .filter(|name| !name.is_empty())
        .map(|name| normalize_name(&name))
        .collect()
}

/// <https://packaging.python.org/en/latest/specifications/name-normalization/>
fn normalize_name(name: &str) -> String {
    name.to_lowercase().replace(['_', '.'], "-")
}

/// The packages of the system that the dependencies need; what a person has to know of them is
/// noted.
pub fn find_packages(names: &[String], notes: &mut Vec<String>) -> SystemPackages {
    let has = |name: &str| names.iter().any(|own| own == name);
    let mut found = SystemPackages::default();
    for one in &LIBRARIES {
        if !has(one.package) || !one.instead.is_empty() && has(one.instead) {
            continue;
        }
        found.add(one);
        let instead = match one.instead {
            "" => String::new(),
            instead => format!("; {instead} needs nothing of the kind"),
        };
        let all: Vec<&str> = one.build.iter().chain(one.runtime).copied().collect();
        notes.push(format!(
            "{} needs what Python's slim image lacks: the Dockerfile installs {}{instead}",
            one.package,
            all.join(", ")
        ));
    }
    found
}

/// Says that dependencies come from an index that may want credentials.
pub fn note_index(tree: &Tree, manifests: &[String], notes: &mut Vec<String>) {
    let starts = ["--index-url", "--extra-index-url", "-i "];
    for file in manifests.iter().filter(|file| !file.ends_with(".lock")) {
        let text = tree.get(file).map(String::as_str).unwrap_or_default();
        let mut table = "";
        for (line, one) in (1..).zip(text.lines().map(str::trim)) {
            if one.starts_with('[') {
                table = one;
            }
            let is_source = ["[[tool.uv.index]]", "[[tool.poetry.source]]", "[[tool.pdm.source]]"]
                .contains(&table);
            let is_index = starts.iter().any(|start| one.starts_with(start))
                || is_source && one.starts_with("url");
            if !is_index || one.contains("pypi.org") || one.contains("download.pytorch.org") {
                continue;
            }
            notes.push(format!(
                "{file}:{line} names an index of its own: where it wants credentials, hand them to \
                 the build by `build-secrets` of service.yaml, and mount them where the Dockerfile \
                 installs: `RUN --mount=type=secret,id=…`"
            ));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_of_the_system_are_installed_where_they_are_needed() {
        struct Case {
            file: &'static str,
            text: &'static str,
            build: &'static [&'static str],
            runtime: &'static [&'static str],
        }
        let case = |file, text, build, runtime| Case { file, text, build, runtime };
        let cases = [
            case("requirements.txt", "fastapi==1\n# psycopg2\npsycopg2-binary==2\n", &[], &[]),
            case(
                "requirements.txt",
                "Psycopg2>=2.9 # the driver\n",
                &["gcc", "libc6-dev", "libpq-dev"],
                &["libpq5"],
            ),
            case("requirements.txt", "psycopg[binary,pool]==3\n", &[], &[]),
            case("requirements.txt", "psycopg[pool]==3\n", &[], &["libpq5"]),
            case("pyproject.toml", "dependencies = [\"python_magic>=0.4\"]\n", &[], &["libmagic1"]),
            case("uv.lock", "name = \"psycopg\"\nname = \"psycopg-binary\"\n", &[], &[]),
            case("poetry.lock", "name = \"uwsgi\"\n", &["gcc", "libc6-dev"], &[]),
        ];
        for Case { file, text, build, runtime } in cases {
            let tree = Tree::from([(file.to_string(), text.to_string())]);
            let names = list_names(&tree, &[file.to_string()]);
            let mut notes = Vec::new();
            let found = find_packages(&names, &mut notes);
            assert_eq!((&*found.build, &*found.runtime), (build, runtime), "{text}");
            assert_eq!(notes.is_empty(), runtime.is_empty() && build.is_empty(), "{text}");
        }
    }

    #[test]
    fn an_index_of_ones_own_is_said() {
        for (file, text, said) in [
            ("requirements.txt", "--index-url https://pypi.org/simple\n", false),
            ("requirements.txt", "x\n--extra-index-url https://pypi.acme.example/simple\n", true),
            ("pyproject.toml", "[[tool.uv.index]]\nurl = \"https://pypi.acme.example\"\n", true),
            ("pyproject.toml", "[project.urls]\nurl = \"https://acme.example\"\n", false),
        ] {
            let tree = Tree::from([(file.to_string(), text.to_string())]);
            let mut notes = Vec::new();
            note_index(&tree, &[file.to_string()], &mut notes);
            assert_eq!(!notes.is_empty(), said, "{text}");
        }
    }
}
