// Package discovery finds mediators: a Kademlia DHT in which every mediator
// stores a record under each full hash that its peers seed (announce), takes it
// back when the last seeder leaves (finish), and asks who else has seeders
// (find). It owns the libp2p host and is the only room that imports kad-dht.
//
// # The DHT
//
// Kademlia as in go-libp2p-kad-dht, under the protocol prefix [ProtocolPrefix],
// provider records only. The key of a record is the SHA-256 multihash whose
// digest is the full hash. Every mediator that is reached is a server.
//
// A record lives for [DefaultTiming].RecordValidity and is renewed three times
// within that, region by region of the keyspace (sweep.go). ADD_PROVIDER has no
// answer in Kademlia, so an announce asks each holder for the record right behind
// it, on the same stream: the answer proves that the record is stored, and that
// nothing of it is still on its way. A renewal asks for the last of many.
//
// # Who is dead, and who is back
//
// A mediator that does not answer a lookup leaves the routing table; so does one
// whose connection has ended and that cannot be dialled, and one that nothing was heard of for some
// refreshes and that does not answer then. Who died without a word stays connected for
// up to 45 seconds: until then a question costs three seconds (impatient.go). Its record ends within the hour; until then it is not handed out while
// libp2p would refuse to dial it.
//
// Whoever left the routing table is remembered, and tried again with growing
// pauses for a day; bootstraps are looked after for ever. So two halves of a
// network that was cut grow together again, though each lives on and nobody
// restarts. In a network of up to a hundred every record is stored anew then; in a larger
// one ten of the twenty nearest nodes of a record are still among the twenty
// nearest, until it is renewed.
//
// # What is announced, and who serves
//
// Mediators ask each other to dial their public addresses back (AutoNAT v2).
//
//   - Until others have tried, all addresses are announced: in records, at /id,
//     and to every mediator that is connected.
//   - A public address that others tried in vain is not announced.
//   - Private addresses always are, for nobody outside can say anything about
//     them: a DHT of one machine or one LAN, which has no others, is never in
//     doubt. Loopback addresses are, until a public one is confirmed: from then
//     on they are of use to nobody, and cost whoever gets them a dial.
//   - Where no public address is confirmed, addresses through relays are.
//
// What is known of all addresses together is one verdict, [Reach]:
//
//	unconfirmed  serves the DHT   relays for others   looks for no relay
//	public       likewise
//	hidden       serves the DHT   does not            looks for a relay
//	relayed      does not         does not            looks for a relay
//
// A mediator is presumed to be reached, because that is how one is run, and in a
// LAN there is nobody to say so. One that is not reached must not serve the DHT:
// each lookup that meets it would wait for a dial, and a relay's limits are not
// made for lookups. It uses the DHT as before; those that hold its records, and
// those that find them, are others. One that has no public address at all, and
// talks to those that have, is behind a NAT that too few mediators have seen yet
// to know the address. Its port may be forwarded all the same, and it may be the
// bootstrap of others, so it goes on serving.
//
// Relays are the mediators of the DHT that have public addresses: two of them,
// and what they relay is bounded (listen.go). Two mediators, one of which is not
// reached, begin through its relay and try to get a direct connection from
// there; UDP alone, for without SO_REUSEPORT there are no holes for TCP. Other
// protocols need not know: the streams of [Discovery.Host] use what there is.
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
