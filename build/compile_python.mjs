// Runs build/inside_pyodide.py in Pyodide under Node: node compile_python.mjs JOB.json REPORT.json [STDLIB.zip]
// The job names folders of this machine; they are mounted under /host with their own paths.
import { readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const [jobFile, reportFile, library] = process.argv.slice(2);
const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const { loadPyodide } = await import(new URL("../web/node_modules/pyodide/pyodide.mjs", import.meta.url));

const pyodide = await loadPyodide({
  indexURL: here("../web/node_modules/pyodide/"),
  ...(library ? { stdLibURL: library } : {}),
  env: { PYTHONNODEBUGRANGES: "1" }, // lines without columns
});
const job = await readFile(jobFile, "utf8");
for (const folder of JSON.parse(job).mounts) pyodide.mountNodeFS("/host" + folder, folder);
const main = pyodide.runPython((await readFile(here("inside_pyodide.py"), "utf8")) + "\nmain\n", {
  globals: pyodide.toPy({ __name__: "inside_pyodide" }),
});
await writeFile(reportFile, main(job));
process.exit(0);
