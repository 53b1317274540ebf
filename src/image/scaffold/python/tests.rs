//! Python repositories of many shapes, and what is found in them.

use super::*;

const APP: &str = "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/healthz')\n";
const NAMED: &str = "[project]\nname='a'\ndependencies=['fastapi','uvicorn']\n";

fn told(files: &[(&str, &str)]) -> (Python, Vec<String>) {
    let tree = files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect();
    let mut notes = Vec::new();
    let python = read(&tree, false, &mut notes);
    (python, notes)
}

#[test]
fn the_installer_is_known_by_its_files() {
    let cases: &[(&[(&str, &str)], Installer, usize)] = &[
        (&[("pyproject.toml", NAMED), ("uv.lock", "")], Installer::Uv, 0),
        (&[("pyproject.toml", NAMED)], Installer::Uv, 1),
        (
            &[
                ("pyproject.toml", "[tool.poetry]\nname='a'\n# fastapi uvicorn"),
                ("poetry.lock", ""),
            ],
            Installer::Poetry,
            0,
        ),
        (
            &[("pyproject.toml", "[tool.pdm]\n# fastapi uvicorn"), ("pdm.lock", "")],
            Installer::Pdm,
            0,
        ),
        (&[("requirements.txt", "fastapi==1\nuvicorn==1")], Installer::Pip, 0),
        (&[("requirements.txt", "fastapi\nuvicorn")], Installer::Pip, 1),
        // A pyproject.toml that only configures tools.
        (
            &[("requirements.txt", "fastapi==1\nuvicorn"), ("pyproject.toml", "[tool.ruff]\n")],
            Installer::Pip,
            0,
        ),
        (
            &[("requirements.txt", "fastapi[standard]==1"), ("pyproject.toml", "[tool.ruff]\n")],
            Installer::Pip,
            0,
        ),
        (&[("requirements.txt", "fastapi==1")], Installer::Pip, 1),
        (&[("pyproject.toml", "[project\n# fastapi uvicorn"), ("uv.lock", "")], Installer::Uv, 1),
    ];
    for (files, installer, count) in cases {
        let mut files = files.to_vec();
        files.push(("app/main.py", APP));
        let (python, notes) = told(&files);
        assert_eq!((python.installer, notes.len()), (*installer, *count), "{files:?}: {notes:?}");
    }
}

#[test]
fn the_application_is_found() {
    let application = |name: &str| Start::Application(name.into());
    let factory = |name: &str| Start::Factory(name.into());
    let module = |name: &str| Start::Module(name.into());
    let make =
        "def create_app(debug: bool = False) -> FastAPI:\n    app = FastAPI()\n    return app\n";
    let cases: &[(&[(&str, &str)], Start, &[&str])] = &[
        (&[("app/main.py", APP)], application("app.main:app"), &["app"]),
        (&[("main.py", APP)], application("main:app"), &[]),
        (&[("src/a/api.py", APP), ("src/a/__init__.py", "")], application("a.api:app"), &["src"]),
        (&[("src/a/__init__.py", APP)], application("a:app"), &["src"]),
        (&[("web/__init__.py", APP)], application("web:app"), &[]),
        (
            &[("web/app.py", "import fastapi as f\napi: f.FastAPI = f.FastAPI(\n  x)\n")],
            application("web.app:api"),
            &[],
        ),
        (
            &[("app/main.py", APP), ("tests/main.py", "x = FastAPI()"), ("z.py", "")],
            application("app.main:app"),
            &["app"],
        ),
        (&[("a/other.py", APP), ("a/main.py", APP)], application("a.main:app"), &[]),
        // A package below a folder that is none: its imports begin at the package.
        (
            &[("backend/app/main.py", APP), ("backend/app/__init__.py", "")],
            application("app.main:app"),
            &["backend"],
        ),
        (&[("backend/app/main.py", APP)], application("backend.app.main:app"), &[]),
        (&[("a/web.py", make)], factory("a.web:create_app"), &[]),
        (&[("a/web.py", &format!("import x\n\n\n{make}"))], factory("a.web:create_app"), &[]),
        (
            &[("a/web.py", &make.replace("debug: bool = False", "\n    debug: bool,\n"))],
            module("a.main"),
            &[],
        ),
        // Told what to do by its own main function.
        (
            &[(
                "a/web.py",
                &format!("{}if __name__ == \"__main__\":\n", make.replace(" = False", "")),
            )],
            module("a.web"),
            &[],
        ),
        (&[("a/__main__.py", ""), ("a/__init__.py", "")], module("a"), &[]),
        (&[("job/main.py", "'/healthz'")], module("job.main"), &[]),
        // Routers only.
        (&[("main.py", "router = APIRouter()\n")], module("main"), &[]),
        (&[("main.py", "app = Starlette(routes)\n")], application("main:app"), &[]),
    ];
    for (files, start, roots) in cases {
        let mut files = files.to_vec();
        files.push(("requirements.txt", "fastapi==1\nuvicorn==1"));
        let (python, _) = told(&files);
        assert_eq!(
            (&python.start, python.roots.iter().map(String::as_str).collect()),
            (start, roots.to_vec()),
            "{files:?}"
        );
    }
}

#[test]
fn what_runs_is_copied_and_nothing_else() {
    let (python, notes) = told(&[
        ("requirements.txt", "-r requirements/base.txt\nfastapi==1"),
        ("requirements/base.txt", "uvicorn==1\n-c ../constraints.txt"),
        (
            "app/main.py",
            &format!(
                "{APP}templates = 'templates'\ncodes = 'data/codes.csv'\nrules = ROOT / \"rules\"\nconfigure(\"logging.yaml\")\n\
                 x = {{\"models\": 1}}\n"
            ),
        ),
        ("data/codes.csv", ""),
        ("rules/a.json", ""),
        ("logging.yaml", ""),
        ("models/a.bin", ""),
        ("deploy/x.yaml", ""),
        (".github/workflows/ci.yml", ""),
        ("templates/index.html", ""),
        ("static/x.css", ""),
        ("alembic.ini", ""),
        ("migrations/env.py", ""),
        ("tests/test_x.py", ""),
        ("conftest.py", ""),
        ("README.md", ""),
    ]);
    assert_eq!(
        python.sources,
        ["alembic.ini", "app", "data", "logging.yaml", "migrations", "rules", "templates"]
    );
    let unread: Vec<_> = notes
        .iter()
        .filter(|note| note.contains("the image has nothing of models, static, which"))
        .collect();
    assert_eq!(unread.len(), 1, "{notes:?}");
    assert_eq!(python.manifests, ["requirements.txt", "requirements/base.txt"]);
    assert_eq!(python.missing, [""; 0]);
}

#[test]
fn what_may_be_private_is_told_and_not_copied() {
    let names = [
        "credentials.json",
        "server.key",
        "app.sqlite3",
        "codes list.csv",
        "patients.csv",
        "export.parquet",
        "secrets/token.txt",
        "uploads/x.pdf",
        "local/x.json",
    ];
    let source = names.map(|name| format!("open('{name}')\n")).concat();
    let mut files =
        vec![("requirements.txt", "fastapi==1\nuvicorn==1"), ("icd.csv", ""), ("main.py", "")];
    files.push((".gitignore", "patients.csv\n*.parquet\n/local/\n"));
    files.extend(names.map(|name| (name, "")));
    let source = format!("{APP}{source}open('icd.csv')\n");
    files[2].1 = &source;
    let (python, notes) = told(&files);
    assert_eq!(python.sources, ["icd.csv", "main.py"]);
    let told = notes.iter().find(|note| note.contains("may be private")).expect("it is told");
    for name in names {
        assert!(told.contains(name.split('/').next().expect("a name")), "{name}: {told}");
    }
}

#[test]
fn what_the_service_needs_is_looked_for_in_the_lock_file() {
    // pyproject.toml's dependencies, the lock file, what is missing.
    let cases: &[(&str, &str, &[&str])] = &[
        ("'fastapi', 'uvicorn'", "", &[]),
        ("'fastapi'", "", &["uvicorn"]),
        ("'fastapi[standard]'", "", &[]),
        (
            "'fastapi'",
            "name = \"fastapi\"\nstandard = [\"uvicorn[standard] (>=0.12.0)\"]",
            &["uvicorn"],
        ),
        ("'ours'", "name = \"fastapi\"\nname = \"ours\"\nname = \"uvicorn\"", &[]),
    ];
    for (dependencies, lock, missing) in cases {
        let project = format!("[project]\nname='a'\ndependencies=[{dependencies}]\n");
        let (python, _) =
            told(&[("pyproject.toml", &project), ("uv.lock", lock), ("main.py", APP)]);
        assert_eq!(python.missing, *missing, "{dependencies} {lock}");
    }
}

#[test]
fn a_project_that_asks_for_itself_is_installed() {
    let built = "[project]\nname='a'\nreadme='README.md'\n[build-system]\nrequires=['hatchling']\n";
    let asks = "from importlib.metadata import version\n";
    let files = |project: &'static str, source: &'static str| {
        let files = [("pyproject.toml", project), ("README.md", ""), ("src/a/__init__.py", source)];
        told(&files).0.installed
    };
    assert_eq!(files(built, asks), Some(vec!["pyproject.toml".into(), "README.md".into()]));
    assert_eq!(files(built, ""), None);
    assert_eq!(files("[project]\nname='a'\n", asks), None);
    assert_eq!(
        files("[project]\nname='a'\n[tool.uv]\npackage=true\n", asks),
        Some(vec!["pyproject.toml".into()])
    );
    assert_eq!(files("[build-system]\n[tool.poetry]\npackage-mode=false\n", asks), None);
}

#[test]
fn the_python_fits_the_project() {
    for (range, expected) in [
        ("*", "3.13"),
        (">=3.9", "3.13"),
        (">=3.14", "3.14"),
        (">=3.11,<3.13", "3.12"),
        ("~=3.12.1", "3.12"),
        ("~=3.11", "3.13"),
        ("==3.11.*", "3.11"),
        ("^3.11", "3.13"),
        ("~3.12", "3.12"),
        ("3.12.*", "3.12"),
        ("!=3.13.*,>=3.11", "3.14"),
        (">3.13", "3.14"),
        ("<=3.12.9", "3.12"),
        ("^2.7 || ^3.12", "3.13"),
        (">=3", "3.13"),
        (">=3.16", "3.13"),
    ] {
        let project = format!("[project]\nname='a'\nrequires-python='{range}'\n");
        assert_eq!(
            told(&[("pyproject.toml", &project), ("uv.lock", "")]).0.version,
            expected,
            "{range}"
        );
    }
    let poetry = "[tool.poetry.dependencies]\npython = '>=3.11,<3.13'\n";
    assert_eq!(told(&[("pyproject.toml", poetry)]).0.version, "3.12");
    for (file, expected, count) in
        [("3.12\n", "3.12", 0), ("3.11.7", "3.11", 0), ("3.8", "3.13", 1), ("pypy3.10", "3.13", 0)]
    {
        let (python, notes) =
            told(&[("requirements.txt", "x==1"), ("main.py", APP), (".python-version", file)]);
        let about = notes.iter().filter(|note| note.contains(".python-version")).count();
        assert_eq!((python.version.as_str(), about), (expected, count), "{file}: {notes:?}");
    }
}
