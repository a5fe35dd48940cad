// Text into passages that an embedding model can take, and vectors into a ranking. No DOM here.

/** The longest passage, in characters: below the 512 tokens of a BERT model in every script. */
export const LONGEST = 480;

/** Cut a text at empty lines, and long paragraphs at sentences, then at spaces, then anywhere. */
export function toPassages(text) {
  const paragraphs = text.replaceAll("\r\n", "\n").split(/\n[ \t]*\n/);
  return paragraphs.flatMap((paragraph) => cut(paragraph.trim())).filter(Boolean);
}

function cut(paragraph) {
  const pieces = [];
  let rest = paragraph;
  // Decomposed, because the model's normalizer decomposes: a Hangul syllable is three characters.
  while (rest.normalize("NFD").length > LONGEST) {
    const most = Math.floor((LONGEST * rest.length) / rest.normalize("NFD").length) || 1;
    const head = rest.slice(0, most);
    const ends = [...head.matchAll(/[.!?…。！？]["'”’)]*\s*/g)].map((found) => found.index + found[0].length);
    const at = ends.findLast((end) => end > most / 3) ?? (head.lastIndexOf(" ") + 1 || whole(head));
    pieces.push(rest.slice(0, at).trim());
    rest = rest.slice(at).trimStart();
  }
  return [...pieces, rest];
}

/** The length of `head` without half a surrogate pair at its end. */
function whole(head) {
  return /[\ud800-\udbff]$/.test(head) && head.length > 1 ? head.length - 1 : head.length;
}

/** A vector of length one. */
export function normalized(vector) {
  const length = Math.hypot(...vector) || 1;
  return Float32Array.from(vector, (value) => value / length);
}

/** The `count` nearest of `vectors` to `query` (all of length one): [{ index, score }], best first. */
export function nearest(vectors, query, count) {
  const scored = vectors.map((vector, index) => {
    let score = 0;
    for (let i = 0; i < query.length; i++) score += vector[i] * query[i];
    return { index, score };
  });
  return scored.sort((a, b) => b.score - a.score).slice(0, count);
}
