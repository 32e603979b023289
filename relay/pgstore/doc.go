// Package pgstore keeps the relay's state in Postgres: checkpoints, the event
// registry and its versions, the subscriptions, and the ledger of deliveries.
//
// A Store has its own small connection pool, so that nothing else can starve it.
// It fulfils relay.Checkpoints, relay.Registry, and the Subscriptions and Ledger
// of the delivery engine. All methods may be called from several goroutines and
// from several processes on one database; whatever is due, leased or logged is
// judged by the database's clock.
//
// A delivery in trouble lives in webhook_deliveries:
//
//	Retry, Deferred ─▶ waiting ── Claim ──▶ held under a lease ─┬─ Delivered, Dead … ─▶ row deleted
//	                      ▲                        │            │
//	                      ├──── hold is over ──────┘            │
//	                      └──── Free, Retry, Deferred ──────────┘
//
// The ledger keeps out of the way of the people who use the same tables: it waits
// for a locked row for less time than Postgres waits before it looks for
// deadlocks, so it never is the reason that somebody else's transaction fails, and
// then does without the row.
package pgstore
