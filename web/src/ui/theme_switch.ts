/** Light, dark, or as the device says. `pages/theme.ts` applies the kept choice before first paint. */

import { recall, remember } from "./memory.ts";

export type Theme = "auto" | "light" | "dark";

export function currentTheme(): Theme {
  const stored = recall<unknown>("theme");
  return stored === "light" || stored === "dark" ? stored : "auto";
}

/** Apply and remember a theme. */
export function setTheme(theme: Theme): void {
  remember("theme", theme === "auto" ? null : theme);
  if (theme === "auto") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

/** Make a button switch between light and dark. */
export function bindThemeButton(button: HTMLButtonElement): void {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (currentTheme() === "auto" ? dark.matches : currentTheme() === "dark");
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    const wanted = isDark() ? "light" : "dark";
    // Back to what the device says where that is the same: later changes of it are then followed.
    setTheme((wanted === "dark") === dark.matches ? "auto" : wanted);
    show();
  });
  dark.addEventListener("change", show);
  show();
}
