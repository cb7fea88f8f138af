/** The class of a failure, stable across versions and languages: the vectors name it. */
export type ContentCode =
  | "bad_full_hash" // not 64 lower-case hex digits
  | "bad_piece_hash" // a piece hash is not 64 lower-case hex digits
  | "bad_dictionary" // not a JSON object, or a field of the wrong type
  | "bad_file_name" // no plain file name
  | "bad_content_type" // no media type (RFC 9110, section 8.3.1)
  | "bad_total_length" // missing, negative, no integer, or too large
  | "bad_piece_length" // no power of two, or out of bounds
  | "too_many_pieces" // more than MaxPieces at this piece length
  | "wrong_piece_count" // piece_hashes does not fit total_length and piece_length
  | "contradiction" // piece_hashes do not hash up to full_hash
  | "bad_link" // not of the form p2pcdn:<full_hash>?…
  | "link_without_length" // a link with no xl: a full hash is unsafe without its length
  | "bad_mediator_url" // m= is no ws:// or wss:// URL
  | "bad_proof" // hashes that do not lead to the full hash
  | "content_too_short" // the content ended before the announced length
  | "content_too_long" // the content went on after the announced length
  | "dictionary_too_big"; // more than MaxDictionarySize bytes

/** A failure with its class. */
export class ContentError extends Error {
  override readonly name = "ContentError";
  readonly code: ContentCode;

  constructor(code: ContentCode, message: string) {
    super(message);
    this.code = code;
  }
}
