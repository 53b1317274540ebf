//! Python repositories of many shapes, and what is found in them.

use super::*;

const APP: &str =
    "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/healthz')\ndef health(): ...\n";
const NAMED: &str = "[project]\nname='a'\ndependencies=['fastapi','uvicorn']\n";

fn tree(files: &[(&str, &str)]) -> Tree {
    files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect()
}

fn told(files: &[(&str, &str)]) -> (Python, Vec<String>) {
    let mut notes = Vec::new();
    let (python, _) = read_project(&tree(files), &[], false, &mut notes).expect("a project");
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
    let wsgi = |name: &str| Start::Wsgi(name.into());
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
            &[
                ("a/web.py", &make.replace("debug: bool = False", "\n    debug: bool,\n")),
                ("a/main.py", ""),
            ],
            module("a.main"),
            &[],
        ),
        // Flask and Django are run by gunicorn; a part of an application is none.
        (&[("web.py", "app = Flask(__name__)\n")], wsgi("web:app"), &[]),
        (
            &[("hello/app.py", "def create_app():\n    app = Flask(__name__)\n    return app\n")],
            wsgi("hello.app:create_app()"),
            &[],
        ),
        (
            &[
                ("hello/app.py", "def create_app():\n    app = Flask(__name__)\n    return app\n"),
                ("wsgi.py", "from hello.app import create_app\napp = create_app()\n"),
            ],
            wsgi("wsgi:app"),
            &[],
        ),
        (
            &[
                ("manage.py", "if __name__ == \"__main__\":\n    main()\n"),
                ("site/asgi.py", "application = get_asgi_application()\n"),
                ("site/wsgi.py", "application = get_wsgi_application()\n"),
            ],
            wsgi("site.wsgi:application"),
            &[],
        ),
        (
            &[("main.py", "api = FastAPI()\nweb = FastAPI()\nweb.mount('/api', api)\n")],
            application("main:web"),
            &[],
        ),
        (
            &[("a.py", APP), ("b.py", APP), ("Procfile", "web: uvicorn b:app --port $PORT\n")],
            application("b:app"),
            &[],
        ),
        // Told what to do by its own main function.
        (
            &[(
                "a/web.py",
                &format!("{}if __name__ == \"__main__\":\n    x()\n", make.replace(" = False", "")),
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
            (&python.start.value, python.roots.iter().map(String::as_str).collect()),
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
                "{APP}templates = 'templates'\ncodes = 'data/codes.csv'\nrules = ROOT / \"rules\"\n\
                 configure(\"logging.yaml\")\nx = {{\"models\": 1}}\n# 'static/x'\n"
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
        let files = [
            ("pyproject.toml", project),
            ("README.md", ""),
            ("src/a/__init__.py", source),
            ("src/a/__main__.py", ""),
        ];
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
            told(&[("pyproject.toml", &project), ("uv.lock", ""), ("main.py", "")]).0.version,
            expected,
            "{range}"
        );
    }
    let poetry = "[tool.poetry.dependencies]\npython = '>=3.11,<3.13'\n";
    assert_eq!(told(&[("pyproject.toml", poetry), ("main.py", "")]).0.version, "3.12");
    for (file, expected, count) in
        [("3.12\n", "3.12", 0), ("3.11.7", "3.11", 0), ("3.8", "3.13", 1), ("pypy3.10", "3.13", 0)]
    {
        let (python, notes) =
            told(&[("requirements.txt", "x==1"), ("main.py", APP), (".python-version", file)]);
        let about = notes.iter().filter(|note| note.contains(".python-version")).count();
        assert_eq!((python.version.as_str(), about), (expected, count), "{file}: {notes:?}");
    }
}

#[test]
fn paths_are_whole() {
    let pins = ("requirements.txt", "fastapi==1\nuvicorn==1");
    let cases: &[(&[(&str, &str)], Option<&str>, bool)] = &[
        (&[("main.py", APP)], Some("/healthz"), false),
        (
            &[
                ("app/__init__.py", ""),
                (
                    "app/main.py",
                    "app = FastAPI()\nfrom app import health\n\
                  app.include_router(health.router)\n",
                ),
                (
                    "app/health.py",
                    "router = APIRouter(prefix='/health')\n\n@router.get('/')\n\
                  def f(): ...\n",
                ),
            ],
            Some("/health/"),
            false,
        ),
        (
            &[
                ("app/__init__.py", ""),
                (
                    "app/main.py",
                    "from .api import api\nfrom .core import settings\napp = FastAPI()\n\
                  app.include_router(api, prefix=settings.API_V1_STR)\n",
                ),
                (
                    "app/core.py",
                    "class Settings(BaseSettings):\n    API_V1_STR: str = '/api/v1'\n\n\
                  settings = Settings()\n",
                ),
                (
                    "app/api/__init__.py",
                    "from .utils import r\napi = APIRouter()\n\
                  api.include_router(r)\n",
                ),
                (
                    "app/api/utils.py",
                    "r = APIRouter(prefix='/utils')\n\n@r.get('/health-check/')\n\
                  def f(): ...\n",
                ),
            ],
            Some("/api/v1/utils/health-check/"),
            false,
        ),
        (
            &[(
                "main.py",
                "app = FastAPI()\napi = FastAPI()\n\n@api.get('/healthcheck')\n\
               def f(): ...\n\napp.mount('/api/v1', app=api)\n",
            )],
            Some("/api/v1/healthcheck"),
            false,
        ),
        (
            &[(
                "main.py",
                "app = FastAPI()\n@app.get('/items')\ndef f():\n    \
               return httpx.get('http://stock' + '/status')\n",
            )],
            None,
            false,
        ),
        (
            &[
                (
                    "main.py",
                    "import routes\napp = FastAPI()\nfor r in routes.all:\n    \
                  app.include_router(r)\n",
                ),
                ("routes.py", "a = APIRouter()\n@a.get('/health')\ndef f(): ...\nall = [a]\n"),
            ],
            Some("/health"),
            true,
        ),
        (
            &[(
                "web.py",
                "def create_app():\n    app = Flask(__name__)\n    \
               app.register_blueprint(bp, url_prefix='/x')\n    return app\n\n\
               bp = Blueprint('bp', __name__)\n\n@bp.route('/up')\ndef up(): ...\n",
            )],
            Some("/x/up"),
            false,
        ),
        (
            &[(
                "main.py",
                "app = Starlette(routes=[Mount('/a', routes=[Route('/healthz', f)])])\n",
            )],
            Some("/a/healthz"),
            false,
        ),
        (
            &[
                (
                    "site/wsgi.py",
                    "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site.settings')\n\
                  application = get_wsgi_application()\n",
                ),
                ("site/settings.py", "ROOT_URLCONF = 'site.urls'\n"),
                ("site/urls.py", "urlpatterns = [path('api/', include('web.urls'))]\n"),
                ("web/urls.py", "urlpatterns = [path('health/', view)]\n"),
            ],
            Some("/api/health/"),
            false,
        ),
        (
            &[(
                "main.py",
                "class H:\n    def do_GET(self):\n        if self.path == '/healthz': \
               pass\nif __name__ == '__main__':\n    run()\n",
            )],
            Some("/healthz"),
            false,
        ),
        (&[("main.py", "app = FastAPI()\n@app.get('/')\ndef f(): ...\n")], Some("/"), true),
        (&[("main.py", APP), ("other.py", "# nobody imports it")], Some("/healthz"), false),
        // A function is given the router, and makes the application.
        (
            &[
                ("app/__init__.py", ""),
                (
                    "app/main.py",
                    "from .api import router\nfrom .setup import make\n\
                  app = make(router=router)\n",
                ),
                (
                    "app/api.py",
                    "router = APIRouter(prefix='/api')\n@router.get('/health')\n\
                  def f(): ...\n",
                ),
                (
                    "app/setup.py",
                    "def make(router) -> FastAPI:\n    a = FastAPI()\n    \
                  a.include_router(router)\n    return a\n",
                ),
            ],
            Some("/api/health"),
            false,
        ),
        (
            &[
                ("main.py", "from lib.setup import add\napp = FastAPI()\nadd(app)\n"),
                ("lib/__init__.py", ""),
                (
                    "lib/setup.py",
                    "def add(web):\n    web.include_router(r, prefix='/a')\n\n\
                  r = APIRouter()\n@r.get('/up')\ndef f(): ...\n",
                ),
            ],
            Some("/a/up"),
            false,
        ),
    ];
    for (files, path, is_guess) in cases {
        let mut files = files.to_vec();
        files.push(pins);
        let (_, facts) =
            read_project(&tree(&files), &[], false, &mut Vec::new()).expect("a project");
        assert_eq!(facts.health.as_ref().map(|fact| fact.value.as_str()), *path, "{files:?}");
        assert_eq!(facts.health.is_some_and(|fact| fact.is_guess()), *is_guess, "{files:?}");
    }
}

#[test]
fn settings_say_the_mode_and_its_values() {
    let cases: &[(&str, Option<(&str, &str, &str)>, bool)] = &[
        ("", None, false),
        ("# APP_ENV = 'debug'", None, false),
        (
            "class AppEnv(str, Enum):\n    prod = 'prod'\n    dev = 'dev'\n\n\n\
             class S(BaseSettings):\n    app_env: AppEnv = AppEnv.prod\n",
            Some(("APP_ENV", "dev", "prod")),
            false,
        ),
        (
            "class S(BaseSettings):\n    ENVIRONMENT: Literal['local', 'staging', 'production'] = \
             'local'\n",
            Some(("ENVIRONMENT", "local", "production")),
            false,
        ),
        (
            "class Env(StrEnum):\n    DEVELOPMENT = auto()\n    PRODUCTION = auto()\n\n\
             class Base(BaseSettings):\n    x: int = 1\n\nclass S(Base):\n    \
             model_config = SettingsConfigDict(env_prefix='APP_')\n    env: Env\n",
            Some(("APP_ENV", "development", "production")),
            false,
        ),
        (
            "class S(BaseSettings):\n    e: str = Field('x', validation_alias='APP_MODE')\n",
            Some(("APP_MODE", "debug", "production")),
            true,
        ),
        ("class S(BaseModel):\n    app_env: str\n", None, false),
        (
            "if os.environ.get('APP_ENV', 'production') == 'development': ...\n",
            Some(("APP_ENV", "development", "production")),
            false,
        ),
        (
            "ENVIRONMENT = os.environ['ENVIRONMENT']\nif ENVIRONMENT == 'dev': ...\n",
            Some(("ENVIRONMENT", "dev", "production")),
            false,
        ),
    ];
    for (text, mode, is_guess) in cases {
        let text = format!("app = FastAPI()\n{text}");
        let files = [("requirements.txt", "fastapi==1\nuvicorn==1"), ("main.py", text.as_str())];
        let (_, facts) =
            read_project(&tree(&files), &[], false, &mut Vec::new()).expect("a project");
        let seen = facts.mode.as_ref().map(|fact| {
            let mode = &fact.value;
            (mode.variable.as_str(), mode.debug.as_str(), mode.production.as_str())
        });
        assert_eq!(seen, *mode, "{text}");
        assert_eq!(facts.mode.is_some_and(|fact| fact.is_guess()), *is_guess, "{text}");
    }
}

#[test]
fn a_program_says_its_port() {
    for (text, port) in [
        ("uvicorn.run('main:app', port=8080)", Some(8080)),
        ("uvicorn.run(app, port=int(os.environ.get('PORT', 8081)))", Some(8081)),
        ("HTTPServer(('0.0.0.0', 8082), H)", Some(8082)),
        ("PORT = int(os.getenv('PORT', '8083'))\nweb.run_app(x, port=PORT)", Some(8083)),
        ("# port=8084", None),
    ] {
        let text = format!("{text}\nif __name__ == '__main__':\n    x()\n");
        let facts = read_sources(&tree(&[("main.py", &text)]));
        assert_eq!(facts.port.map(|fact| fact.value), port, "{text}");
    }
}

#[test]
fn a_project_without_an_entry_is_refused() {
    let files = [("requirements.txt", "alembic==1"), ("alembic.ini", ""), ("db/env.py", "x = 1\n")];
    read_project(&tree(&files), &[], false, &mut Vec::new()).expect_err("nothing serves");
}

#[test]
fn requirements_in_a_folder_are_found() {
    let files = [
        ("pyproject.toml", "[tool.ruff]\n"),
        ("requirements/production.txt", "-r base.txt\ngunicorn==1\n"),
        ("requirements/base.txt", "flask==1\n"),
        ("web.py", "app = Flask(__name__)\n"),
    ];
    let (python, _) = told(&files);
    assert_eq!(python.installer, Installer::Pip);
    assert_eq!(python.manifests, ["requirements/production.txt", "requirements/base.txt"]);
    let (dockerfile, _) = write_image(&python, 8000, "python:3.13-slim");
    assert!(dockerfile.contains("pip install -r requirements/production.txt\n"), "{dockerfile}");
    read_project(&tree(&files[..1]), &[], false, &mut Vec::new()).expect_err("no dependencies");
}
