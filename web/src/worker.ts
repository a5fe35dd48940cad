/** Placeholder until the protocol exists. */
export {};
