// Package ops is what an operator sees of a running relay: liveness, readiness,
// metrics and positions, on one small HTTP server.
//
// The server never shows payloads, secrets, URLs or DSNs.
package ops
