/** The entry module of the site: `import { Tilewright } from "./tilewright.js"`. */
export { TilewrightError } from "./errors.ts";
