/**
 * The JavaScript half of `tilewright.webgpu.bridge`: what must not be done call by call from Python.
 *
 * Pyodide sees this module as `tilewright_gpu_bridge`. It replays recorded plans in one call, keeps
 * a ring of read-backs in flight, streams bytes into GPU buffers, and moves memory between Python's
 * heap and the queue. It knows nothing about models, kernels or the worker's messages.
 */

import type { ByteSource } from "./store/source.ts";

/** A Python object with the buffer protocol, as Pyodide hands it over. */
interface PyBufferOwner {
  getBuffer(type?: string): { data: Uint8Array | Int32Array; release(): void };
}

/** int32 fields of one record: operation, a, b, x, y, z (the table is in `bridge/replay.py`). */
const RECORD = 6;
const DISPATCH = 0;
const DISPATCH_INDIRECT = 1;
const COPY = 2;
const CLEAR = 3;

/** Bytes written to the queue before waiting for it, so that staging memory stays flat. */
const UPLOAD_WINDOW = 32 * 1024 * 1024;

/** A recorded list of commands over numbered pipelines, bind groups and buffers of one device. */
export class Plan {
  readonly #device: GPUDevice;
  readonly #pipelines: GPUComputePipeline[];
  readonly #bindGroups: GPUBindGroup[];
  readonly #buffers: GPUBuffer[];
  readonly #records: Int32Array;

  constructor(
    device: GPUDevice,
    pipelines: GPUComputePipeline[],
    bindGroups: GPUBindGroup[],
    buffers: GPUBuffer[],
    records: PyBufferOwner | Int32Array,
  ) {
    this.#device = device;
    this.#pipelines = pipelines;
    this.#bindGroups = bindGroups;
    this.#buffers = buffers;
    this.#records = records instanceof Int32Array ? records.slice() : copyInt32(records);
  }

  /** Change the three workgroup counts (or offsets) of one record in place. */
  patch(record: number, x: number, y: number, z: number): void {
    this.#records.set([x, y, z], record * RECORD + 3);
  }

  /**
   * Encode and submit the plan once; with a ring, also read `bytes` of `source` back in the same
   * submission.
   */
  replay(ring?: ReadRing, source?: GPUBuffer, offset = 0, bytes = 0): void {
    const encoder = this.#device.createCommandEncoder();
    this.#encode(encoder);
    if (ring && source) ring.encode(encoder, source, offset, bytes);
    this.#device.queue.submit([encoder.finish()]);
    if (ring && source) ring.arm();
  }

  #encode(encoder: GPUCommandEncoder): void {
    const records = this.#records;
    let pass: GPUComputePassEncoder | undefined;
    let pipeline = -1;
    let group = -1;
    for (let at = 0; at < records.length; at += RECORD) {
      const operation = records[at]!;
      const a = records[at + 1]!;
      const b = records[at + 2]!;
      const x = records[at + 3]!;
      const y = records[at + 4]!;
      const z = records[at + 5]!;
      if (operation === DISPATCH || operation === DISPATCH_INDIRECT) {
        if (!pass) {
          pass = encoder.beginComputePass();
          pipeline = group = -1;
        }
        if (a !== pipeline) pass.setPipeline(this.#pipelines[(pipeline = a)]!);
        if (b !== group) pass.setBindGroup(0, this.#bindGroups[(group = b)]!);
        if (operation === DISPATCH) pass.dispatchWorkgroups(x, y, z);
        else pass.dispatchWorkgroupsIndirect(this.#buffers[x]!, y);
        continue;
      }
      pass?.end();
      pass = undefined;
      if (operation === COPY) {
        encoder.copyBufferToBuffer(this.#buffers[a]!, x, this.#buffers[b]!, y, z);
      } else if (operation === CLEAR) {
        encoder.clearBuffer(this.#buffers[a]!, x, y);
      } else {
        throw new RangeError(`record ${at / RECORD} of a plan has the unknown operation ${operation}`);
      }
    }
    pass?.end();
  }
}

interface Slot {
  readonly buffer: GPUBuffer;
  bytes: number;
  done: Promise<Uint8Array> | undefined;
}

/** Read-backs in flight: copies go into staging buffers in turn, the oldest is awaited first. */
export class ReadRing {
  readonly #device: GPUDevice;
  readonly #free: Slot[] = [];
  readonly #flying: Slot[] = [];
  readonly #capacity: number;

  constructor(device: GPUDevice, capacity: number, depth: number) {
    this.#device = device;
    this.#capacity = (capacity + 3) & ~3;
    for (let index = 0; index < depth; index++) {
      const buffer = device.createBuffer({
        label: "read-back",
        size: this.#capacity,
        usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
      });
      this.#free.push({ buffer, bytes: 0, done: undefined });
    }
  }

  /** How many read-backs were pushed and not yet popped. */
  get pending(): number {
    return this.#flying.length;
  }

  /** Copy a range of `source` to staging and start mapping it. */
  push(source: GPUBuffer, offset: number, bytes: number): void {
    const encoder = this.#device.createCommandEncoder();
    this.encode(encoder, source, offset, bytes);
    this.#device.queue.submit([encoder.finish()]);
    this.arm();
  }

  /** Record the copy of a push into an encoder that the caller submits, then calls `arm`. */
  encode(encoder: GPUCommandEncoder, source: GPUBuffer, offset: number, bytes: number): void {
    if (bytes > this.#capacity) throw new RangeError(`${bytes} bytes do not fit the read-back ring`);
    const slot = this.#free.pop();
    if (!slot) throw new RangeError("the read-back ring is full: await pop() first");
    slot.bytes = bytes;
    slot.done = undefined;
    encoder.copyBufferToBuffer(source, offset, slot.buffer, 0, bytes);
    this.#flying.push(slot);
  }

  /** Start mapping the slot of the last `encode`, after its commands were submitted. */
  arm(): void {
    const slot = this.#flying.at(-1)!;
    slot.done = mapped(this.#device, slot.buffer, slot.bytes).then((data) => {
      slot.buffer.unmap();
      return data;
    });
    // A lost device rejects every slot; the one that is popped first reports it.
    slot.done.catch(() => undefined);
  }

  /** Wait for the oldest read-back and return its bytes. */
  async pop(): Promise<Uint8Array> {
    const slot = this.#flying.shift();
    if (!slot?.done) throw new RangeError("the read-back ring is empty: push() first");
    const data = await slot.done;
    this.#free.push(slot);
    return data;
  }

  /** Free the staging buffers; pending read-backs fail. */
  destroy(): void {
    for (const slot of [...this.#free, ...this.#flying]) slot.buffer.destroy();
    this.#free.length = this.#flying.length = 0;
  }
}

async function mapped(device: GPUDevice, buffer: GPUBuffer, bytes: number): Promise<Uint8Array> {
  await nudged(device, buffer.mapAsync(GPUMapMode.READ, 0, (bytes + 3) & ~3));
  return new Uint8Array(buffer.getMappedRange(0, (bytes + 3) & ~3), 0, bytes).slice();
}

let waiting = 0;
let pollsForCompletion = /Firefox\//.test(globalThis.navigator?.userAgent ?? "");

/** Force or forbid the submissions of `nudged`; for tests and for browsers not yet known. */
export function setNudging(on: boolean): void {
  pollsForCompletion = on;
}

/**
 * Await something that the GPU completes. Firefox looks for completed work every 100 ms only, or
 * when something is submitted: while anything waits, submit an empty command buffer each ms.
 */
export async function nudged<T>(device: GPUDevice, promise: Promise<T>): Promise<T> {
  if (!pollsForCompletion) return promise;
  waiting += 1;
  if (waiting === 1) {
    const { port1, port2 } = new MessageChannel();
    let last = performance.now();
    port1.onmessage = () => {
      if (waiting === 0) return port1.close();
      const now = performance.now();
      if (now - last >= 1) {
        last = now;
        device.queue.submit([device.createCommandEncoder().finish()]);
      }
      port2.postMessage(0);
    };
    port2.postMessage(0);
  }
  try {
    return await promise;
  } finally {
    waiting -= 1;
  }
}

/**
 * Stream `length` bytes of `source` into `buffer`, in pieces that never pass through Python.
 *
 * Offsets into the buffer must be multiples of 4; a tail that is no multiple of 4 is padded with
 * zero bytes. `onBytes` is told how many bytes each piece had. Returns the number of bytes written.
 */
export async function streamInto(
  device: GPUDevice,
  source: ByteSource,
  offset: number,
  length: number,
  buffer: GPUBuffer,
  bufferOffset: number,
  onBytes?: (bytes: number) => void,
  signal?: AbortSignal,
): Promise<number> {
  let written = 0;
  let sinceWait = 0;
  const carry = new Uint8Array(4);
  let carried = 0;
  const put = (data: Uint8Array<ArrayBuffer>, from: number, bytes: number) => {
    device.queue.writeBuffer(buffer, bufferOffset + written, data, from, bytes);
    written += bytes;
  };
  for await (const piece of source.stream(offset, length, signal)) {
    let from = 0;
    while (carried > 0 && carried < 4 && from < piece.length) carry[carried++] = piece[from++]!;
    if (carried === 4) {
      put(carry, 0, 4);
      carried = 0;
    }
    const whole = (piece.length - from) & ~3;
    if (whole > 0) put(piece, from, whole);
    for (from += whole; from < piece.length; ) carry[carried++] = piece[from++]!;
    onBytes?.(piece.length);
    sinceWait += piece.length;
    if (sinceWait >= UPLOAD_WINDOW) {
      sinceWait = 0;
      await workDone(device);
    }
  }
  if (carried > 0) {
    put(carry.fill(0, carried), 0, 4);
    written += carried - 4;
  }
  return written;
}

/** `queue.writeBuffer` from memory of Python's, without an intermediate copy. */
export function writeFromPython(
  queue: GPUQueue,
  buffer: GPUBuffer,
  bufferOffset: number,
  owner: PyBufferOwner,
): void {
  const view = owner.getBuffer("u8");
  try {
    queue.writeBuffer(buffer, bufferOffset, view.data as Uint8Array<ArrayBuffer>);
  } finally {
    view.release();
  }
}

/** Map a range of a buffer. */
export function mapBuffer(
  device: GPUDevice,
  buffer: GPUBuffer,
  mode: number,
  offset: number,
  bytes: number,
): Promise<undefined> {
  return nudged(device, buffer.mapAsync(mode, offset, bytes));
}

/** Wait for all that was submitted so far. */
export function workDone(device: GPUDevice): Promise<undefined> {
  return nudged(device, device.queue.onSubmittedWorkDone());
}

/**
 * Create a pipeline; on failure the error says what the shader compiler found, and where.
 *
 * The shader is compiled once more within an error scope to learn that, text and lines included.
 */
export async function createPipeline(
  device: GPUDevice,
  descriptor: GPUComputePipelineDescriptor,
  code: string | undefined,
): Promise<GPUComputePipeline> {
  try {
    return await device.createComputePipelineAsync(descriptor);
  } catch (error) {
    if (code === undefined || !(error instanceof GPUPipelineError)) throw error;
    device.pushErrorScope("validation");
    device.createShaderModule({ code });
    const found = await device.popErrorScope();
    if (!found) throw error;
    // A plain Error: Pyodide 314 never settles its future for a DOMException made by a script.
    throw Object.assign(new Error(found.message), { reason: error.reason });
  }
}

let expected: { options: string; adapter: Promise<GPUAdapter | null> } | undefined;

/** Ask for the adapter that Python will ask for, while Python itself is still loading. */
export function expectAdapter(options: GPURequestAdapterOptions = USUAL): void {
  const { gpu } = navigator;
  if (!gpu) return;
  expected = { options: JSON.stringify(options), adapter: gpu.requestAdapter(options) };
  expected.adapter.catch(() => undefined); // told to whoever takes it
}

const USUAL: GPURequestAdapterOptions = { featureLevel: "core", powerPreference: "high-performance", forceFallbackAdapter: false };

/** Return an adapter: the expected one, once, where it was asked for with the same options. */
export function requestAdapter(options: GPURequestAdapterOptions): Promise<GPUAdapter | null> {
  const early = expected;
  expected = undefined;
  if (early?.options === JSON.stringify(options)) return early.adapter;
  return navigator.gpu.requestAdapter(options);
}

/** The errors that no scope caught, oldest first, at most 16; they are also logged. */
export function watchErrors(device: GPUDevice): GPUError[] {
  const errors: GPUError[] = [];
  device.addEventListener("uncapturederror", (event) => {
    if (errors.length < 16) errors.push(event.error);
    console.error(`WebGPU: ${event.error.message}`);
  });
  return errors;
}

/** The entries of a set-like object (features), or the names of a limits object. */
export function names(things: ReadonlySet<string> | object): string[] {
  if (Symbol.iterator in things) return [...things];
  const found: string[] = [];
  for (const name in things) {
    if (typeof (things as Record<string, unknown>)[name] === "number") found.push(name);
  }
  return found;
}

function copyInt32(owner: PyBufferOwner): Int32Array {
  const view = owner.getBuffer("i32");
  try {
    return Int32Array.from(view.data);
  } finally {
    view.release();
  }
}
