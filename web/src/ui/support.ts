/**
 * Whether this browser can run the engine, and if not, what its owner can do.
 */

/** What is missing. */
export type Lack = "secure_context" | "webassembly" | "webgpu" | "adapter";

/** A module with one SIMD instruction: valid only where SIMD is. */
const SIMD_MODULE = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
]);

/** The backend that the page's address asks for (`?backend=`); undefined: whichever is faster. */
export function askedBackend(): "webgpu" | "wasm" | undefined {
  const asked = new URLSearchParams(location.search).get("backend");
  return asked === "webgpu" || asked === "wasm" ? asked : undefined;
}

/**
 * Return what this browser lacks, or null. Opens no device.
 *
 * WebGPU is lacking only where nothing else will do; otherwise the processor computes.
 */
export async function lacking(needsGpu = askedBackend() === "webgpu"): Promise<Lack | null> {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD_MODULE)) return "webassembly";
  if (!isSecureContext) return "secure_context";
  if (!needsGpu) return null;
  if (!("gpu" in navigator) || !navigator.gpu) return "webgpu";
  try {
    const adapter = await navigator.gpu.requestAdapter();
    return adapter ? null : "adapter";
  } catch {
    return "adapter";
  }
}

export interface Explanation {
  code: string;
  title: string;
  text: string;
  steps: { name: string; text: string }[];
}

const BROWSERS = [
  { name: "Chrome, Edge, Brave, Opera", text: "Version 113 or later on Windows, macOS and ChromeOS; version 121 on Android 12 or later." },
  { name: "Safari", text: "Version 26 or later (macOS Tahoe, iOS 26, iPadOS 26, visionOS 26)." },
  { name: "Firefox", text: "Version 141 or later on Windows, 145 on Macs with Apple silicon; elsewhere switch on dom.webgpu.enabled in about:config." },
];

const EXPLANATIONS: Record<Lack, Explanation> = {
  webgpu: {
    code: "no_webgpu",
    title: "This browser has no WebGPU",
    text: "Tilewright computes on your own graphics device, and WebGPU is how a web page reaches it. Use one of these browsers:",
    steps: [
      ...BROWSERS,
      { name: "Chrome on Linux", text: "Version 144 or later on recent Intel, AMD and NVIDIA devices; otherwise start it with --enable-unsafe-webgpu --enable-features=Vulkan." },
    ],
  },
  adapter: {
    code: "no_adapter",
    title: "WebGPU finds no graphics device",
    text: "The browser knows WebGPU, but offers no device that this page may use.",
    steps: [
      { name: "Hardware acceleration", text: "Switch it on: in Chrome and Edge under Settings, System; in Firefox under Settings, General, Performance." },
      { name: "Graphics driver", text: "Update it, then restart the browser. chrome://gpu tells what the browser thinks of it." },
      { name: "Remote desktops and virtual machines", text: "They often have no device. Open this page on the machine itself." },
    ],
  },
  secure_context: {
    code: "insecure_page",
    title: "This address is not secure enough for WebGPU",
    text: "Browsers offer WebGPU only to pages from https:// addresses and from this machine.",
    steps: [
      { name: "On this machine", text: "Open the page as http://localhost or http://127.0.0.1." },
      { name: "From another machine", text: "Serve the folder over https, or forward the port (ssh -L 8000:localhost:8000)." },
    ],
  },
  webassembly: {
    code: "no_webassembly",
    title: "This browser's WebAssembly is too old",
    text: "The engine needs WebAssembly with SIMD, which browsers have had since 2023. Some security settings switch it off.",
    steps: [
      ...BROWSERS,
      { name: "Lockdown mode, hardened browsers", text: "Allow WebAssembly for this site, or open it in another profile." },
    ],
  },
};

export function explain(lack: Lack): Explanation {
  return EXPLANATIONS[lack];
}
