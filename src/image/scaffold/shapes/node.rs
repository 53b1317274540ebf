//! Node projects of public shapes, and what is found in them.

use super::{Shape, shape};

pub const SHAPES: &[Shape] = &[
    // Redis port object.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node server.js\"}, \"dependencies\": {\"express\": \"5\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "server.js",
                "const express = require('express');\nconst app = express();\nprocess.on('SIGTERM', () => {});\nconst r = require('redis').createClient({ socket: { port: 6379 } });\napp.listen(process.env.PORT || 3001);\n",
            ),
        ],
        &["port 3001"],
    ),
    // Config object.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node server.js\"}, \"dependencies\": {\"express\": \"5\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "server.js",
                "const express = require('express');\nconst app = express();\nprocess.on('SIGTERM', () => {});\nconst config = { port: process.env.PORT || 3002, db: { port: 5432 } };\napp.listen(config.port);\n",
            ),
        ],
        &["port 3002"],
    ),
    // Db port before.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node server.js\"}, \"dependencies\": {\"express\": \"5\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "server.js",
                "const express = require('express');\nconst app = express();\nprocess.on('SIGTERM', () => {});\nconst db = { port: 5432 };\nconst { port } = require('./cfg');\napp.listen(port);\n",
            ),
            ("cfg.js", "module.exports = { port: Number(process.env.PORT) || 3003 };\n"),
        ],
        &["port 3003"],
    ),
    // Fastify start.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"fastify start -l info -p 3004 app.js\"}, \"dependencies\": {\"fastify\": \"5\", \"fastify-cli\": \"7\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("app.js", "module.exports = async f => { f.get('/health', async () => 1) }\n"),
        ],
        &["port 3004", "health path /health"],
    ),
    // Tsx as dev dependency.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"type\": \"module\", \"scripts\": {\"start\": \"node --import tsx src/server.ts\"}, \"dependencies\": {\"hono\": \"4\"}, \"devDependencies\": {\"tsx\": \"4\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "src/server.ts",
                "import { serve } from '@hono/node-server'\nserve({ fetch: app.fetch, port: 3005 })\n",
            ),
        ],
        &["note: tsx"],
    ),
    // Tsx as dependency.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"type\": \"module\", \"scripts\": {\"start\": \"node --import tsx src/server.ts\"}, \"dependencies\": {\"hono\": \"4\", \"tsx\": \"4\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("src/server.ts", "serve({ fetch: app.fetch, port: 3006 })\n"),
        ],
        &["port 3006"],
    ),
    // Post only.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node server.js\"}, \"dependencies\": {\"express\": \"5\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "server.js",
                "const express = require('express');\nconst app = express();\nprocess.on('SIGTERM', () => {});\napp.post('/health', h)\napp.get('/up', h)\napp.listen(3007)\n",
            ),
        ],
        &["health path /up"],
    ),
    // Pnpm.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"packageManager\": \"pnpm@10.0.0\", \"scripts\": {\"start\": \"node a.js\"}}",
            ),
            ("pnpm-lock.yaml", ""),
            ("a.js", ""),
        ],
        &["refused: pnpm"],
    ),
    // Yarn berry.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"packageManager\": \"yarn@4.0.0\", \"scripts\": {\"start\": \"node a.js\"}}",
            ),
            ("yarn.lock", ""),
            ("a.js", ""),
        ],
        &["refused: Yarn"],
    ),
    // Bun.
    shape(
        &[
            ("package.json", "{\"name\": \"s\", \"scripts\": {\"start\": \"bun run a.ts\"}}"),
            ("bun.lock", ""),
            ("a.ts", ""),
        ],
        &["refused: Bun"],
    ),
    // Nuxt.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"build\": \"nuxt build\", \"dev\": \"nuxt dev\", \"preview\": \"nuxt preview\"}, \"dependencies\": {\"nuxt\": \"4\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("app.vue", ""),
        ],
        &["entry: .output/server/index.mjs"],
    ),
    // Remix.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"build\": \"remix vite:build\", \"start\": \"remix-serve ./build/server/index.js\"}, \"dependencies\": {\"@remix-run/serve\": \"2\"}}",
            ),
            (
                "package-lock.json",
                "{\"lockfileVersion\":3,\"packages\":{\"node_modules/@remix-run/serve\":{\"bin\":{\"remix-serve\":\"dist/cli.js\"}}}}",
            ),
            ("app/routes/healthcheck.tsx", "export const loader = () => new Response('OK')\n"),
        ],
        &["Dockerfile: remix-serve"],
    ),
    // Turbo root.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"workspaces\": [\"apps/*\"], \"scripts\": {\"start\": \"turbo run start\"}, \"devDependencies\": {\"turbo\": \"2\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("apps/api/package.json", "{\"name\":\"api\"}"),
        ],
        &["refused: workspaces"],
    ),
    // Vite spa.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"dev\": \"vite\", \"build\": \"vite build\", \"preview\": \"vite preview\"}, \"devDependencies\": {\"vite\": \"7\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("index.html", ""),
            ("src/main.js", ""),
        ],
        &["refused: entry"],
    ),
    // Tsup.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"build\": \"tsup src/index.ts\", \"start\": \"node dist/index.js\"}, \"dependencies\": {\"hono\": \"4\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "src/index.ts",
                "import { serve } from '@hono/node-server'\nimport { Hono } from 'hono'\nconst app = new Hono()\napp.get('/health', c => c.text('ok'))\nserve({ fetch: app.fetch, port: Number(process.env.PORT) || 3008 })\n",
            ),
        ],
        &["port 3008", "health path /health"],
    ),
    // Next custom basePath.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"build\": \"next build\", \"start\": \"next start\"}, \"dependencies\": {\"next\": \"16\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("next.config.js", "module.exports = { basePath: '/shop' }\n"),
            ("app/api/health/route.js", "export const GET = () => Response.json({})\n"),
        ],
        &["health path /shop/api/health"],
    ),
    // Private registry.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node server.js\"}, \"dependencies\": {\"express\": \"5\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "server.js",
                "const express = require('express');\nconst app = express();\nprocess.on('SIGTERM', () => {});\napp.listen(3009)\n",
            ),
            (
                ".npmrc",
                "@acme:registry=https://npm.acme.example\n//npm.acme.example/:_authToken=${NPM_TOKEN}\n",
            ),
        ],
        &["note: .npmrc"],
    ),
    // A file of variables.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node --env-file=.env server.js\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            ("server.js", "process.on('SIGTERM', () => {})\napp.listen(3012)\n"),
        ],
        &["entry: node server.js", "note: --env-file"],
    ),
    // Websocket only.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"scripts\": {\"start\": \"node server.js\"}, \"dependencies\": {\"express\": \"5\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "server.js",
                "const express = require('express');\nconst app = express();\nprocess.on('SIGTERM', () => {});\nconst { WebSocketServer } = require('ws');\nnew WebSocketServer({ port: 3010 });\n",
            ),
        ],
        &["port 3010", "? health path"],
    ),
    // Env schema.
    shape(
        &[
            (
                "package.json",
                "{\"name\": \"s\", \"type\": \"module\", \"scripts\": {\"build\": \"tsc\", \"start\": \"node dist/index.js\"}, \"dependencies\": {\"envalid\": \"8\"}}",
            ),
            ("package-lock.json", "{\"lockfileVersion\":3,\"packages\":{}}"),
            (
                "src/index.ts",
                "import { env } from './env'\nimport express from 'express'\nconst app = express()\napp.listen(env.PORT)\n",
            ),
            (
                "src/env.ts",
                "import { cleanEnv, port, str } from 'envalid'\nexport const env = cleanEnv(process.env, { PORT: port({ default: 3011 }), NODE_ENV: str({ choices: ['development', 'production'] }) })\n",
            ),
        ],
        &["port 3011", "mode NODE_ENV (development, production)"],
    ),
];
