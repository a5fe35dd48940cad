/** Runs before the first paint, as a classic script: applies the kept theme, so that nothing flashes. */

try {
  const theme: unknown = JSON.parse(localStorage.getItem("tilewright.theme") ?? "null");
  if (theme === "light" || theme === "dark") document.documentElement.dataset["theme"] = theme;
} catch {
  // No storage: the device's own choice holds.
}
