"""WebAssembly kernels: functions that are added to a module, each with its sizes as parameters."""
