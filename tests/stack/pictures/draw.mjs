// node draw.mjs FOLDER TO MODULES: draws each FOLDER/*.md as github.com shows it, into TO/*.png, by headless Chromium.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, to, modules] = process.argv.slice(2).map((path) => resolve(path));
const { marked } = await import(pathToFileURL(join(modules, "marked/lib/marked.esm.js")));
const css = readFileSync(join(modules, "github-markdown-css/github-markdown-light.css"), "utf8");
const mermaid = pathToFileURL(join(modules, "mermaid/dist/mermaid.min.js"));

// A Mermaid block is drawn, as github.com does; everything else is Markdown.
marked.use({
  renderer: {
    code({ text, lang }) {
      if (lang !== "mermaid") return false;
      return `<pre class="mermaid">${text.replaceAll("&", "&amp;").replaceAll("<", "&lt;")}</pre>`;
    },
  },
});

const page = (body) => `<!doctype html><meta charset="utf-8"><style>${css}
body { margin: 0; } .markdown-body { width: 860px; padding: 20px 24px; font-family: "DejaVu Sans", "Noto Sans", sans-serif; }
.markdown-body pre.mermaid { background: none; }</style>
<article class="markdown-body">${body}</article>
<script src="${mermaid}"></script><script>
mermaid.initialize({ startOnLoad: false });
mermaid.run().finally(() => { document.title = String(document.querySelector("article").offsetHeight); });
</script>`;

const chromium = (...more) =>
  execFileSync("chromium", ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files",
    "--virtual-time-budget=20000", ...more], { stdio: ["ignore", "pipe", "ignore"] }).toString();

for (const name of readdirSync(folder).filter((name) => name.endsWith(".md"))) {
  const html = join(folder, name.replace(/md$/, "html"));
  writeFileSync(html, page(marked.parse(readFileSync(join(folder, name), "utf8"))));
  const url = pathToFileURL(html).href;
  // As high as what is on it.
  const height = /<title>(\d+)<\/title>/.exec(chromium("--window-size=920,1000", "--dump-dom", url))?.[1] ?? "1400";
  const picture = join(to, basename(name).replace(/md$/, "png"));
  chromium(`--window-size=920,${height}`, `--screenshot=${picture}`, url);
  console.log(`${picture}: ${height} pixels high`);
}
