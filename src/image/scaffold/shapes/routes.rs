//! Python services of public shapes, and where they answer how they are.

use super::{Shape, shape};

pub const SHAPES: &[Shape] = &[
    // Blueprint prefix is replaced.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "app.py",
                "from flask import Flask\nfrom h import bp\napp = Flask(__name__)\napp.register_blueprint(bp, url_prefix='/api')\n",
            ),
            (
                "h.py",
                "from flask import Blueprint\nbp = Blueprint('h', __name__, url_prefix='/status')\n@bp.route('/health')\ndef h(): ...\n",
            ),
        ],
        &["health path /api/health"],
    ),
    // Blueprint own prefix.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "app.py",
                "from flask import Flask\nfrom h import bp\napp = Flask(__name__)\napp.register_blueprint(bp)\n",
            ),
            (
                "h.py",
                "from flask import Blueprint\nbp = Blueprint('h', __name__, url_prefix='/status')\n@bp.route('/health')\ndef h(): ...\n",
            ),
        ],
        &["health path /status/health"],
    ),
    // Starlette mounts a list.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from starlette.applications import Starlette\nfrom starlette.routing import Route, Mount\nv1 = [Route('/healthz', h)]\nroutes = [Mount('/v1', routes=v1)]\napp = Starlette(routes=routes)\n",
            ),
        ],
        &["health path /v1/healthz"],
    ),
    // Django nested include.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("manage.py", ""),
            ("site1/__init__.py", ""),
            ("site1/settings.py", "ROOT_URLCONF = 'site1.urls'\n"),
            (
                "site1/urls.py",
                "from django.urls import path, include\nurlpatterns = [path('api/', include([path('health/', v)]))]\n",
            ),
            (
                "site1/wsgi.py",
                "import os\nfrom django.core.wsgi import get_wsgi_application\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\napplication = get_wsgi_application()\n",
            ),
        ],
        &["health path /api/health/"],
    ),
    // Django include tuple.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("manage.py", ""),
            ("site1/__init__.py", ""),
            ("site1/settings.py", "ROOT_URLCONF = 'site1.urls'\n"),
            (
                "site1/urls.py",
                "from django.urls import path, include\nurlpatterns = [path('api/', include(('web.urls', 'web')))]\n",
            ),
            ("web/__init__.py", ""),
            ("web/urls.py", "from django.urls import path\nurlpatterns = [path('healthz', v)]\n"),
            (
                "site1/wsgi.py",
                "import os\nfrom django.core.wsgi import get_wsgi_application\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site1.settings')\napplication = get_wsgi_application()\n",
            ),
        ],
        &["health path /api/healthz"],
    ),
    // POST only is none.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "app.py",
                "from flask import Flask\napp = Flask(__name__)\n@app.route('/health', methods=['POST'])\ndef h(): ...\n@app.route('/up')\ndef u(): ...\n",
            ),
        ],
        &["health path /up"],
    ),
    // Litestar handlers.
    shape(
        &[
            ("requirements.txt", "litestar==2\nuvicorn==1\n"),
            (
                "main.py",
                "from litestar import Litestar, get, Router, Controller\nclass Health(Controller):\n    path = '/health'\n    @get('/live')\n    async def live(self) -> str: ...\napi = Router(path='/api', route_handlers=[Health])\napp = Litestar(route_handlers=[api])\n",
            ),
        ],
        &["health path /api/health/live"],
    ),
    // Aiohttp table.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from aiohttp import web\nroutes = web.RouteTableDef()\n@routes.get('/healthz')\nasync def h(r): ...\napp = web.Application()\napp.add_routes(routes)\nif __name__ == '__main__':\n    web.run_app(app)\n",
            ),
        ],
        &["health path /healthz"],
    ),
    // Flask-restful.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "app.py",
                "from flask import Flask\nfrom flask_restful import Api\napp = Flask(__name__)\napi = Api(app, prefix='/api')\napi.add_resource(H, '/health')\n",
            ),
        ],
        &["health path /api/health"],
    ),
    // Flask-restx namespace.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "app.py",
                "from flask import Flask\nfrom flask_restx import Api\nfrom ns import ns\napp = Flask(__name__)\napi = Api(app)\napi.add_namespace(ns, path='/v1/health')\n",
            ),
            (
                "ns.py",
                "from flask_restx import Namespace\nns = Namespace('health')\n@ns.route('/live')\nclass H: ...\n",
            ),
        ],
        &["health path /v1/health/live"],
    ),
    // Fastapi chain through packages.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            ("app/__init__.py", ""),
            (
                "app/main.py",
                "from fastapi import FastAPI\nfrom app.api.main import api_router\nfrom app.core.config import settings\napp = FastAPI(root_path='/x')\napp.include_router(api_router, prefix=settings.API_V1_STR)\n",
            ),
            ("app/core/__init__.py", ""),
            (
                "app/core/config.py",
                "from pydantic_settings import BaseSettings\nclass Settings(BaseSettings):\n    API_V1_STR: str = '/api/v1'\nsettings = Settings()\n",
            ),
            ("app/api/__init__.py", ""),
            (
                "app/api/main.py",
                "from fastapi import APIRouter\nfrom app.api.routes import utils\napi_router = APIRouter()\napi_router.include_router(utils.router)\n",
            ),
            ("app/api/routes/__init__.py", ""),
            (
                "app/api/routes/utils.py",
                "from fastapi import APIRouter\nrouter = APIRouter(prefix='/utils')\n@router.get('/health-check/')\nasync def hc(): ...\n",
            ),
        ],
        &["health path /api/v1/utils/health-check/"],
    ),
    // Loop of routers is doubt.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from fastapi import FastAPI\nimport a\napp = FastAPI()\nfor r in [a.router]:\n    app.include_router(r, prefix='/v9')\n",
            ),
            (
                "a.py",
                "from fastapi import APIRouter\nrouter = APIRouter()\n@router.get('/health')\ndef h(): ...\n",
            ),
        ],
        &["? health path"],
    ),
    // Sanic blueprint.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "server.py",
                "from sanic import Sanic, Blueprint\nbp = Blueprint('h', url_prefix='/int')\n@bp.get('/health')\nasync def h(r): ...\napp = Sanic('x')\napp.blueprint(bp)\n",
            ),
        ],
        &["health path /int/health", "entry: server:app"],
    ),
    // Dead module not read.
    shape(
        &[
            ("requirements.txt", "fastapi==0.1\nuvicorn==0.1\nflask==3\ngunicorn==2\n"),
            (
                "main.py",
                "from fastapi import FastAPI\napp = FastAPI()\n@app.get('/up')\ndef u(): ...\n",
            ),
            ("old/__init__.py", ""),
            (
                "old/api.py",
                "from fastapi import FastAPI\napp2 = FastAPI()\n@app2.get('/healthz')\ndef h(): ...\n",
            ),
        ],
        &["health path /up"],
    ),
];
