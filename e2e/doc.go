// Package e2e drives the built relay binary from outside, as its users do: through
// its environment, its signals, SQL, NATS and HTTP.
//
// Every test has a database of its own on a real Postgres, a NATS server process
// of its own and an HTTP receiver. Nothing of the relay's code decides what is
// right: signatures are verified with the Standard Webhooks library, bodies and
// headers are parsed here, and what must arrive is written down by the writers
// themselves, in a ledger row inside every transaction. Whatever the processes
// print must be JSON, and must hold no password, secret, payload or target URL.
//
// The binary is built once for each run, with the race detector. RELAY_E2E_BINARY
// names another one to test in its place.
package e2e
