// What is generated from the sources when the dependencies are installed, as a database client is.
const { writeFileSync } = require("node:fs");

writeFileSync("src/client.ts", "export const paths: string[] = [\"/\", \"/healthz\"];\n");
