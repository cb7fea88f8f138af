package content

import "fmt"

// Code is the class of a failure, stable across versions and languages: the
// vectors name it, and programs may tell failures apart by it.
type Code string

// The classes of failure of this package.
const (
	CodeBadFullHash      Code = "bad_full_hash"       // not 64 lower-case hex digits
	CodeBadPieceHash     Code = "bad_piece_hash"      // a piece hash is not 64 lower-case hex digits
	CodeBadDictionary    Code = "bad_dictionary"      // not a JSON object, or a field of the wrong type
	CodeBadFileName      Code = "bad_file_name"       // no plain file name
	CodeBadContentType   Code = "bad_content_type"    // no media type (RFC 9110, section 8.3.1)
	CodeBadTotalLength   Code = "bad_total_length"    // missing, negative, no integer, or too large
	CodeBadPieceLength   Code = "bad_piece_length"    // no power of two, or out of bounds
	CodeTooManyPieces    Code = "too_many_pieces"     // more than MaxPieces at this piece length
	CodeWrongPieceCount  Code = "wrong_piece_count"   // piece_hashes does not fit total_length and piece_length
	CodeContradiction    Code = "contradiction"       // piece_hashes do not hash up to full_hash
	CodeBadLink          Code = "bad_link"            // not of the form p2pcdn:<full_hash>?…
	CodeLinkWithoutLen   Code = "link_without_length" // a link with no xl: a full hash is unsafe without its length
	CodeBadMediatorURL   Code = "bad_mediator_url"    // m= is no ws:// or wss:// URL
	CodeBadProof         Code = "bad_proof"           // hashes that do not lead to the full hash
	CodeContentTooShort  Code = "content_too_short"   // the reader ended before the announced length
	CodeContentTooLong   Code = "content_too_long"    // the reader went on after the announced length
	CodeDictionaryTooBig Code = "dictionary_too_big"  // more than MaxDictionarySize bytes
)

// Error is a failure with its class.
type Error struct {
	Code    Code
	Message string // for people; may change
}

// Error returns the message, with the code behind it.
func (e *Error) Error() string { return e.Message + " (" + string(e.Code) + ")" }

// Is makes errors.Is(err, &Error{Code: c}) true for every error of class c.
func (e *Error) Is(target error) bool {
	other, ok := target.(*Error)
	return ok && other.Code == e.Code
}

func fail(code Code, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}
