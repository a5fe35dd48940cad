// Makes the memory snapshot of a started Python with the engine imported:
// node make_snapshot.mjs PYODIDE_FOLDER STDLIB.zip OUT WHEEL...
// The snapshot holds memory, not files: whoever loads it needs the same library and wheels.
import { readFile, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const [folder, library, out, ...wheels] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(folder + "/pyodide.mjs"));
const { unpackStored } = await import(new URL("../.build/unpack.mjs", import.meta.url));

const contents = await Promise.all(wheels.map((path) => readFile(path)));
const pyodide = await loadPyodide({
  indexURL: folder,
  stdLibURL: library,
  lockFileContents: await readFile(new URL("../web/node_modules/pyodide/pyodide-lock.json", import.meta.url), "utf8"),
  packageBaseUrl: folder,
  _makeSnapshot: true,
});
// Not in fsInit: Pyodide would look through the packages, and keep a JavaScript object of it.
const folderOfPackages = pyodide.runPython("import site; site.getsitepackages()[0]");
for (const wheel of contents) unpackStored(pyodide.FS, folderOfPackages, wheel);
pyodide.runPython(`
import gc, importlib
importlib.invalidate_caches()
from tilewright.serve import snapshot, worker
snapshot.rehearse()
del importlib, snapshot, worker
gc.collect()
gc.freeze()  # what is in the snapshot stays: collections need not look at it
del gc
`);
await writeFile(out, pyodide.makeMemorySnapshot());
process.exit(0);
