// Package discovery finds mediators: a Kademlia DHT in which every mediator
// stores a record under each full hash that its peers seed (announce), takes it
// back when the last seeder leaves (finish), and asks who else has seeders
// (find). It owns the libp2p host and is the only room that imports kad-dht.
//
// # The DHT
//
// Kademlia as in go-libp2p-kad-dht, under the protocol prefix [ProtocolPrefix],
// provider records only. The key of a record is the SHA-256 multihash whose
// digest is the full hash. Every mediator is a server; loopback and private
// addresses are kept, so that a DHT of one machine or one LAN works too.
//
// A record lives for [DefaultTiming].RecordValidity and is renewed three times
// within that. ADD_PROVIDER has no answer in Kademlia, so an announce asks each
// holder for the record right behind it, on the same stream: the answer proves
// that the record is stored, and that nothing of it is still on its way.
//
// # Withdrawal
//
// Kademlia has no withdrawal either. A provider tells each node that holds its
// record to drop it, on a libp2p stream of protocol [WithdrawProtocol]:
//
//	provider                                holder
//	count   uint16, big-endian, 1 to 512
//	hashes  count × 32 bytes, full hashes ──▶  (drops the provider's records)
//	                                      ◀──  1 byte, 0x01: done
//
// and again, for as long as there are more; then the provider closes its side.
// 0x01 says that the holder has no record of this provider under these hashes,
// whether or not it had one. The provider is the authenticated remote end of
// the stream: the message names nobody, so nobody can withdraw for another.
// A count that is 0 or over 512, a message cut short, or a pause of more than
// ten seconds makes the holder reset the stream; what came before stands.
package discovery
