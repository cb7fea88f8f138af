/** Errors in plain words, with what can be done. */

/** A short sentence and the advice that goes with it. */
export interface Explanation {
  readonly title: string;
  readonly advice: string;
}

const wholeLink = "Ask for the link again, and copy it whole: it has the form p2pcdn:…?xl=… or https://…#…?xl=….";
const askAgain = "It was changed or damaged on its way. Ask whoever shared the file for the link.";

/** By the code of a CdnError; what is not here is explained by its own message. */
const explanations: Readonly<Record<string, Explanation>> = {
  bad_link: { title: "This is not a link to a file", advice: wholeLink },
  bad_full_hash: { title: "This is not a link to a file", advice: wholeLink },
  link_without_length: {
    title: "This link lacks the file’s length",
    advice: "Without xl=<number of bytes> nobody could tell the file from a forgery. Ask for the whole link.",
  },
  bad_mediator_url: { title: "The link names a mediator wrongly", advice: wholeLink },
  bad_dictionary: { title: "This is not an info dictionary", advice: "It must be one JSON object, copied from { to }." },
  dictionary_too_big: { title: "This info dictionary is too long", advice: askAgain },
  contradiction: { title: "This info dictionary contradicts itself", advice: `Its piece hashes do not belong to its full hash. ${askAgain}` },
  wrong_piece_count: { title: "This info dictionary contradicts itself", advice: `It has not as many piece hashes as its length needs. ${askAgain}` },
  no_mediator: {
    title: "This page knows no mediator",
    advice: "Open it from a mediator, or add ?mediator=ws://host:port/mediation to its address.",
  },
  content_unreadable: { title: "The file cannot be read any more", advice: "It was changed, moved or deleted. Choose it again." },
  store_failed: { title: "There is no room for this file", advice: "Free some memory or disk space, then fetch it again: close other tabs, for example." },
  unsupported: { title: "This browser cannot take part", advice: "It has no WebRTC or WebSocket, or they are turned off. Try another browser." },
};

/** Explains an error of the client; whatever else was thrown too. */
export function explain(error: unknown): Explanation {
  const message = error instanceof Error ? error.message : String(error);
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const known = explanations[code];
  if (known !== undefined) return known;
  return { title: "This did not work", advice: `${message}${code === "" ? "" : ` (${code})`}` };
}
