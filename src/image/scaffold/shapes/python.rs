//! Python repositories of public shapes, and what is found in them.

use super::{Shape, shape};

pub const SHAPES: &[Shape] = &[
    // Redis client before run_app.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import redis\nfrom aiohttp import web\nr = redis.Redis(host='x', port=6379)\napp = web.Application()\nif __name__ == '__main__':\n    web.run_app(app, port=9000)\n",
            ),
        ],
        &["port 9000"],
    ),
    // Aiohttp default.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from aiohttp import web\nasync def h(r): ...\napp = web.Application()\napp.router.add_get('/healthz', h)\nif __name__ == '__main__':\n    web.run_app(app)\n",
            ),
        ],
        &["port 8080", "health path /healthz"],
    ),
    // Argparse.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import argparse, http.server\ndef main():\n    p = argparse.ArgumentParser()\n    p.add_argument('--port', type=int, default=9001)\n    a = p.parse_args()\n    http.server.HTTPServer(('', a.port), H).serve_forever()\nif __name__ == '__main__':\n    main()\n",
            ),
        ],
        &["port 9001"],
    ),
    // Click.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import click\nfrom waitress import serve\nfrom x import make\n@click.command()\n@click.option('--port', default=9002)\ndef main(port):\n    serve(make(), host='0.0.0.0', port=port)\nif __name__ == '__main__':\n    main()\n",
            ),
            ("x.py", "def make(): ...\n"),
        ],
        &["port 9002"],
    ),
    // Smtp port keyword.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import smtplib\nfrom http.server import HTTPServer\ns = smtplib.SMTP('x', port=587)\nHTTPServer(('', 9003), H).serve_forever()\nif __name__ == '__main__':\n    pass\n",
            ),
        ],
        &["port 9003"],
    ),
    // Tornado listen.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import tornado.web, asyncio\nasync def main():\n    app = tornado.web.Application([(r'/healthz', H)])\n    app.listen(8888)\n    await asyncio.Event().wait()\nif __name__ == '__main__':\n    asyncio.run(main())\n",
            ),
        ],
        &["port 8888"],
    ),
    // Environs int.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from environs import Env\nfrom aiohttp import web\nenv = Env()\nPORT = env.int('PORT', 9004)\nif __name__ == '__main__':\n    web.run_app(make(), port=PORT)\n",
            ),
        ],
        &["port 9004"],
    ),
    // Websockets only.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import asyncio, websockets\nasync def h(ws): ...\nasync def main():\n    async with websockets.serve(h, '0.0.0.0', 8765):\n        await asyncio.Future()\nif __name__ == '__main__':\n    asyncio.run(main())\n",
            ),
        ],
        &["port 8765", "? health path"],
    ),
    // Unknown value is a guess.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import os, redis\nfrom aiohttp import web\nr = redis.Redis(port=6379)\nif __name__ == '__main__':\n    web.run_app(make(), port=int(os.environ['PORT']))\n",
            ),
        ],
        &["? port"],
    ),
    // Port from settings class.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import uvicorn\nfrom cfg import settings\nfrom srv import make\nif __name__ == '__main__':\n    uvicorn.run(make(), port=settings.port)\n",
            ),
            (
                "cfg.py",
                "from pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n    port: int = 9005\nsettings = Settings()\n",
            ),
            ("srv.py", "def make(): ...\n"),
        ],
        &["port 9005"],
    ),
    // Literal alias.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nStage = Literal['local', 'prod']\nclass C(BaseSettings):\n    environment: Stage = 'local'\ns = C()\n",
            ),
        ],
        &["mode ENVIRONMENT (local, prod)"],
    ),
    // Type statement.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\ntype Stage = Literal['dev', 'live']\nclass C(BaseSettings):\n    app_env: Stage = 'dev'\ns = C()\n",
            ),
        ],
        &["mode APP_ENV (dev, live)"],
    ),
    // AliasChoices.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nclass C(BaseSettings):\n    stage: Literal['dev','prod'] = Field('dev', validation_alias=AliasChoices('APP_ENV', 'ENV'))\ns = C()\n",
            ),
        ],
        &["mode APP_ENV (dev, prod)"],
    ),
    // Annotated alias.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nfrom typing import Annotated\nclass C(BaseSettings):\n    e: Annotated[Literal['dev','prod'], Field(alias='APP_ENV')] = 'dev'\ns = C()\n",
            ),
        ],
        &["mode APP_ENV (dev, prod)"],
    ),
    // Env_prefix.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nclass C(BaseSettings):\n    model_config = SettingsConfigDict(env_prefix='SHOP_')\n    env: Literal['dev','prod'] = 'dev'\ns = C()\n",
            ),
        ],
        &["mode SHOP_ENV (dev, prod)"],
    ),
    // Nested.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nclass A(BaseModel):\n    env: Literal['dev','prod'] = 'dev'\nclass C(BaseSettings):\n    model_config = SettingsConfigDict(env_nested_delimiter='__')\n    app: A = A()\ns = C()\n",
            ),
        ],
        &["mode APP__ENV (dev, prod)"],
    ),
    // Pattern.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nclass C(BaseSettings):\n    app_env: str = Field('dev', pattern='^(dev|prod)$')\ns = C()\n",
            ),
        ],
        &["mode APP_ENV (dev, prod)"],
    ),
    // StrEnum auto.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nfrom enum import StrEnum, auto\nclass E(StrEnum):\n    DEV = auto()\n    PROD = auto()\nclass C(BaseSettings):\n    app_env: E = E.DEV\ns = C()\n",
            ),
        ],
        &["mode APP_ENV (dev, prod)"],
    ),
    // Optional enum.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nfrom enum import Enum\nclass E(str, Enum):\n    DEV = 'dev'\n    PROD = 'prod'\nclass C(BaseSettings):\n    app_env: E | None = None\ns = C()\n",
            ),
        ],
        &["mode APP_ENV (dev, prod)"],
    ),
    // Case sensitive.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\nfrom cfg import s\napp = FastAPI()\n"),
            (
                "cfg.py",
                "from typing import Literal\nfrom pydantic_settings import BaseSettings, SettingsConfigDict\nfrom pydantic import Field, AliasChoices, BaseModel\nclass C(BaseSettings):\n    model_config = SettingsConfigDict(case_sensitive=True)\n    app_env: Literal['dev','prod'] = 'dev'\ns = C()\n",
            ),
        ],
        &["mode app_env (dev, prod)"],
    ),
    // Int debug.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import os\nfrom fastapi import FastAPI\napp = FastAPI()\nDEBUG = int(os.environ.get('DEBUG', default=0))\n",
            ),
        ],
        &["mode DEBUG (1, 0)"],
    ),
    // Bool int debug.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import os\nfrom fastapi import FastAPI\napp = FastAPI()\nDEBUG = bool(int(os.environ.get('DEBUG', '0')))\n",
            ),
        ],
        &["mode DEBUG (1, 0)"],
    ),
    // Bool text debug.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import os\nfrom fastapi import FastAPI\napp = FastAPI()\nDEBUG = bool(os.environ.get('DEBUG', ''))\n",
            ),
        ],
        &["? mode"],
    ),
    // Dictionary.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "app.py",
                "import os\nfrom flask import Flask\nfrom cfg import config\napp = Flask(__name__)\napp.config.from_object(config[os.getenv('FLASK_ENV', 'dev')])\n",
            ),
            ("cfg.py", "class A: ...\nconfig = {'dev': A, 'prod': A}\n"),
        ],
        &["mode FLASK_ENV (dev, prod)"],
    ),
    // Match.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import os\nfrom fastapi import FastAPI\napp = FastAPI()\nmatch os.getenv('APP_ENV'):\n    case 'prd':\n        x = 1\n    case 'local':\n        x = 2\n",
            ),
        ],
        &["mode APP_ENV (local, prd)"],
    ),
    // Assigned then compared.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import os\nfrom fastapi import FastAPI\napp = FastAPI()\ncurrent = os.getenv('APP_ENV')\nif current == 'prod':\n    x = 1\nelif current == 'dev':\n    x = 2\n",
            ),
        ],
        &["mode APP_ENV (dev, prod)"],
    ),
    // Two applications.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("api/__init__.py", ""),
            ("api/main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
            ("admin/__init__.py", ""),
            ("admin/main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["? entry"],
    ),
    // Wrapped.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import socketio\nfrom fastapi import FastAPI\nsio = socketio.AsyncServer()\nweb = FastAPI()\n@web.get('/health')\ndef h(): ...\napp = socketio.ASGIApp(sio, other_asgi_app=web)\n",
            ),
        ],
        &["entry: main:app", "health path /health"],
    ),
    // Subclass.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from fastapi import FastAPI\nclass Api(FastAPI):\n    pass\napp = Api()\n@app.get('/health')\ndef h(): ...\n",
            ),
        ],
        &["entry: main:app", "health path /health"],
    ),
    // Mangum is none.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from fastapi import FastAPI\napp = FastAPI()\nfrom mangum import Mangum\nhandler = Mangum(app)\n",
            ),
        ],
        &["entry: main:app"],
    ),
    // Server among scripts.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("migrate.py", "if __name__ == '__main__':\n    print()\n"),
            (
                "server.py",
                "from http.server import HTTPServer\nif __name__ == '__main__':\n    HTTPServer(('', 9006), H).serve_forever()\n",
            ),
        ],
        &["entry: server", "port 9006"],
    ),
    // Two workers.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("alpha.py", "if __name__ == '__main__':\n    print()\n"),
            ("beta.py", "if __name__ == '__main__':\n    print()\n"),
        ],
        &["? entry"],
    ),
    // Wsgi beside factory.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "web/__init__.py",
                "from flask import Flask\ndef create_app(c=None):\n    app = Flask(__name__)\n    @app.get('/up')\n    def u(): ...\n    return app\n",
            ),
            ("wsgi.py", "from web import create_app\napp = create_app()\n"),
        ],
        &["entry: wsgi:app", "health path /up"],
    ),
    // Falcon.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "import falcon.asgi\napp = falcon.asgi.App()\napp.add_route('/healthz', H())\n",
            ),
        ],
        &["entry: main:app", "health path /healthz"],
    ),
    // Pyproject script.
    shape(
        &[
            (
                "pyproject.toml",
                "[project]\nname='svc'\nversion='1'\ndependencies=['fastapi','uvicorn']\n[project.scripts]\nsvc='svc.cli:main'\n",
            ),
            ("uv.lock", "name = \"fastapi\"\nname = \"uvicorn\"\n"),
            ("src/svc/__init__.py", ""),
            (
                "src/svc/cli.py",
                "import uvicorn\ndef main():\n    uvicorn.run('svc.web:create', factory=True, port=9007)\n",
            ),
            (
                "src/svc/web.py",
                "from fastapi import FastAPI\ndef create():\n    app = FastAPI()\n    @app.get('/health')\n    def h(): ...\n    return app\n",
            ),
        ],
        &["entry: svc.web:create", "health path /health"],
    ),
    // Requirements folder only.
    shape(
        &[
            ("requirements/base.txt", "fastapi==1\nuvicorn==1\n"),
            ("requirements/prod.txt", "-r base.txt\n"),
            ("app/__init__.py", ""),
            ("app/main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["Dockerfile: requirements/prod.txt"],
    ),
    // Psycopg2.
    shape(
        &[
            ("requirements.txt", "fastapi==1\nuvicorn==1\npsycopg2==2.9.9\n"),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["note: psycopg2"],
    ),
    // Dockerfiles far below.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
            ("compose/production/web/Dockerfile", "FROM x\n"),
        ],
        &["note: compose/production/web/Dockerfile"],
    ),
    // Dotnet.
    shape(&[("Shop.csproj", "<Project/>"), ("Program.cs", "")], &["refused: .NET"]),
    // Conda.
    shape(
        &[
            ("environment.yml", "name: x\n"),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["refused: conda"],
    ),
    // Setup.cfg.
    shape(
        &[
            ("setup.cfg", "[metadata]\nname=x\n"),
            ("setup.py", ""),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["refused: setup"],
    ),
    // Pixi.
    shape(
        &[
            (
                "pyproject.toml",
                "[tool.pixi.workspace]\nchannels=['conda-forge']\n[project]\nname='x'\nversion='1'\n",
            ),
            ("pixi.lock", ""),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["note: pixi"],
    ),
    // Private index.
    shape(
        &[
            (
                "requirements.txt",
                "--extra-index-url https://pypi.acme.example/simple\nfastapi==1\nuvicorn==1\n",
            ),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["note: index"],
    ),
    // Git dependency in poetry group.
    shape(
        &[
            (
                "pyproject.toml",
                "[tool.poetry]\nname='x'\n[tool.poetry.dependencies]\npython='^3.12'\nlib={path='../lib', develop=true}\n",
            ),
            ("poetry.lock", ""),
            ("main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["refused: outside"],
    ),
    // Hatch dynamic.
    shape(
        &[
            (
                "pyproject.toml",
                "[build-system]\nrequires=['hatchling']\nbuild-backend='hatchling.build'\n[project]\nname='x'\ndynamic=['version']\ndependencies=['fastapi','uvicorn']\n[tool.hatch.version]\npath='src/x/__about__.py'\n",
            ),
            ("src/x/__init__.py", ""),
            ("src/x/__about__.py", "__version__='1'\n"),
            ("src/x/main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["entry: x.main:app", "note: uv.lock"],
    ),
    // Pdm src.
    shape(
        &[
            (
                "pyproject.toml",
                "[tool.pdm]\ndistribution=true\n[project]\nname='x'\ndependencies=['fastapi']\n",
            ),
            ("pdm.lock", "name = \"fastapi\"\nname = \"uvicorn\""),
            ("src/x/__init__.py", ""),
            ("src/x/main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
        ],
        &["Dockerfile: pdm sync"],
    ),
    // Full-stack template backend.
    shape(
        &[
            (
                "pyproject.toml",
                "[project]\nname='app'\nversion='0'\nrequires-python='>=3.10,<4.0'\ndependencies=['fastapi[standard]']\n[build-system]\nrequires=['hatchling']\n",
            ),
            ("uv.lock", "name = \"fastapi\"\nname = \"uvicorn\""),
            ("alembic.ini", ""),
            ("app/__init__.py", ""),
            ("app/main.py", "from fastapi import FastAPI\napp = FastAPI()\n"),
            ("app/alembic/env.py", ""),
            ("scripts/prestart.sh", ""),
        ],
        &["entry: app.main:app"],
    ),
    // A script of pyproject.toml.
    shape(
        &[
            (
                "pyproject.toml",
                "[project]\nname='svc'\nversion='1'\ndependencies=['x']\n[project.scripts]\nsvc='svc.cli:main'\n",
            ),
            ("uv.lock", ""),
            ("src/svc/__init__.py", ""),
            ("src/svc/cli.py", "def main():\n    print()\n"),
        ],
        &["entry: svc.cli:main"],
    ),
];
