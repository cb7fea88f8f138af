// Package network builds a network on one machine: hosts that are network namespaces of Linux, each with
// a TUN device, and a router in this process that carries packets between them as scripts/lab/router decides.
//
// All of it is made in a process that is apart from this machine in its networks, mounts and processes ([Isolate]), so
// that several labs cannot meet, and however one ends, nothing is left: with its first process all others
// end, and with them their namespaces.
//
// # Addresses
//
// Hosts have public addresses, 45.67.n.2 for the nth from 1 on: mediators and browsers treat private ones in other ways (TURN
// does not relay to them, mediators do not name them to others). No packet leaves the lab, whoever has these addresses elsewhere. A
// host behind a NAT has 192.168.7.2, and the namespace of its NAT the public address.
package network
