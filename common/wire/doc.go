// Package wire is the peer wire protocol: what two peers say to each other on
// their WebRTC data channel. This comment is its specification; the vectors in
// testdata/vectors hold every implementation to it. It is modelled on BEP 3 (the
// BitTorrent protocol), BEP 6 (fast extension) and BEP 52 (hash requests), with
// their message numbers.
//
// # Transport
//
// One reliable, ordered data channel (RFC 8831) per pair of peers, labelled
// [ChannelLabel], shared by all contents that the two have in common. One binary data
// channel message is one frame; the message boundary is the frame's length.
// Integers are unsigned, big-endian.
//
// The side that opened the channel sends the first frame; the other says nothing
// before that frame came. It costs no time, since the frame may follow the opening
// at once, and it is needed: a browser may lose a message that comes before it has told
// its page that the channel is open (seen in Firefox 153, one connection in seventy).
//
// # Frames
//
// Every frame begins with its type (1 byte) and a content number (2 bytes).
//
// A content number stands for a full hash. Each side chooses its own numbers, in
// its handshakes, and puts its own number into every frame that it sends; the
// receiver looks it up among the sender's handshakes. So a peer may send its
// handshake, its bitfield and its requests in one flight, without waiting.
//
//	type       no.   payload after type and content number
//	have       4     piece u32
//	bitfield   5     one bit per piece, the first piece is the highest bit of the first
//	                 byte; spare bits at the end are zero
//	request    6     n × (piece u32, begin u32, length u32), n from 1 to MaxRequests
//	piece      7     piece u32, begin u32, data: the rest of the frame, at least one byte
//	                 (none for the empty content)
//	cancel     8     piece u32, begin u32, length u32
//	have all   14    nothing
//	have none  15    nothing
//	reject     16    piece u32, begin u32, length u32
//	hash req.  21    index u32
//	hashes     22    index u32, count u16, count × 32 bytes piece hashes, then the proof: n × 32 bytes
//	hash rej.  23    index u32
//	handshake  64    version u8, full_hash 32 bytes, total_length u64, piece_length u32,
//	                 max_frame u32; more bytes may follow and are ignored, up to MinFrame in all
//	goodbye    65    full_hash 32 bytes, reason u8, message: UTF-8, at most MaxMessage bytes;
//	                 its content number is 0 and means nothing
//
// # Protocol flow
//
//	leecher                                       seeder
//	handshake(1, hash), bitfield or have none ──▶
//	request(1, piece 17) … ─────────────────────▶ (nobody waits to be unchoked)
//	                     ◀────────────────────── handshake(7, hash), have all
//	                     ◀────────────────────── piece(7, piece 17) …
//	have(1, piece 17) ──────────────────────────▶
//	goodbye(hash, finished) ────────────────────▶
//
// handshake opens a content; either side may begin, and the other answers with its
// own, once. Its number is not in use by another content of the same sender. A
// peer that neither has nor wants the content answers goodbye. full_hash, total_length
// and piece_length must be what the receiver knows; if not, it answers goodbye
// with the reason. max_frame is the largest frame, in bytes, that the sender of the
// handshake can send on this channel, from [MinFrame] to [MaxFrame]; everybody takes
// frames of MaxFrame. (Some can send less than they take, as pion can.)
//
// Behind the handshake comes, once, what its sender has: bitfield, have all or
// have none. have adds a piece that was since completed and verified.
//
// request asks for one block or several, each of which is answered by itself: begin
// is a multiple of 16 KiB (a leaf of the hash tree) within the piece, and the block ends
// at such a multiple or at the piece's end, so that each leaf comes from one sender. A block has at most [MaxBlock] bytes, and the
// piece frame that carries it must fit in the max_frame of the peer that is asked: [BlockLength]
// says how long that lets a block be; before it was heard, a leaf. Each is answered by
// piece, with the whole block, or by reject, once, in any order. A peer keeps at most [MaxRequests] requests of the
// other side waiting, over all contents, and rejects what comes above. The empty content
// has one piece of no bytes, which is asked for with length 0.
//
// cancel takes a request back. It is answered too: by the piece, if it was on its
// way, or else by reject.
//
// hash request asks for the piece hashes from index on, in spans: index is a multiple
// of [content.Geometry.ProofSpan]. hashes answers with the span and the uncle hashes
// that lead from it to the full hash ([content.Geometry.Prove]), so each answer is
// checked on its own. hash reject says that the peer does not have them.
//
// goodbye ends the content between the two, in both directions; requests that
// wait are void. The sender's content number may be used again. The channel stays for the
// other contents.
//
// # Errors
//
// A frame of a type that is not in the table is ignored, so that the protocol can grow. A
// malformed frame, a frame over MaxFrame, a content number without a handshake (unless
// a goodbye crossed it), and a request outside the content or longer than a block end the whole connection: such a
// peer cannot be understood. A piece that was not asked for is dropped. A piece with wrong data
// ends the content with goodbye(poisoned), and the sender is not asked for it again.
package wire
