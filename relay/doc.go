// Package relay holds the nouns of the product and its capture engine.
//
// A row change walks through these rooms:
//
//	Source ─▶ Change ─▶ Mapper ─▶ Event ─▶ Stream ─▶ Confirm
//	(slot)                                 (the log)  (the slot moves)
//
// The engine promises three things, and refuses to go on where it cannot keep
// them:
//
//   - every committed change that a mapping matches is appended to the Stream
//     exactly once, in commit order, through any number of restarts;
//   - the slot is confirmed only past what the Stream and the checkpoint hold;
//   - a change of the registry or of a mapping takes effect at its own commit,
//     also when the same log is read again after a crash.
//
// The package knows neither Postgres connections nor NATS: it declares small
// interfaces (Source, Stream, Registry, Checkpoints) that the packages below it
// fulfil. Mapping is pure: no goroutine, clock or I/O.
package relay
