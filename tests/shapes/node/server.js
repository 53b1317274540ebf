// Answers with the mode it runs in.
import { serve } from "@hono/node-server";
import { Hono } from "hono";

const app = new Hono();
app.get("/", (c) => c.json({ mode: process.env.APP_MODE }));
app.get("/healthz", (c) => c.json({ status: "ok" }));

const server = serve({ fetch: app.fetch, port: Number(process.env.PORT ?? 8000) });
process.on("SIGTERM", () => server.close(() => process.exit(0)));
