// See check. Exit status 1 with a line per problem.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import puppeteer from "puppeteer-core";

const [report, shots] = process.argv.slice(2);
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const problems = [];
const browser = await puppeteer.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
for (const scheme of ["light", "dark"]) {
  for (const [name, width] of [["wide", 1280], ["narrow", 390]]) {
    const page = await browser.newPage();
    const at = `${scheme} ${name}`;
    page.on("console", (m) => { if (m.type() === "error" || m.type() === "warning") problems.push(`${at}: console: ${m.text()}`); });
    page.on("pageerror", (e) => problems.push(`${at}: ${e}`));
    page.on("request", (r) => { if (!r.url().startsWith("file://" + report) && !r.url().startsWith("data:")) problems.push(`${at}: request ${r.url()}`); });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
    await page.setViewport({ width, height: 900 });
    await page.goto("file://" + report);
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    if (wide > 0) problems.push(`${at}: the page scrolls sideways by ${wide} px`);
    await page.screenshot({ path: `${shots}/${scheme}-${name}.png`, fullPage: true });
    await page.evaluate(axe);
    const found = await page.evaluate(async () => (await window.axe.run()).violations.map((v) => `${v.id} (${v.impact}): ${v.help}: ${v.nodes.slice(0, 3).map((n) => n.target + " " + (n.any[0]?.message ?? "")).join("; ")}`));
    problems.push(...found.map((f) => `${at}: axe: ${f}`));
    await page.close();
  }
}
await browser.close();
for (const p of problems) console.error(p);
console.log(`${report}: ${problems.length} problems`);
process.exit(problems.length ? 1 : 0);
