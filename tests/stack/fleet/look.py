#!/usr/bin/env python3
"""look.py SITE AXE PICTURES: opens each kind of page of the fleet in headless Chromium, by day and by night: a picture of it, and what
axe-core finds. Rows of a Markdown table; ends with 1 if it finds a violation."""
import html
import json
import pathlib
import re
import subprocess
import sys
import tempfile

SITE, AXE, PICTURES = map(pathlib.Path, sys.argv[1:])
RUN = """axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(found => {
  const part = list => list.map(one => one.id + ' ' + one.nodes.slice(0, 3).map(node => node.target.join(' ')).join(', '));
  document.title = 'axe ' + JSON.stringify({violations: part(found.violations), incomplete: part(found.incomplete), passes: found.passes.length});
});"""


def chromium(*more):
    command = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--allow-file-access-from-files", *more]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def look(page, name, theme):
    colours = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    chromium(*colours, "--window-size=1280,1400", f"--screenshot={PICTURES / f'{name}-{theme}.png'}", page.as_uri())
    # The page's own policy forbids every script, axe-core's too.
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page.read_text())
    with tempfile.NamedTemporaryFile("w", suffix=".html", dir=page.parent) as copy:
        copy.write(text.replace("</body>", f"<script>{AXE.read_text()}</script><script>{RUN}</script></body>"))
        copy.flush()
        dom = chromium(*colours, "--window-size=1280,1400", "--virtual-time-budget=30000", "--dump-dom", pathlib.Path(copy.name).as_uri())
    title = re.search(r"<title>axe (.*?)</title>", dom, re.DOTALL)
    return json.loads(html.unescape(title.group(1)))


def main():
    PICTURES.mkdir(parents=True, exist_ok=True)
    services = sorted((SITE / "services").glob("*.html"))
    pages = [SITE / f"{name}.html" for name in ("index", "delivery", "causes", "pipelines")] + services[:1]
    bad = 0
    print("| page | theme | rules kept | violations | not decided |\n|---|---|---|---|---|")
    for page in pages:
        name = "service" if page in services else page.stem
        for theme in ("light", "dark"):
            found = look(page, name, theme)
            bad += len(found["violations"])
            print(f"| {name} | {theme} | {found['passes']} | {'; '.join(found['violations']) or 0} | {'; '.join(found['incomplete']) or 0} |")
    sys.exit(bad > 0)


main()
