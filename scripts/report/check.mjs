// See check. Exit status 1 with a line per problem, 2 for wrong arguments.
import { mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir, hostname, tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import puppeteer from "puppeteer-core";

const widths = { wide: 1280, narrow: 390 };
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { shots: { type: "string" }, views: { type: "string", default: "light-wide,light-narrow,dark-wide,dark-narrow" } },
});
const views = values.views.split(",").map((v) => v.split("-"));
if (positionals.length === 0 || views.some(([scheme, size]) => !["light", "dark"].includes(scheme) || !widths[size])) {
  console.error("usage: check REPORT.html... [--shots DIR] [--views light-wide,dark-narrow]");
  process.exit(2);
}
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

// inText finds what the file must not say, whether a browser would act on it or not.
function inText(html, say) {
  for (const [, address] of html.matchAll(/(?:src|href|srcset|action|url)\s*[=(]\s*["']?\s*((?:https?:)?\/\/[^"'\s)>]+)/gi)) say(`address of another host: ${address}`);
  if (/@import|<base\b|<iframe\b|<object\b|<embed\b/i.test(html)) say("an element that loads something");
  for (const path of ["/tmp/", "/home/", "/root/", `${tmpdir()}/`, `${homedir()}/`]) if (html.includes(path)) say(`path of a host: ${path}`);
  const name = hostname();
  if (name.length > 3 && name !== "localhost" && html.includes(name)) say(`name of this host: ${name}`);
}

// view opens the report once and looks at it.
async function view(browser, report, scheme, size, say) {
  const page = await browser.newPage();
  page.on("console", (m) => { if (["error", "warn", "warning"].includes(m.type())) say(`console: ${m.text()}`); });
  page.on("pageerror", (e) => say(`script: ${e}`));
  page.on("request", (r) => { if (r.url() !== "file://" + report && !r.url().startsWith("data:")) say(`request ${r.url()}`); });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.setViewport({ width: widths[size], height: 900 });
  await page.goto("file://" + report);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  if (wide > 0) say(`the page scrolls sideways by ${wide} px`);
  if (values.shots) {
    const dir = join(values.shots, basename(dirname(report)));
    mkdirSync(dir, { recursive: true });
    await page.screenshot({ path: join(dir, `${scheme}-${size}.png`), fullPage: true });
  }
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await window.axe.run()).violations.map((v) =>
    `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target + " " + (n.any[0]?.message ?? "")).join("; ")}`));
  found.forEach((f) => say(`axe: ${f}`));
  await page.close();
}

let failed = 0;
const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, protocolTimeout: 600_000,
  args: ["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"] });
for (const file of positionals) {
  const report = resolve(file);
  const problems = new Set();
  inText(readFileSync(report, "utf8"), (p) => problems.add(p));
  for (const [scheme, size] of views) await view(browser, report, scheme, size, (p) => problems.add(`${scheme} ${size}: ${p}`));
  for (const p of problems) console.log(`${file}: ${p}`);
  console.log(`${problems.size ? "FAIL" : "ok  "}  ${file}: ${problems.size} problems in ${views.length} views`);
  failed += problems.size;
}
await browser.close();
process.exit(failed ? 1 : 0);
