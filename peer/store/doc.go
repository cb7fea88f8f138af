// Package store keeps content on disk: what is seeded, and what is being fetched.
//
// # Sources
//
// A [Source] is a file that is seeded, opened for reading only. It hands out no bytes
// that it did not check: a piece is checked against its hash when it is first read, and
// again after the file's length or time of change became another. A file that was only
// touched goes on being served; one whose content changed fails with [CodeChanged],
// from then on and for every block. (Whoever changes a file and sets its time back
// after the piece was checked deceives us, but not the receiver, who checks too.)
//
// # Targets
//
// A [Target] is a file that is being fetched. Its pieces, which the caller has
// verified, are written at their place in a temporary file beside the final one (hidden,
// random name, ending in .part; sparse, at full length from the beginning). Commit makes
// sure that the data is on the disk and gives the file its final name, without ever replacing
// another file unless that was asked for. Under the final name there is the whole content or nothing.
//
// A target that is closed without Commit (a failure, an interruption) removes its
// temporary file. Only a process that is killed leaves one behind. To take up such a
// file again, a later version can verify its pieces and begin with those: the swarm
// is told which pieces are there, and nothing here needs another form.
//
// # Failures
//
// Every failure is an [*Error] with a code. None of them leaves anything half done
// under the final name.
package store
