/** A thread of the CPU path: calls the module's `work(number)`, which waits for work for ever. */

/** The one message of this worker. */
export interface Begin {
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
  number: number;
}

addEventListener("message", ({ data }: MessageEvent<Begin>) => {
  const instance = new WebAssembly.Instance(data.module, { env: { memory: data.memory } });
  (instance.exports["work"] as (number: number) => void)(data.number);
});
