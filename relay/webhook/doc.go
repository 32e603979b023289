// Package webhook is the delivery engine: it reads events from the stream, finds
// the subscriptions that want them, and signs and posts each delivery through its
// endpoint's lane.
//
//	Feed ─▶ directory ─▶ lanes ─▶ sender ─▶ endpoint
//	 ▲                     ▲         │
//	 └───── ack ── Ledger ─┤ ◀───────┘ outcome
//	                       └── due retries claimed from the Ledger
//
// First attempts run straight from the stream. An event is acked only when the
// outcome of every one of its deliveries is in a committed ledger batch, so a
// crash loses nothing; what had been settled is not sent again. An endpoint that
// hangs or fails fills its own lane and nobody else's: what does not fit, or
// waits too long, is put aside in the Ledger, due later.
//
// What an engine may hold in memory is bounded: events taken from the feed,
// their bytes, deliveries queued, requests under way, and outcomes that the
// ledger has not committed. At a bound it stops taking, never drops.
//
// A delivery goes one of these ways:
//
//	queued ─▶ attempted ─▶ Delivered | Dead | Gone       settled for good
//	   │          └──────▶ Retry ──┐                      due later, claimed
//	   ├─ lane full or slow ─▶ Deferred ──┴─▶ queued …    by any process
//	   ├─ subscription deleted: dropped
//	   └─ process stops: handed back to the Feed or the Ledger
//
// The directory, the retry policy and the signer hold no goroutine, clock or I/O.
package webhook
