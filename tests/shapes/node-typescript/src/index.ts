// Answers with the mode it runs in.
import { createServer } from "node:http";
import { paths } from "./client.js";

const mode: string | undefined = process.env.APP_MODE;

const server = createServer((request, response) => {
  const known = paths.includes(request.url ?? "");
  response.writeHead(known ? 200 : 404, { "content-type": "application/json" });
  response.end(JSON.stringify({ mode }));
});
server.listen(Number(process.env.PORT ?? 8000));
process.on("SIGTERM", () => server.close(() => process.exit(0)));
