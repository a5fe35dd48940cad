/**
 * What a second visit need not do again: beside a stored model lies what Python made of it for the
 * CPU path (its plan, its assembled module), and how its bytes are laid out in the memory. With it
 * the weights are laid out while Python still starts.
 *
 * Knows no kernels: which functions are called with which numbers stands in the file. It counts only
 * under the same key (build, browser, options, digest of the model) and whole (SHA-256).
 */

export type Bytes = Uint8Array<ArrayBuffer>;

/** How a memory is filled; `ops` in order, see `layOut`. Written by `wasm/recipe.py`. */
export interface Recipe {
  /** Of the memory, and whether threads share it. */
  pages: number;
  shared: boolean;
  /** Functions of the module that lays out. */
  functions: string[];
  /** Address and bytes of the room for bytes as they are in the file. */
  raw: number;
  rawBytes: number;
  /** Room for the functions. */
  scratch: number;
  /** Bytes per call of a function. */
  atOnce: number;
  /** [address, from, length] copies from `data`; [function, offset, rows, bytes of a row, blocks,
   * address, first row] lays rows of the file out. */
  ops: number[][];
}

/** The parts of a prepared start. */
export interface Prepared {
  recipe: Recipe;
  /** The module whose functions lay out. */
  layout: Bytes;
  /** What is copied as it is. */
  data: Bytes;
  /** The module that computes. */
  program: Bytes;
  /** What only Python understands. */
  python: Bytes;
}

const DIGEST = 32;
const PARTS = ["layout", "data", "program", "python"] as const;

/** Write everything into one file: digest of the rest, length of the header, header, parts. */
export async function pack(key: string, prepared: Prepared): Promise<Bytes> {
  const lengths = PARTS.map((part) => prepared[part].length);
  const header = new TextEncoder().encode(JSON.stringify({ key, recipe: prepared.recipe, lengths }));
  const rest = new Uint8Array(4 + header.length + lengths.reduce((sum, length) => sum + length, 0));
  new DataView(rest.buffer).setUint32(0, header.length, true);
  rest.set(header, 4);
  let at = 4 + header.length;
  for (const part of PARTS) {
    rest.set(prepared[part], at);
    at += prepared[part].length;
  }
  const file = new Uint8Array(DIGEST + rest.length);
  file.set(new Uint8Array(await crypto.subtle.digest("SHA-256", rest)));
  file.set(rest, DIGEST);
  return file;
}

/** Read such a file; undefined for one of another key, and for anything damaged or foreign. */
export async function unpack(key: string, file: Bytes): Promise<Prepared | undefined> {
  if (file.length < DIGEST + 4) return undefined;
  const rest = file.subarray(DIGEST);
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", rest));
  if (digest.some((byte, index) => byte !== file[index])) return undefined;
  try {
    const length = new DataView(rest.buffer, rest.byteOffset).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(rest.subarray(4, 4 + length))) as {
      key: string;
      recipe: Recipe;
      lengths: number[];
    };
    if (header.key !== key) return undefined;
    let at = 4 + length;
    const parts = header.lengths.map((size) => rest.slice(at, (at += size)));
    const [layout, data, program, python] = parts as [Bytes, Bytes, Bytes, Bytes];
    return { recipe: header.recipe, layout, data, program, python };
  } catch {
    return undefined;
  }
}

/**
 * Fill a memory as a recipe says. `read` fetches bytes of the model's file; `pause` is awaited after
 * every piece, so that others are served, and throws to stop.
 */
export async function layOut(
  { recipe, layout, data }: Prepared,
  memory: WebAssembly.Memory,
  read: (at: number, into: Bytes) => void | Promise<void>,
  pause: () => Promise<void>,
): Promise<void> {
  const { functions, raw, rawBytes, scratch, atOnce } = recipe;
  const module = await WebAssembly.compile(layout);
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const view = new Uint8Array(memory.buffer);
  const piece = new Uint8Array(Math.min(rawBytes, PIECE));
  for (const op of recipe.ops) {
    if (op.length === 3) {
      const [address, from, length] = op as [number, number, number];
      view.set(data.subarray(from, from + length), address);
      continue;
    }
    const [name, offset, rows, rowBytes, blocks, address, first] = op as Laid;
    const work = exports[functions[name]!] as (...values: number[]) => void;
    const step = Math.max(1, Math.floor(atOnce / rowBytes));
    const most = Math.max(1, Math.floor(piece.length / rowBytes));
    for (let row = 0; row < rows; row += most) {
      const count = Math.min(most, rows - row);
      const bytes = count * rowBytes <= piece.length ? piece.subarray(0, count * rowBytes) : new Uint8Array(rowBytes);
      await read(offset + row * rowBytes, bytes);
      view.set(bytes, raw);
      // Better code, made meanwhile, begins with a call.
      for (let done = 0; done < count; done += step) {
        const some = Math.min(step, count - done);
        work(raw + done * rowBytes, some, blocks, address, first + row + done, scratch);
      }
      await pause();
    }
  }
}

type Laid = [number, number, number, number, number, number, number];
/** Bytes that are read at a time. */
const PIECE = 1 << 20;
