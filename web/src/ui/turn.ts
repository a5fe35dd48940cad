/** Let the page do what has come up meanwhile: what follows is a task of its own. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve));
}
