//! Dockerfiles of public shapes, and what is read in them.

use super::{Shape, shape};

pub const SHAPES: &[Shape] = &[
    // Expose range.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 8080-8082\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8080"],
    ),
    // Expose quoted.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE \"8081\"\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8081"],
    ),
    // Bom.
    shape(
        &[
            (
                "Dockerfile",
                "\u{feff}FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 8082\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8082"],
    ),
    // Env with escaped space.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV A=hello\\ world PORT=8083\nEXPOSE $PORT\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8083"],
    ),
    // Default without colon.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE ${PORT-8084}\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8084"],
    ),
    // Alternative.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nARG X=1\nEXPOSE ${X:+8085}\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8085"],
    ),
    // Nested default.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nARG Q=8086\nEXPOSE ${P:-${Q}}\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8086"],
    ),
    // Arg of an arg in from.
    shape(
        &[
            (
                "Dockerfile",
                "ARG V=3.13\nARG IMG=python:$V-slim\nFROM ${IMG}\nCOPY app.py .\nUSER 1\nEXPOSE 8087\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8087"],
    ),
    // Optional globs.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCOPY app.py yarn.lock* .npmrc* ./\nEXPOSE 8088\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8088"],
    ),
    // Uvicorn default port.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCMD [\"uvicorn\",\"app:app\",\"--host\",\"0.0.0.0\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8000"],
    ),
    // Fastapi run.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCMD [\"fastapi\",\"run\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8000"],
    ),
    // Flask run.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCMD [\"flask\",\"run\",\"--host=0.0.0.0\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5000"],
    ),
    // Streamlit.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCMD [\"streamlit\",\"run\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8501"],
    ),
    // Gunicorn conf file.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCMD [\"gunicorn\",\"-c\",\"gunicorn.conf.py\",\"app:app\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("gunicorn.conf.py", "bind = '0.0.0.0:5001'\n"),
        ],
        &["port 5001"],
    ),
    // GUNICORN_CMD_ARGS.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV GUNICORN_CMD_ARGS=\"--bind=0.0.0.0:5002\"\nCMD [\"gunicorn\",\"app:app\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5002"],
    ),
    // UVICORN_PORT.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV UVICORN_PORT=5003\nCMD [\"uvicorn\",\"app:app\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5003"],
    ),
    // FLASK_RUN_PORT.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV FLASK_RUN_PORT=5004\nCMD [\"flask\",\"run\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5004"],
    ),
    // ASPNETCORE.
    shape(
        &[
            (
                "Dockerfile",
                "FROM mcr.microsoft.com/dotnet/aspnet:9.0\nENV ASPNETCORE_HTTP_PORTS=8090\nUSER 1\nENTRYPOINT [\"dotnet\",\"x.dll\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 8090"],
    ),
    // Tini.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENTRYPOINT [\"tini\",\"--\"]\nCMD [\"gunicorn\",\"-b\",\":5005\",\"app:app\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5005"],
    ),
    // Entry script.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCOPY run.sh .\nENTRYPOINT [\"./run.sh\"]\nCMD [\"gunicorn\",\"--bind\",\"0.0.0.0:5006\",\"app:app\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("run.sh", "#!/bin/sh\nexec \"$@\"\n"),
        ],
        &["port 5006"],
    ),
    // Start script execs uvicorn.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCOPY start.sh .\nCMD [\"./start.sh\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("start.sh", "#!/bin/sh\nset -e\nexec uvicorn app:app --host 0.0.0.0 --port 5007\n"),
        ],
        &["port 5007"],
    ),
    // Cmd inherited from a stage.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim AS base\nEXPOSE 5008\nUSER 1\nCMD [\"python\",\"app.py\"]\nFROM base AS final\nCOPY app.py .\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5008"],
    ),
    // Last stage is dev.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim AS production\nCOPY app.py .\nEXPOSE 5009\nUSER 1\nCMD [\"python\",\"app.py\"]\nFROM production AS dev\nUSER 0\nEXPOSE 5678\nCMD [\"python\",\"-m\",\"debugpy\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5009", "service: target: production"],
    ),
    // Healthcheck none.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nHEALTHCHECK NONE\nEXPOSE 5010\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["? health path"],
    ),
    // Healthcheck with PORT.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV PORT=5011\nHEALTHCHECK CMD wget -qO- http://localhost:${PORT}/livez || exit 1\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5011", "health path /livez"],
    ),
    // Healthcheck nc.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5012\nHEALTHCHECK CMD nc -z localhost 5012\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5012", "? health path"],
    ),
    // Healthcheck root.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5013\nHEALTHCHECK CMD curl -f http://localhost:5013 || exit 1\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["health path /"],
    ),
    // Healthcheck python urllib.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nHEALTHCHECK CMD python -c \"import urllib.request; urllib.request.urlopen('http://localhost:5014/hz')\"\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5014", "health path /hz"],
    ),
    // Healthcheck https.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 8443\nHEALTHCHECK CMD curl -fk https://localhost:8443/health\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["note: https"],
    ),
    // Containerfile.
    shape(
        &[
            (
                "Containerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5015\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("requirements.txt", "x==1\n"),
        ],
        &["port 5015", "service: dockerfile: Containerfile"],
    ),
    // Dockerfile.prod.
    shape(
        &[
            (
                "Dockerfile.prod",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5016\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("requirements.txt", "x==1\n"),
        ],
        &["port 5016", "service: dockerfile: Dockerfile.prod"],
    ),
    // Docker folder prod.
    shape(
        &[
            (
                "docker/prod.Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5017\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("requirements.txt", "x==1\n"),
        ],
        &["port 5017", "service: dockerfile: docker/prod.Dockerfile"],
    ),
    // Escape directive.
    shape(
        &[
            (
                "Dockerfile",
                "# escape=`\nFROM python:3.13-slim\nCOPY app.py `\n  .\nUSER 1\nEXPOSE `\n  5018\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5018"],
    ),
    // Add of a URL and git.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nADD https://x.example/y.tgz /y\nADD git@github.com:o/r.git /r\nEXPOSE 5019\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5019"],
    ),
    // Copy flags.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCOPY --link --chown=1:1 --chmod=0644 --exclude=*.md src /s\nCOPY --from=busybox:1 /bin/sh /sh\nEXPOSE 5020\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("src/a", "1"),
        ],
        &["port 5020"],
    ),
    // Copy parents.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nCOPY --parents ./pkgs/*/package.json ./\nEXPOSE 5021\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("pkgs/a/package.json", "{}"),
        ],
        &["port 5021"],
    ),
    // Onbuild.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nONBUILD COPY gone /x\nEXPOSE 5022\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5022"],
    ),
    // Heredoc with copy lines.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nRUN <<EOF\nCOPY gone /x\nEXPOSE 1\nEOF\nEXPOSE 5023\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5023"],
    ),
    // User by arg.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nARG UID=10001\nUSER ${UID}:${UID}\nEXPOSE 5024\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5024"],
    ),
    // User root by arg.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nARG U=root\nUSER $U\nEXPOSE 5025\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5025"],
    ),
    // Json with odd spaces.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5026\nCMD [ \"python\" ,   \"app.py\" ]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5026"],
    ),
    // Json with single quotes.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nEXPOSE 5027\nCMD ['python', 'app.py']\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5027"],
    ),
    // Legacy env.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV PORT 5028\nEXPOSE $PORT\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5028"],
    ),
    // Comment in a continuation.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY app.py .\nUSER 10001\nENV A=1 \\\n # why\n PORT=5029\nEXPOSE $PORT\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5029"],
    ),
    // Java flag.
    shape(
        &[
            (
                "Dockerfile",
                "FROM eclipse-temurin:21-jre\nCOPY app.py /app.jar\nUSER 1\nENTRYPOINT [\"java\",\"-Dserver.port=5030\",\"-jar\",\"/app.jar\"]\n",
            ),
            ("app.py", "x = 1\n"),
        ],
        &["port 5030"],
    ),
    // Rails.
    shape(
        &[
            (
                "Dockerfile",
                "FROM ruby:3.4-slim\nCOPY app.py .\nUSER 1\nCMD [\"bin/rails\",\"server\",\"-b\",\"0.0.0.0\",\"-p\",\"5031\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("Gemfile", ""),
        ],
        &["port 5031"],
    ),
    // Own dockerignore by name.
    shape(
        &[
            (
                "Dockerfile",
                "FROM python:3.13-slim\nWORKDIR /app\nCOPY . .\nUSER 10001\nEXPOSE 5032\nCMD [\"python\",\"app.py\"]\n",
            ),
            ("app.py", "x = 1\n"),
            ("Dockerfile.dockerignore", ".git\n**/.env\n"),
            (".dockerignore", "app.py\n"),
        ],
        &["port 5032"],
    ),
];
