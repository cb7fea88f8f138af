// Package timeline names the moments on the way to a content, from the call that asks for it
// to its last byte, and how they are written down: for people who watch, and for
// programs that compare. The peers in Go and in the browser take the same stamps, and write the
// same table; this comment is its specification, and the vectors in testdata/vectors hold both to it.
//
// # Phases
//
// A stamp is taken by a monotonic clock when a phase is first reached. In the usual
// order, for who downloads (a leecher):
//
//	started         the content was asked for
//	mediator_open   the WebSocket to the mediator is open
//	lookup_sent     get_peers was handed to it
//	offer_sent      the first offer was handed to it: with the lookup, or to a peer that was named
//	established     the mediator answered the handshake
//	peers_named     it named the first peer
//	answer_received the first answer came
//	ice_connected   a pair of addresses was found that works
//	dtls_connected  the handshake of the encryption is done
//	channel_open    frames can be sent
//	first_piece     the first piece is there and verified: the first byte that can be used
//	complete        the whole content is there, verified
//
// and for who serves (a seeder):
//
//	started, mediator_open, established
//	announced       the announce is stored in the DHT: any mediator finds it
//	offer_received  the first offer came
//	answer_sent     and was answered
//	ice_connected, dtls_connected, channel_open
//
// A connection that was there already, of an earlier content, leaves out what it need not do again:
// these phases have no stamp.
//
// # Table
//
// The table is CSV (RFC 4180) in UTF-8, with a line of column names and then a row for each content that a
// leecher asked for, and for each that a seeder served where that was looked at. A field that has a comma, a quote or a line end
// in it stands in quotes, in which a quote is doubled; no other field does. Lines end in LF when they are
// written; a reader takes CRLF too, a byte order mark at the beginning, and a last line without its end. A
// row is written, and flushed, as soon as it is known, so that whoever is killed leaves what was measured until then.
//
//	column         holds
//	schema         the version of this table: 1
//	scenario       what was measured, in the words of whoever measures: at most MaxText bytes; may be empty
//	seed           of the random numbers that chose the contents: 0 to 2^53-1
//	index          the introduction within its run, from 1
//	flow           fast, prototype or webtorrent: by which protocol flow
//	endpoint       go, chromium or firefox: what the peer of this row is
//	role           leecher or seeder
//	mediators      distinct mediators in between, from 1
//	content_bytes  length of the content
//	content        1: the first content of these two peers; 2: the next one, over the same connection; and so on
//	peer           the first hex digits of the peer's id, at most 40; empty where there was none yet
//	outcome        complete, failed or skipped (it was not tried: an earlier one failed, or the run was interrupted)
//	error_code     why it is not complete: a class, stable across versions, in lower-case letters, digits and _,
//	               at most MaxCode bytes; empty where it is complete, and never else
//	error          the same for people: at most MaxText bytes
//	started …      one column for each phase, in the order of Phases: milliseconds since started, with three
//	               decimals, from 0.000 to 9999999.999 (started itself is 0.000); empty where it was not reached
//
// Numbers are decimal digits alone, without a sign or leading zeros. A seeder's row is complete when its content is announced.
//
// # Versions
//
// Columns may be added, at any place: a reader goes by their names, and ignores those that it does not know. A column
// that changes its meaning, or is left out, gives another schema; a reader refuses rows of a newer schema than its own with
// [CodeNewerSchema], before anything else that may be wrong with them.
//
// # Limits
//
// A row has at most MaxRow bytes and MaxColumns fields, and a table MaxRows rows.
package timeline
