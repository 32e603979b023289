// Package faults is the part of the fault matrix (docs/reference/faults.md) that
// needs a relay which fails at an exact place, or a network that does: it drives the
// binary built with the tag failpoint, between a real Postgres and a NATS server
// process, through TCP proxies where the fault is the network's.
//
// What must arrive is written by the writers themselves, in a ledger row inside
// every transaction; the stream must hold exactly that, once and in commit order,
// every message naming the one before it.
//
// With the build tag faults the whole of it runs (make test-faults), else a short
// part.
package faults
